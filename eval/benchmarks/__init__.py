"""A whole sweep against what people write by hand: `python -m eval.benchmarks`. Each file but the records is a part."""
