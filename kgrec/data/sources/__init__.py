"""Sources of raw files: public addresses, finding files, fetching files."""
