"""Texts from data and from strangers' files, where they reach a terminal, a sheet or Markdown.

Pages escape by themselves: jinja2 does so for HTML, and matplotlib for drawings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kgrec.errors import printable

if TYPE_CHECKING:
    import polars as pl

_FORMULA = r"^\s*[=+\-@\t\r]"  # with which a spreadsheet begins to calculate
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def rich_text(text: str) -> str:
    """Text for a table of rich, without control characters and without markup."""
    from rich.markup import escape

    return escape(printable(text))


def markdown_text(text: str) -> str:
    """One line of text for Markdown, in which no HTML, link or picture begins."""
    words = " ".join(printable(text).split())
    return re.sub(r"([\\`\[\]|])", r"\\\1", words).replace("<", "&lt;")


def for_spreadsheets(table: pl.DataFrame) -> pl.DataFrame:
    """A table for people, whose texts a spreadsheet does not take for formulas.

    Such texts get an apostrophe in front. Tables that programs read are written as they are.
    """
    import polars as pl

    texts = pl.selectors.string()
    odd = texts.str.contains(_FORMULA) & ~texts.str.contains(_NUMBER)
    return table.with_columns(pl.when(odd).then("'" + texts).otherwise(texts).name.keep())
