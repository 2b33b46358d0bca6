"""Tables and pages for people, made only from local files."""
