"""Serves finished runs over HTTP: ``kgrec serve``."""
