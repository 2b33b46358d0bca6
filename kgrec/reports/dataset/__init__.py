"""Descriptions of a data set, on the terminal and as a page."""
