"""Numbers of the ids in a request, and the search for ids and titles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from kgrec.inference.raw_ids import RawIds
from kgrec.serving.errors import RequestError, shown

MOST_NAMED = 5  # unknown ids that a message names


class Lookup:
    """Numbers of raw ids and titles as :class:`RawIds` gives them, without a frame per request.

    Args:
        raw: raw ids of one kind.
        positives: number of training positives of each.

    Attributes:
        kind: the kind, for messages: "user" or "item".
        ids: raw ids; the position of an id is its number.
        names: titles, None where there is none.
        positives: number of training positives of each.
    """

    def __init__(self, raw: RawIds, positives: pl.Series) -> None:
        self.kind, self.ids = raw.kind, raw.ids.to_list()
        self.positives: list[int] = positives.to_list()
        self.names: list[str | None] = (
            [None] * len(raw) if raw.names is None else raw.names.to_list()
        )
        self._numbers = {each: number for number, each in enumerate(self.ids)}
        self._by_name: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            if name is not None:
                self._by_name.setdefault(_folded(name), []).append(number)
        names = pl.Series(self.names, dtype=pl.String).fill_null("")
        self._searched = pl.DataFrame({
            "number": pl.arange(len(raw), eager=True), "positives": positives,
            "id": raw.ids.cast(pl.String).str.to_lowercase(), "name": names.str.to_lowercase(),
        })  # fmt: skip

    def find(self, wanted: str, where: str) -> int | None:
        """Number of an id or title; None: unknown.

        Raises:
            RequestError: the title belongs to several ids.
        """
        number = self._numbers.get(wanted)
        if number is None and self._by_name:
            numbers = self._by_name.get(_folded(wanted), ())
            if len(numbers) > 1:
                ids = ", ".join(shown(self.ids[each]) for each in numbers[:MOST_NAMED])
                raise RequestError(
                    f"{where}: found the name {shown(wanted)} of {len(numbers)} {self.kind}s, "
                    f"expected an id, such as {ids}"
                )
            number = next(iter(numbers), None)
        return number

    def numbers(self, wanted: Iterable[str], where: str, status: int = 422) -> list[int]:
        """Numbers of ids or titles, in order.

        Args:
            wanted: ids or titles.
            where: key of the request, for messages.
            status: status code if one is unknown.

        Raises:
            RequestError: an id is unknown, or a title belongs to several ids.
        """
        found, unknown = [], []
        for each in wanted:
            number = self.find(each, where)
            if number is None:
                unknown.append(each)
            else:
                found.append(number)
        if unknown:
            raise RequestError(self._unknown(list(dict.fromkeys(unknown)), where), status)
        return found

    def _unknown(self, ids: Sequence[str], where: str) -> str:
        more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
        named = ", ".join(map(shown, ids[:MOST_NAMED]))
        plural = "" if len(ids) == 1 else "s"
        return (
            f"{where}: found {len(ids)} unknown {self.kind}{plural} ({named}{more}), expected some "
            f"of the {len(self.ids)} {self.kind}s of the run, such as {shown(self.ids[0])}"
        )

    def search(self, text: str, limit: int) -> tuple[list[int], int]:
        """Numbers of the best matches of a text, and the number of all matches.

        The order is: equal, begins with the text, a word begins with it, has it; then by positives.
        """
        text, rows = _folded(text), self._searched
        if text:
            both = pl.col("id", "name")
            word = pl.col("name").str.contains(f" {text}", literal=True)
            quality = (
                pl.when(pl.any_horizontal(both == text)).then(0)
                .when(pl.any_horizontal(both.str.starts_with(text))).then(1)
                .when(word).then(2)
                .when(pl.any_horizontal(both.str.contains(text, literal=True))).then(3)
            )  # fmt: skip
            rows = rows.with_columns(quality=quality).filter(pl.col("quality").is_not_null())
        else:
            rows = rows.with_columns(quality=pl.lit(0))
        order = ["quality", "positives", "number"]
        best = rows.sort(order, descending=[False, True, False]).head(limit)
        return best["number"].to_list(), rows.height


def _folded(text: str) -> str:
    return text.lower().strip()
