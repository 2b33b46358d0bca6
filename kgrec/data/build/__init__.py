"""From a user's own tables to a folder in the project's CSV format: ``kgrec data build``."""
