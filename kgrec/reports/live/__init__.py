"""The page on a sweep that is kept up to date while its jobs run."""
