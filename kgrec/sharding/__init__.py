"""Embedding tables that no device holds: each process has some of their rows."""
