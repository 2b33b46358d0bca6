"""Errors that the user can fix. Their message is complete, so no stack trace is printed."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any


LONGEST = 2000  # characters of a line of a message
_KEPT_AT_END = 500  # of them, so that a long line still says what was expected
# Control characters, marks that turn the direction of a text, and halves of characters: a terminal
# would obey the first, and cannot print the last.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Text of data or settings as a line of a message: escaped, and shortened in the middle."""
    text = _UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - _KEPT_AT_END]} … {text[-_KEPT_AT_END:]}"
    return text


class KgrecError(Exception):
    """A mistake in data, configuration or a checkpoint.

    The message names the place (file, line or key), what was found and what was expected. Each
    argument is one line of it, and nothing that comes from data adds lines.
    """

    def __str__(self) -> str:
        return "\n".join(printable(str(line)) for line in self.args)


class DataError(KgrecError):
    """Files that are missing, malformed, empty or do not fit together."""


class ConfigError(KgrecError):
    """A configuration key or value that cannot work."""


class SettingError(ConfigError):
    """An argument of a model that cannot work.

    The message begins with the bare name of the argument. Models do not know the configuration:
    :func:`kgrec.config.messages.user_error` turns the name into a key, such as ``model.d``.
    """


class CheckpointError(KgrecError):
    """A checkpoint that does not belong to this data set or model."""


def listed(names: Iterable[Any]) -> str:
    """Names in alphabetical order for a message; private ones are left out."""
    return ", ".join(sorted(str(name) for name in names if not str(name).startswith("_")))


def one_of(names: Iterable[Any], name: Any) -> str:
    """``one of a, b, c``, and the choice that the user may have meant by ``name``."""
    choices = [str(choice) for choice in names]
    close = difflib.get_close_matches(str(name), choices, n=1)
    return f"one of {listed(choices)}" + (f" (did you mean {close[0]}?)" if close else "")


def unknown_key(group: str, key: Any, names: Sequence[Any], further: str = "") -> ConfigError:
    """The error for a key that nothing reads.

    Args:
        group: configuration group of the key; "" for a key of the top level.
        key: the unknown key.
        names: keys that the group has.
        further: what else is expected, if anything.
    """
    path = f"{group}.{key}" if group else str(key)
    known = one_of(names, key) if names else ""
    expected = ", or ".join(filter(None, (known, further)))
    return ConfigError(f"{path}: found an unknown key, expected {expected}")
