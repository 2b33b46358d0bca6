"""Headers of files with named columns: the usual names of a column, and whether there is one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from kgrec.data.csv_files import header_fields
from kgrec.data.parquet_files import parquet_columns
from kgrec.data.text_files import SEPARATORS, header_line

# Our name of a column, and its names in files, in lower case and without other characters.
NAMES = {
    "user": ("user", "userid", "uid"),
    "item": ("item", "itemid", "iid", "movieid", "bookid", "artistid", "isbn", "asin"),
    "rating": ("rating", "stars", "score"),
    "timestamp": ("timestamp", "time", "ts", "date", "datetime"),
    "weight": ("weight",),
    "label": ("label",),
    "split": ("split", "part"),
    "head": ("head", "headid", "h", "subject"),
    "relation": ("relation", "relationid", "r", "predicate"),
    "tail": ("tail", "tailid", "t", "object"),
    "entity": ("entity", "entityid"),
    "name": ("name", "title", "itemname", "movietitle"),
    "text": ("text",),
    "other": ("other", "otheruser", "otheruserid", "friend", "friendid"),
}


@lru_cache(maxsize=1 << 16)
def _plain(column: str) -> str:
    """``userId``, ``User-ID`` and ``user_id:token`` are all ``userid``."""
    return re.sub("[^a-z]", "", column.split(":", maxsplit=1)[0].lower())


def all_fields(path: Path) -> list[str]:
    """The fields of a header for every separator that it may have."""
    if path.suffix == ".parquet":
        return parquet_columns(path)
    _, text = header_line(path)
    return [field for separator in SEPARATORS for field in header_fields(text, separator)]


def matches(fields: list[str], name: str, given: Mapping[str, str]) -> list[str]:
    """The fields of a header that match our name of a column, or the one that the user gives."""
    if name in given:
        return [field for field in fields if field == given[name]]
    return [field for field in fields if _plain(field) in NAMES[name]]


def headless(path: Path, names: Sequence[str]) -> bool:
    """Whether a text file with one column for each of ``names`` begins with data, not a header.

    False for other files, also for a missing one, which its reader explains.

    A header has a usual name of every column, or of two whose names are words: ``h,r,t`` and
    ``head,rel,tail`` are headers. The names are compared with their digits and a single letter
    may be an id, so that ``h1,likes,t1`` and ``e,likes,t`` are data.

    Raises:
        DataError: the file is empty or not UTF-8.
    """
    if path.suffix == ".parquet" or not path.is_file():
        return False
    _, text = header_line(path)
    headers = [header_fields(text, separator) for separator in SEPARATORS]
    headers = [fields for fields in headers if len(fields) == len(names)]
    return bool(headers) and not any(_is_header(fields, names) for fields in headers)


def _is_header(fields: Sequence[str], names: Sequence[str]) -> bool:
    words = [re.sub("[\\W_]", "", field.split(":", maxsplit=1)[0].lower()) for field in fields]
    usual = [[word for word in words if word in NAMES[name]] for name in names]
    return all(usual) or sum(any(len(word) > 1 for word in found) for found in usual) > 1
