"""Plain tables with named columns: CSV, TSV or Parquet.

``interactions.*`` (user, item; optionally rating, timestamp, weight, label,
split), or ``train.*`` and
``test.*`` (and ``val.*``) for data that come with a split; ``triples.*`` (head, relation, tail);
optionally ``links.*`` (item, entity), ``items.*`` (item, name), ``entities.*`` (entity, name),
``relations.*`` (relation, name), and the files on users (``user_tables``). Without links an item
is the entity of the same id; the items are then the items of the interactions and of ``items.*``.
Columns have their usual names (``headers.NAMES``) or names that the user gives; other columns are
not read, and counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from kgrec.data.formats.headers import NAMES, headless
from kgrec.data.formats.named_columns import Table, count_unused, written_as_floats
from kgrec.data.formats.user_tables import USER_FILES, lists_of_users, read_user_tables
from kgrec.data.formats.writing import blank, id_columns, padded, without_rows, write_table
from kgrec.data.parquet_files import check_parquet
from kgrec.data.raw_tables import PARTS, TRIPLE, Counts, RawTables, by_label, named_items
from kgrec.errors import DataError, unknown_key

SUFFIXES = (".csv", ".tsv", ".parquet")
PART_FILES = (("train",), ("val", "valid", "validation"), ("test",))
_SPLIT_VALUES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


def _files(folder: Path, stems: Iterable[str]) -> list[Path]:
    names = {f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES}
    return sorted(path for path in folder.iterdir() if path.name in names)


def _one(folder: Path, *stems: str) -> Path | None:
    paths = _files(folder, stems)
    if len(paths) > 1:
        raise DataError(f"{folder}: found {', '.join(p.name for p in paths)}, expected one of them")
    return paths[0] if paths else None


_STEMS = (
    "interactions", "triples", "kg", "links", "items", "entities", "relations", *USER_FILES,
    *sum(PART_FILES, ()),
)  # fmt: skip
_NAMES = {f"{stem}{suffix}" for stem in _STEMS for suffix in SUFFIXES}

# Our names of the columns of interactions, and whether each is required.
_INTERACTIONS = {
    "user": True, "item": True, "rating": False, "timestamp": False, "weight": False,
    "label": False,
}  # fmt: skip


def read(folder: Path, columns: Mapping[str, str] | None = None) -> RawTables:
    """Reads interactions, whole or split, triples, links and names.

    Args:
        folder: the folder with the files.
        columns: the files' own names of columns, by the keys of :data:`NAMES`.

    Raises:
        ConfigError: ``columns`` has a key that is not in :data:`NAMES`.
        DataError: a file is malformed.
    """
    given = {name: column for name, column in (columns or {}).items() if column is not None}
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise unknown_key("dataset.columns", unknown[0], list(NAMES))
    counts: Counts = []
    notes: Counts = []
    for file in sorted(folder.glob("*.parquet")):
        if file.name in _NAMES:
            check_parquet(file)
    whole, parts = _one(folder, "interactions"), [_one(folder, *stems) for stems in PART_FILES]
    if whole is not None and any(parts):
        raise DataError(
            f"{folder}: found {whole.name} and {next(p.name for p in parts if p)}, expected "
            "interactions either whole or split"
        )
    frames: list[pl.DataFrame] = []
    for part, path in enumerate([whole] if whole is not None else parts):
        if path is None:
            continue
        split = {"split": False} if whole is not None else {}
        table = Table(path, {**_INTERACTIONS, **split}, given)
        frame = _interactions(table, counts, notes)
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
    triples = _triples(_one(folder, "triples", "kg"), given, counts, notes)
    names = _names(_one(folder, "items"), given, counts, notes)
    entity_names = _graph_names(_one(folder, "entities"), "entity", counts, notes)
    relation_names = _graph_names(_one(folder, "relations"), "relation", counts, notes)
    links = _one(folder, "links")
    if links is not None:
        table = Table(links, {"item": True, "entity": True}, given, other_items=True)
        linked = pl.DataFrame([table.ids("item", counts), table.ids("entity", counts)])
        count_unused(table, notes)
    else:
        listed = [rows, *([] if negatives is None else [negatives])]
        linked = _linked_to_themselves(listed, names, triples, counts, notes)
    users = [_one(folder, stem) for stem in USER_FILES]
    return RawTables(
        rows, linked, triples, negatives, names, entity_names, relation_names,
        *read_user_tables(users, given, counts, notes), counts, notes,
    )  # fmt: skip


def _names(
    path: Path | None, given: Mapping[str, str], counts: Counts, notes: Counts
) -> pl.DataFrame | None:
    """``item, name`` of the items file, and ``text`` where it has one; names may be missing."""
    if path is None:
        return None
    wanted = {"item": True, "name": False, "text": False}
    table = Table(path, wanted, given, other_items=True)
    items = table.ids("item", counts)
    name = pl.Series("name", [None], dtype=pl.String).new_from_index(0, len(items))
    if "name" in table.columns:
        name = table.values("name", "strings (name)").cast(pl.String).alias("name")
    columns = [items, name]
    if "text" in table.columns:
        text = table.values("text", "strings (text)").cast(pl.String).str.strip_chars()
        columns.append(text.alias("text"))
    count_unused(table, notes)
    return named_items(pl.DataFrame(columns), path.name, counts)


def _graph_names(
    path: Path | None, kind: str, counts: Counts, notes: Counts
) -> pl.DataFrame | None:
    """``entity, name`` or ``relation, name``; None where the file has no such columns."""
    if path is None:
        return None
    table = Table(path, {kind: False, "name": False}, {})
    if kind not in table.columns or "name" not in table.columns:
        counts.append((f"{path.name} has no columns {kind} and name, not read", 1))
        return None
    name = table.values("name", "strings (name)").cast(pl.String).str.strip_chars()
    count_unused(table, notes)
    names = pl.DataFrame([table.ids(kind, counts), name.alias("name")])
    named = names.filter(pl.col("name") != "")
    first = named.unique(kind, keep="first", maintain_order=True)
    if repeats := named.unique().height - first.height:
        counts.append((f"other names of the same {kind} in {path.name}, not used", repeats))
    return first


def _linked_to_themselves(
    interactions: list[pl.DataFrame],
    names: pl.DataFrame | None,
    triples: pl.DataFrame,
    counts: Counts,
    notes: Counts,
) -> pl.DataFrame:
    """``item, entity`` of the items that are the entity of the same id.

    Items are the items of the interactions, in order, then items that the items file adds.
    """
    entities = pl.concat([triples["head"], triples["tail"]]).unique()
    items = pl.concat([rows["item"] for rows in interactions]).unique(maintain_order=True)
    linked = items.filter(items.is_in(entities.implode()))
    notes.append(("no links file: items that are the entity of the same id", len(linked)))
    if names is not None:
        added = names["item"].unique(maintain_order=True)
        added = added.filter(added.is_in(entities.implode()) & ~added.is_in(linked.implode()))
        notes.append(("no links file: further items of the items file", len(added)))
        linked = pl.concat([linked, added])
    else:
        # Other heads of the relations that mostly lead from items are probably items too.
        heads = triples.select("head", "relation").unique()
        heads = heads.with_columns(item=pl.col("head").is_in(linked.implode()))
        heads = heads.filter(pl.col("item").mean().over("relation") > 0.5)
        if similar := heads.filter(~pl.col("item"))["head"].n_unique():
            line = (
                "no links and no items file: entities with relations like an item's, but without "
                "an interaction, not taken as items"
            )
            counts.append((line, similar))
    return pl.DataFrame({"item": linked}).with_columns(entity="item")


def _interactions(table: Table, counts: Counts, notes: Counts) -> pl.DataFrame:
    columns = [table.ids("user", counts), table.ids("item", counts)]
    columns += [table.numbers(n) for n in ("rating", "timestamp") if n in table.columns]
    if "label" in table.columns:
        labels = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
        columns.append(table.chosen("label", labels, "a label, 0 or 1"))
    if "weight" in table.columns:
        weights = table.numbers("weight")
        wrong = weights <= 0
        if "label" in table.columns:  # the weight of a negative is not used
            wrong &= columns[-1] == 1
        if wrong.any():
            raise DataError(
                f"{table.first(wrong)}: found {weights.filter(wrong)[0]:g} in column "
                f"{table.columns['weight']}, expected a number above 0 (weight)"
            )
        columns.append(weights)
    if "split" in table.columns:
        part = table.chosen("split", _SPLIT_VALUES, "train, val or test")
        columns.append(part.alias("part"))
    count_unused(table, notes)
    return pl.DataFrame(columns)


def _triples(
    path: Path | None, given: Mapping[str, str], counts: Counts, notes: Counts
) -> pl.DataFrame:
    assert path is not None  # the format requires it
    no_header = not any(name in given for name in TRIPLE) and headless(path, TRIPLE)
    if no_header:
        counts.append((f"{path.name} has no header: read as head, relation, tail", 1))
    table = Table(path, dict.fromkeys(TRIPLE, True), given, no_header)
    count_unused(table, notes)
    return pl.DataFrame([table.ids(name, counts) for name in TRIPLE])


def cannot_hold(raw: RawTables, lists: bool = False) -> list[str]:
    """Lists the content of raw tables that these files cannot hold.

    Args:
        raw: the tables.
        lists: whether a cell may be a list.
    """
    losses = without_rows(raw) + ([] if lists else lists_of_users(raw))
    for table, columns in id_columns(raw):
        losses += blank(table, columns) + padded(table, [c for c in columns if c != "name"])
        ids = [c for c in columns if c != "name" and not table.is_empty()]
        losses += [
            f"values of {c} that are all written as 42.0"
            for c in ids
            if written_as_floats(table[c])
        ]
    return losses


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
            # The other columns of a negative are not used, but they must not be empty.
            others = {
                "rating": pl.lit(0.0), "timestamp": pl.lit(0.0), "weight": pl.lit(1.0),
                "split": pl.lit(PARTS[0]),
            }  # fmt: skip
            own = {name: value for name, value in others.items() if name in columns}
            yield raw.negatives.with_columns(**own, label=pl.lit(0)).select(columns)

    write_table(folder / f"interactions{suffix}", pieces())
    write_table(folder / f"triples{suffix}", [raw.triples])
    write_table(folder / f"links{suffix}", [raw.links])
    if raw.item_names is not None and not raw.item_names.is_empty():
        write_table(folder / f"items{suffix}", [raw.item_names])
    for stem, names in (
        ("entities", raw.entity_names), ("relations", raw.relation_names),
        *zip(USER_FILES, (raw.user_columns, raw.user_attributes, raw.user_links), strict=True),
    ):  # fmt: skip
        if names is not None and not names.is_empty():
            write_table(folder / f"{stem}{suffix}", [names])


def _with_split(rows: pl.DataFrame) -> pl.DataFrame:
    """The parts by their names, in a column ``split``."""
    if "part" not in rows.columns:
        return rows
    split = pl.col("part").replace_strict(dict(enumerate(PARTS)), return_dtype=pl.String)
    return rows.with_columns(split.alias("split")).drop("part")
