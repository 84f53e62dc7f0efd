"""The harness: which sampler, how many steps, which guidance scale, at what cost? Imports nothing."""
