"""Fuzzing of every reader of kgrec; ``benchmarks/fuzz.py`` is its command."""
