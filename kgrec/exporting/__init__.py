"""Trained models as programs and tables that need no kgrec: ``kgrec export``."""
