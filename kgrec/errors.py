"""Errors that are the user's to mend: the message is complete, no stack trace is needed."""


class KgrecError(Exception):
    """A mistake in data, configuration or a checkpoint.

    The message names the place (file, line or key), what was found and what was expected.
    """


class DataError(KgrecError):
    """Files that are missing, malformed, empty or do not fit together."""


class ConfigError(KgrecError):
    """A configuration key or value that cannot work."""


class CheckpointError(KgrecError):
    """A checkpoint that does not belong to this data set or model."""
