"""Errors and panics of polars, as errors that name the file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from kgrec.errors import DataError

# A panic is no Exception: `except Exception` does not catch it.
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


@contextmanager
def polars_errors(path: Path, expected: str, column: str | None = None) -> Iterator[None]:
    """Turns every error of polars, a panic too, into a DataError.

    Args:
        path: file or folder that is read.
        expected: what the file should be, for the message.
        column: column that is read, or None.
    """
    place = f"{path}: " + ("" if column is None else f"column {column}: ")
    try:
        yield
    except POLARS_ERRORS as error:
        raise DataError(f"{place}{_one_line(error)}; expected {expected}") from None
    except OSError as error:
        raise DataError(f"{place}{error.strerror or error}; expected {expected}") from None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
