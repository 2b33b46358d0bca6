"""All code that uses Weights & Biases."""
