"""Recommenders: one file per model, with its equations and paper; none knows the configuration."""
