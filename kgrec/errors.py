"""Errors that the user can fix. Their message is complete, so no stack trace is printed."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

LONGEST = 10_000  # characters of a message
LONGEST_NAME = 80  # characters of a name in a message
MOST_NAMES = 50  # names that a message lists; of more it shows the first ten
_FEW = 10
_COMPARED = 1_000  # choices among which a similar one is looked for


class KgrecError(Exception):
    """A mistake in data, configuration or a checkpoint.

    The message names the place (file, line or key), what was found and what was expected. Each
    argument is one line of it. It may quote files of strangers, so what it quotes adds no line, it
    is printable, and its length is bounded.
    """

    def __str__(self) -> str:
        """The message, fit for a terminal."""
        lines = (printable(str(line), line_ends=False) for line in self.args)
        return shortened("\n".join(lines), LONGEST)


class DataError(KgrecError):
    """Files that are missing, malformed, empty or do not fit together."""


class ConfigError(KgrecError):
    """A configuration key or value that cannot work."""


class SettingError(ConfigError):
    """An argument of a model that cannot work.

    The message begins with the bare name of the argument. Models do not know the configuration:
    :func:`kgrec.config.messages.user_error` turns the name into a key, such as ``model.d``.
    """


class DivergedError(KgrecError):
    """Numbers of a trained model that are no longer finite: a loss, a parameter or a score."""


class CheckpointError(KgrecError):
    """A checkpoint that does not belong to this data set or model."""


def printable(text: str, line_ends: bool = True) -> str:
    """Text whose control characters are escaped, so that a terminal shows it as it is.

    Escape sequences could recolour or hide what is printed, marks of writing direction could turn
    it round, and lone surrogates cannot be printed at all.

    Args:
        text: any text.
        line_ends: whether line ends stay.
    """
    if text.isprintable():
        return text
    return "".join(
        _escaped(character)
        if _harmful(character) and not (line_ends and character == "\n")
        else character
        for character in text
    )


def _harmful(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or (
        category == "Cf" and unicodedata.bidirectional(character) not in ("BN", "ON", "AN")
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def shortened(text: str, longest: int = LONGEST_NAME) -> str:
    """Text of at most ``longest`` characters; the end of a longer one is left out."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def quoted(value: Any) -> str:
    """A value of a file for a message, quoted as Python does, at most 80 characters of it."""
    return shortened(repr(value))


def several(names: Iterable[Any]) -> str:
    """Names in their order for a message: all, or of very many the first ten and their number."""
    words = [printable(shortened(str(name)), line_ends=False) for name in names]
    if len(words) <= MOST_NAMES:
        return ", ".join(words)
    return f"{', '.join(words[:_FEW])} and {len(words) - _FEW:,} more"


class DiskError(KgrecError, OSError):
    """A file or folder that cannot be written: a full disk, a read-only one, a file in the way."""


def listed(names: Iterable[Any]) -> str:
    """Names in alphabetical order for a message, see :func:`several`; private ones are left out."""
    return several(sorted(str(name) for name in names if not str(name).startswith("_")))


def similar(name: Any, choices: Iterable[Any]) -> str | None:
    """The choice that is most like a name, or None; long and very many choices are not compared."""
    wanted = str(name)
    if len(wanted) > LONGEST_NAME:
        return None
    words = [str(choice) for choice in choices]
    compared = [word for word in words[:_COMPARED] if len(word) <= LONGEST_NAME]
    return next(iter(difflib.get_close_matches(wanted, compared, n=1)), None)


def one_of(names: Iterable[Any], name: Any) -> str:
    """``one of a, b, c``, and the choice that the user may have meant by ``name``."""
    choices = [str(choice) for choice in names]
    close = similar(name, choices)
    return f"one of {listed(choices)}" + (f" (did you mean {close}?)" if close else "")


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
