"""The page of a sweep, kept up to date while jobs run."""
