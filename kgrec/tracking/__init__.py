"""Everything that knows Weights & Biases."""
