"""Training and testing of any recommender, on PyTorch Lightning."""
