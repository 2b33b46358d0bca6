"""Readers of data folders, up to the split data set: all formats."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import polars as pl

from fuzzing.target import Target
from fuzzing.targets import small_files as s
from kgrec.data.dataset import PreparedData
from kgrec.data.formats import recognise
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean, paper
from kgrec.data.raw_tables import RawTables
from kgrec.data.splits import ColdItems, Given, LeaveOneOut, RandomSplit, Temporal
from kgrec.errors import KgrecError


def read(folder: Path) -> Any:
    """Reads, checks and prepares a data folder as a run does; the settings vary with its files."""
    raw = recognise(folder).read(folder)
    check_tables(raw)
    chance = zlib.crc32(b"".join(path.read_bytes() for path in sorted(folder.iterdir())))
    weighted, rated = (name in raw.interactions.columns for name in ("weight", "rating"))
    data = prepare(
        raw,
        "x",
        place=str(folder),
        min_rating=3.0 if rated and chance & 1 else None,
        unlinked=("drop", "keep")[chance >> 1 & 1],
        inverses=("keep", "merge")[chance >> 2 & 1],
        weights=("ignore", "use" if weighted else "repeats")[chance >> 3 & 1],
        user_graph=("ignore", "use")[chance >> 4 & 1 if raw.user_columns is not None else 0],
    )
    check_data(data)
    splits: tuple[Any, ...] = (RandomSplit(), LeaveOneOut(), Temporal(), Given(), ColdItems())
    split = splits[chance % 5]
    try:
        dataset: Any = (clean, paper)[chance >> 5 & 1](data, split)
    except KgrecError:  # such as data without times; the message names the setting
        return data.counts()
    return data.counts(), [len(part.users) for part in (dataset.train, dataset.val, dataset.test)]


def check_tables(raw: RawTables) -> None:
    """Raises AssertionError unless every cell is a text or a finite number."""
    for table in (raw.interactions, raw.links, raw.triples, raw.negatives):
        if table is None:
            continue
        assert table.null_count().sum_horizontal().item() == 0, "blank cells"
        for column in table.iter_columns():
            if column.dtype == pl.String:
                assert not (column.str.strip_chars() == "").any(), "blank ids"
            if column.dtype == pl.Float64:
                assert column.is_finite().all(), "numbers that are not finite"


def check_data(data: PreparedData) -> None:
    """Raises AssertionError unless all numbers are within the sizes."""
    sizes = data.counts()
    for values, size in (
        (data.positives.users, sizes["users"]),
        (data.positives.items, sizes["items"]),
        (data.graph.heads, sizes["entities"]),
        (data.graph.tails, sizes["entities"]),
        (data.graph.relations, sizes["relations"]),
    ):
        assert not len(values) or 0 <= int(values.min()) <= int(values.max()) < size, "numbers"
    if data.weights is not None:
        assert bool((data.weights > 0).all() & data.weights.isfinite().all()), "weights"
    assert all(entry.count >= 0 for entry in data.account.entries), "counts"


def _target(name: str, *folders: dict[str, str], share: float = 1.0) -> Target:
    return Target(name, lambda _: s.encoded(*folders), read, share=share)


TARGETS = [
    _target("released_final", s.FINAL, {k: v for k, v in s.FINAL.items() if "index" not in k}),
    _target("released_raw", s.RAW, s.MOVIELENS, s.BOOK, share=2),
    _target("recbole", s.RECBOLE, s.GIVEN, share=2),
    _target("kgat", s.KGAT, share=2),
    _target("csv", s.CSV, s.SPLIT, s.PARTS, share=3),
    Target("parquet", lambda _: s.parquet_folders(), read, share=2),
]
