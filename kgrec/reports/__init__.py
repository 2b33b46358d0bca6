"""Tables and pages for people, from local files alone."""
