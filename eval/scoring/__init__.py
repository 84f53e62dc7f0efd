"""From pictures to numbers: encoders, pure metrics over features, intervals, prompts and references."""
