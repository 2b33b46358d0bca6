"""Plain tables with named columns: CSV, TSV or Parquet.

``interactions.*`` (user, item; optionally rating, timestamp, label, split), or ``train.*`` and
``test.*`` (and ``val.*``) for data that come already split; ``triples.*`` (head, relation, tail);
optionally ``links.*`` (item, entity) and ``items.*`` (item, name). Without links an item is the
entity of the same id. Columns go by their usual names (``named_columns.NAMES``) or by those that
the user gives; others are left alone and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from kgrec.data.csv_files import SEPARATORS, header_fields
from kgrec.data.formats.named_columns import NAMES, Table, matches, written_as_floats
from kgrec.data.formats.writing import blank, id_columns, without_rows, write_table
from kgrec.data.raw_tables import PARTS, TRIPLE, Counts, RawTables, by_label, named_items
from kgrec.data.text_files import first_line
from kgrec.errors import ConfigError, DataError

SUFFIXES = (".csv", ".tsv", ".parquet")
PART_FILES = (("train",), ("val", "valid", "validation"), ("test",))
_SPLIT_VALUES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def _files(folder: Path, stems: Iterable[str]) -> list[Path]:
    names = {f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES}
    return sorted(path for path in folder.iterdir() if path.name in names)


def _one(folder: Path, *stems: str) -> Path | None:
    found = _files(folder, stems)
    if len(found) > 1:
        raise DataError(f"{folder}: found {', '.join(p.name for p in found)}, expected one of them")
    return found[0] if found else None


_INTERACTIONS = {"user": True, "item": True, "rating": False, "timestamp": False, "label": False}


def read(folder: Path, columns: Mapping[str, str] | None = None) -> RawTables:
    """Reads interactions, whole or split, triples, links and names.

    Args:
        folder: with the files.
        columns: the file's own name of a column of :data:`NAMES`.

    Raises:
        ConfigError: ``columns`` names something that is no key of :data:`NAMES`.
    """
    given = {name: column for name, column in (columns or {}).items() if column is not None}
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise ConfigError(
            f"dataset.columns.{unknown[0]}: found an unknown key, expected one of "
            f"{', '.join(NAMES)}"
        )
    counts: Counts = []
    whole, parts = _one(folder, "interactions"), [_one(folder, *stems) for stems in PART_FILES]
    if whole is not None and any(parts):
        raise DataError(
            f"{folder}: found {whole.name} beside {next(p.name for p in parts if p)}, expected "
            "interactions either whole or split"
        )
    frames: list[pl.DataFrame] = []
    for part, path in enumerate([whole] if whole is not None else parts):
        if path is None:
            continue
        split = {"split": False} if whole is not None else {}
        table = Table(path, {**_INTERACTIONS, **split}, given)
        frame = _interactions(table, counts)
        if whole is None:
            frame = frame.with_columns(part=pl.lit(part, dtype=pl.Int8))
        if frames and frame.columns != frames[0].columns:
            raise DataError(
                f"{path}: found {', '.join(frame.columns[:-1])}, expected the columns of the "
                f"other files: {', '.join(frames[0].columns[:-1])}"
            )
        frames.append(frame)
    rows = pl.concat(frames)
    negatives = None
    if "label" in rows.columns:
        rows, negatives = by_label(rows)
    triples = _triples(_one(folder, "triples", "kg"), given, counts)
    links = _one(folder, "links")
    if links is not None:
        table = Table(links, {"item": True, "entity": True}, given, beside=True)
        linked = pl.DataFrame([table.ids("item", counts), table.ids("entity", counts)])
        _count_unused(table, counts)
    else:
        ends = pl.concat([triples["head"], triples["tail"]]).unique()
        linked = rows.select("item").unique(maintain_order=True)
        linked = linked.filter(pl.col("item").is_in(ends.implode())).with_columns(entity="item")
        counts.append(("no links file: items that are the entity of the same id", linked.height))
    names = None
    if (path := _one(folder, "items")) is not None:
        table = Table(path, {"item": True, "name": True}, given, beside=True)
        name = table.values("name", "strings (name)").cast(pl.String).alias("name")
        names = named_items(pl.DataFrame([table.ids("item", counts), name]), path.name, counts)
        _count_unused(table, counts)
    return RawTables(rows, linked, triples, negatives, names, counts)


def _interactions(table: Table, counts: Counts) -> pl.DataFrame:
    columns = [table.ids("user", counts), table.ids("item", counts)]
    columns += [table.numbers(n) for n in ("rating", "timestamp") if n in table.columns]
    if "label" in table.columns:
        labels = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
        columns.append(table.chosen("label", labels, "a label, 0 or 1"))
    if "split" in table.columns:
        part = table.chosen("split", _SPLIT_VALUES, "a part: train, val or test")
        columns.append(part.alias("part"))
    _count_unused(table, counts)
    return pl.DataFrame(columns)


def _count_unused(table: Table, counts: Counts) -> None:
    if table.unused:
        shown = ", ".join(table.unused[:5]) + (", …" if len(table.unused) > 5 else "")
        counts.append((f"columns of {table.path.name} not used ({shown})", len(table.unused)))


def _triples(path: Path | None, given: Mapping[str, str], counts: Counts) -> pl.DataFrame:
    assert path is not None  # the format asks for it
    headless = False
    if path.suffix != ".parquet" and not any(name in given for name in TRIPLE):
        _, text = first_line(path)
        headers = [header_fields(text, separator) for separator in SEPARATORS]
        headless = any(len(fields) == 3 for fields in headers) and not any(
            matches(fields, name, {}) for fields in headers for name in TRIPLE
        )
    if headless:
        counts.append((f"{path.name} has no header: read as head, relation, tail", 1))
    table = Table(path, dict.fromkeys(TRIPLE, True), given, headless)
    _count_unused(table, counts)
    return pl.DataFrame([table.ids(name, counts) for name in TRIPLE])


def losses(raw: RawTables) -> list[str]:
    """What these files cannot hold of the given tables."""
    found = without_rows(raw)
    for table, columns in id_columns(raw):
        found += blank(table, columns)
        ids = [c for c in columns if c != "name" and not table.is_empty()]
        found += [
            f"values of {c} that are all written as 42.0"
            for c in ids
            if written_as_floats(table[c])
        ]
    return found


def write(
    folder: Path, raw: RawTables, interactions: Iterable[pl.DataFrame], suffix: str = ".csv"
) -> None:
    """Writes interactions, triples, links and names, as CSV or Parquet."""

    def pieces() -> Iterator[pl.DataFrame]:
        columns: list[str] = []
        for rows in interactions:
            piece = _with_split(rows)
            if raw.negatives is not None:
                piece = piece.with_columns(label=pl.lit(1))
            columns = piece.columns
            yield piece
        if raw.negatives is not None:
            # Nobody reads the other columns of a negative, but they must not be empty.
            others = {"rating": pl.lit(0.0), "timestamp": pl.lit(0.0), "split": pl.lit(PARTS[0])}
            own = {name: value for name, value in others.items() if name in columns}
            yield raw.negatives.with_columns(**own, label=pl.lit(0)).select(columns)

    write_table(folder / f"interactions{suffix}", pieces())
    write_table(folder / f"triples{suffix}", [raw.triples])
    write_table(folder / f"links{suffix}", [raw.links])
    if raw.item_names is not None and not raw.item_names.is_empty():
        write_table(folder / f"items{suffix}", [raw.item_names])


def _with_split(rows: pl.DataFrame) -> pl.DataFrame:
    """The parts by their names, in a column ``split``."""
    if "part" not in rows.columns:
        return rows
    split = pl.col("part").replace_strict(dict(enumerate(PARTS)), return_dtype=pl.String)
    return rows.with_columns(split.alias("split")).drop("part")
