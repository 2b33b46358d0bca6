"""What a request passes before its path: limits, the token, metrics and the log."""
