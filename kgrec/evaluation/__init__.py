"""Metrics as pure functions; knows no model, no config and no trainer."""
