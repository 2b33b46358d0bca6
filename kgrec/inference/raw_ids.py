"""Raw ids and titles, and the numbers that models use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.errors import DataError

Ids = str | int | Iterable[Any]
"""One raw id, or several: a list, a Series of polars or pandas, an array."""

EXAMPLES = 3


def as_list(ids: Ids) -> list[str]:
    """Raw ids as strings; a single id is a list of one.

    Raises:
        DataError: a value that is no id.
    """
    if isinstance(ids, str | int | Integral):
        return [str(ids)]
    if not isinstance(ids, Iterable):
        raise DataError(f"found {ids!r} as an id, expected a text, a whole number, or a list")
    return [str(each) for each in ids]


class RawIds:
    """Raw ids of one kind, in the order of their numbers.

    Args:
        kind: the kind, for messages: "user", "item" or "entity".
        ids: raw ids; the position of an id is its number.
        names: names by number, null where there is none. An id that is unknown is then looked up
            among the names.
        hint: a sentence in brackets for messages on unknown ids.
    """

    def __init__(
        self, kind: str, ids: pl.Series, names: pl.Series | None = None, hint: str = ""
    ) -> None:
        self.kind, self.ids, self.names, self.hint = kind, ids, names, hint

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, wanted: Ids) -> tuple[Tensor, list[str]]:
        """Numbers of the known ids, in order, and the ids that are unknown.

        Raises:
            DataError: a name belongs to several ids.
        """
        words = pl.DataFrame({"id": as_list(wanted)}, schema={"id": pl.String})
        known = pl.DataFrame({"id": self.ids}).with_row_index("number")
        found = words.join(known, on="id", how="left", maintain_order="left")
        if self.names is not None and found["number"].null_count():
            found = found.with_columns(pl.coalesce("number", self._by_name(found)))
        unknown = found.filter(pl.col("number").is_null())["id"].to_list()
        numbers = found["number"].drop_nulls().cast(pl.Int64).to_list()
        return torch.tensor(numbers, dtype=torch.int64), unknown

    def numbers(self, wanted: Ids) -> Tensor:
        """(n,) int64 numbers of ids or names, in order.

        Raises:
            DataError: an id or name is unknown, or a name belongs to several ids.
        """
        numbers, unknown = self.find(wanted)
        if unknown:
            raise DataError(self.unknown(unknown))
        return numbers

    def unknown(self, ids: Sequence[str]) -> str:
        """A message on unknown ids: their number, the first of them, and what was expected."""
        more = f" and {len(ids) - 1} more unknown ids" if len(ids) > 1 else ""
        examples = ", ".join(self.ids.head(EXAMPLES))
        return (
            f"found {self.kind} {ids[0]!r}{more}, expected one of the {len(self)} {self.kind}s of "
            f"the run, such as {examples}{self._suggestion(ids[0])}{self.hint}"
        )

    def _by_name(self, found: pl.DataFrame) -> pl.Series:
        """Numbers of the rows whose ``id`` is a name; null elsewhere."""
        assert self.names is not None
        rows = found.select("id", folded=pl.col("id").str.to_lowercase().str.strip_chars())
        missing = rows.filter(found["number"].is_null())
        names = pl.DataFrame({"name": self.names}).with_row_index("number")
        names = names.with_columns(folded=pl.col("name").str.to_lowercase().str.strip_chars())
        matches = names.join(missing, on="folded", how="semi").sort("number")
        several = matches.filter(pl.col("folded").is_duplicated())
        if several.height:
            name = several["name"][0]
            same = several.filter(pl.col("folded") == several["folded"][0])["number"]
            ids = ", ".join(self.ids.gather(same.head(EXAMPLES)))
            raise DataError(
                f"found the name {name!r} of {len(same)} {self.kind}s, expected an id, such as "
                f"{ids}"
            )
        joined = rows.join(
            matches.select("folded", by_name="number"), on="folded", how="left",
            maintain_order="left",
        )  # fmt: skip
        return joined["by_name"]

    def _suggestion(self, wrong: str) -> str:
        """A question that names the closest id or name, or nothing."""
        close = difflib.get_close_matches(wrong, self.ids.to_list(), n=1)
        if not close and self.names is not None:
            close = difflib.get_close_matches(wrong, self.names.drop_nulls().to_list(), n=1)
        return f"; did you mean {close[0]}?" if close else ""
