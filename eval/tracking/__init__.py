"""Trackers that hear of a sweep while it runs: MLflow, Weights & Biases, TensorBoard; none by default."""
