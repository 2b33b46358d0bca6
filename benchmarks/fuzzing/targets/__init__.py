"""The readers of kgrec as targets of fuzzing."""
