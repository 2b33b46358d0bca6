"""Recommenders: one file a model, its equations and paper on top; none knows a config."""
