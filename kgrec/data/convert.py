"""Conversion between file formats; what the target cannot hold is refused or left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from kgrec.data.formats import FORMATS, Format, recognise
from kgrec.data.raw_tables import PARTS, TRIPLE, RawTables
from kgrec.errors import DataError
from kgrec.files import atomic_folder, is_empty

Step = Callable[[RawTables], tuple[RawTables, str]]
"""A function that leaves something out of tables; returns the smaller tables and a description of
what was left out, which is empty if nothing was."""


def convert(raw: RawTables, target: Path, format_name: str, lossy: bool = False) -> list[str]:
    """Writes tables to a new folder, whole or not at all, and checks that the files can be read.

    Args:
        raw: tables of a reader.
        target: a folder that does not exist or is empty.
        format_name: a key of ``formats.FORMATS``.
        lossy: whether to leave out content that the format cannot hold, where possible.

    Returns:
        Descriptions of what was left out or changed, with counts.

    Raises:
        DataError: the folder is not empty, or the format cannot hold the tables.
    """
    if format_name not in FORMATS:
        raise DataError(f"--to: found {format_name!r}, expected one of {', '.join(FORMATS)}")
    check_target(target)
    chosen = FORMATS[format_name]
    notes: list[str] = []
    raw = _without_empty_tables(raw)
    losses = chosen.cannot_hold(raw)
    if losses and not lossy:
        raise DataError(
            f"--to {format_name}: these files cannot hold",
            *(f"  {loss}" for loss in losses),
            "expected another format, or --lossy to leave out what can be left out",
        )
    if losses:
        raw, notes = reduced(raw, chosen)
        if rest := chosen.cannot_hold(raw):
            raise DataError(
                f"--to {format_name}: these files cannot hold {'; '.join(rest)}, which cannot be "
                "left out; expected another format"
            )
    for name, table in (("interactions", raw.interactions), ("links", raw.links),
                        ("triples", raw.triples)):  # fmt: skip
        if table.is_empty():
            raise DataError(f"--to {format_name}: found no {name} that these files can hold")
    _write(raw, target, chosen)
    return notes


def check_target(target: Path) -> None:
    """Raises DataError if a folder cannot be the target of a conversion."""
    if target.exists() and not (target.is_dir() and is_empty(target)):
        raise DataError(
            f"{target}: found a file or a folder with files, expected a new or an empty folder"
        )


def _write(raw: RawTables, target: Path, chosen: Format) -> None:
    target = target.resolve()
    with atomic_folder(target) as incoming:
        chosen.write(incoming, raw, [raw.interactions])
        written, read = _content(raw), _content(recognise(incoming).read(incoming))
        wrong = [name for name in written if not written[name].equals(read[name])]
        if wrong:
            sizes = ", ".join(f"{len(written[n]):,} {n}, read {len(read[n]):,}" for n in wrong)
            raise RuntimeError(f"{target}: the files read back differ: wrote {sizes}")


def _content(raw: RawTables) -> dict[str, pl.Series]:
    """A hash of each row of each table, independent of the order of rows and columns."""
    raw = _without_empty_tables(raw)
    tables = {
        "interactions": raw.interactions, "links": raw.links, "triples": raw.triples,
        "negatives": raw.negatives, "item names": raw.item_names,
        "entity names": raw.entity_names, "relation names": raw.relation_names,
        "columns of users": raw.user_columns, "attributes of users": raw.user_attributes,
        "links between users": raw.user_links,
    }  # fmt: skip
    return {
        name: pl.Series(dtype=pl.UInt64) if table is None
        else table.select(sorted(table.columns)).hash_rows().sort()
        for name, table in tables.items()
    }  # fmt: skip


def _without_empty_tables(raw: RawTables) -> RawTables:
    """The tables, with None for negatives and names without rows."""
    negatives = None if raw.negatives is None or raw.negatives.is_empty() else raw.negatives
    names = None if raw.item_names is None or raw.item_names.is_empty() else raw.item_names
    entities, relations = (
        None if table is None or table.is_empty() else table
        for table in (raw.entity_names, raw.relation_names)
    )
    columns, attributes, links = (
        None if table is None or table.is_empty() else table
        for table in (raw.user_columns, raw.user_attributes, raw.user_links)
    )
    return replace(raw, negatives=negatives, item_names=names, entity_names=entities,
                   relation_names=relations, user_columns=columns, user_attributes=attributes,
                   user_links=links)  # fmt: skip


# ------------------------------------------------------------------ leaving out


def without(raw: RawTables, chosen: Format) -> RawTables:
    """The tables without what a format cannot hold, as far as that can be left out."""
    return reduced(raw, chosen)[0]


def reduced(raw: RawTables, chosen: Format) -> tuple[RawTables, list[str]]:
    """Leaves out content that a format cannot hold, one step after the other.

    A step is taken only if it shortens the list of losses.

    Returns:
        The tables, and descriptions of what was left out or changed, with counts.
    """
    notes: list[str] = []
    raw = _without_empty_tables(raw)
    for step in STEPS:
        losses = chosen.cannot_hold(raw)
        if not losses:
            break
        smaller, note = step(raw)
        if note and len(chosen.cannot_hold(smaller)) < len(losses):
            raw = smaller
            notes.append(note)
    return raw, notes


def _no_negatives(raw: RawTables) -> tuple[RawTables, str]:
    if raw.negatives is None:
        return raw, ""
    return replace(raw, negatives=None), f"{raw.negatives.height:,} negatives, left out"


def _no_names(raw: RawTables) -> tuple[RawTables, str]:
    if raw.item_names is None:
        return raw, ""
    return replace(raw, item_names=None), f"{raw.item_names.height:,} names of items, left out"


def _no_texts(raw: RawTables) -> tuple[RawTables, str]:
    if raw.item_names is None or not raw.has_texts:
        return raw, ""
    texts = raw.item_names["text"].count()
    return replace(raw, item_names=raw.item_names.drop("text")), f"{texts:,} texts, left out"


def _no_graph_names(raw: RawTables) -> tuple[RawTables, str]:
    tables = [t for t in (raw.entity_names, raw.relation_names) if t is not None]
    if not tables:
        return raw, ""
    count = sum(table.height for table in tables)
    smaller = replace(raw, entity_names=None, relation_names=None)
    return smaller, f"{count:,} names of entities and relations, left out"


def _no_user_columns(raw: RawTables) -> tuple[RawTables, str]:
    if raw.user_columns is None:
        return raw, ""
    count = raw.user_columns.width - 1
    return replace(raw, user_columns=None), f"{count:,} columns of attributes of users, left out"


def _no_user_attributes(raw: RawTables) -> tuple[RawTables, str]:
    if raw.user_attributes is None:
        return raw, ""
    count = raw.user_attributes.height
    return replace(raw, user_attributes=None), f"{count:,} attributes of users, left out"


def _no_user_links(raw: RawTables) -> tuple[RawTables, str]:
    if raw.user_links is None:
        return raw, ""
    return replace(raw, user_links=None), f"{raw.user_links.height:,} links of users, left out"


def _without_column(column: str, content: str) -> Step:
    def step(raw: RawTables) -> tuple[RawTables, str]:
        rows = raw.interactions
        if column not in rows.columns:
            return raw, ""
        return replace(raw, interactions=rows.drop(column)), f"{rows.height:,} {content}, left out"

    return step


def _validation_trains(raw: RawTables) -> tuple[RawTables, str]:
    """Validation rows become training rows, for formats with only a training and a test part."""
    val = PARTS.index("val")
    if "val" not in raw.given_parts:
        return raw, ""
    count = int((raw.interactions["part"] == val).sum())
    train = pl.lit(PARTS.index("train"), dtype=pl.Int8)
    part = pl.when(pl.col("part") == val).then(train).otherwise("part")
    rows = raw.interactions.with_columns(part.alias("part"))
    return replace(raw, interactions=rows), f"{count:,} validation rows, now training rows"


def _ratings_of_one(raw: RawTables) -> tuple[RawTables, str]:
    """Every row gets a rating, for formats that require one."""
    if "rating" in raw.interactions.columns:
        return raw, ""
    rows = raw.interactions.with_columns(rating=pl.lit(1.0))
    return replace(raw, interactions=rows), f"{rows.height:,} rows without a rating, given 1"


def _one_to_one(raw: RawTables) -> tuple[RawTables, str]:
    """Each item gets one entity, with the triples of all entities to which it was linked.

    An entity of several items is copied for each of them. Preparing the data has the same effect,
    so every item keeps its triples.
    """
    links = raw.links.unique(maintain_order=True)
    several = links.filter(pl.col("item").is_duplicated())["item"].n_unique()
    shared = links.filter(pl.col("entity").is_duplicated())["entity"].n_unique()
    if links.height == raw.links.height and not several and not shared:
        return raw, ""
    own = links.unique("item", keep="first", maintain_order=True)
    copy = pl.col("entity") + "#" + pl.col("item")
    own = own.with_columns(node=pl.when(pl.col("entity").is_first_distinct()).then("entity")
                           .otherwise(copy))  # fmt: skip
    nodes = links.join(own.select("item", "node"), on="item", maintain_order="left")
    triples = raw.triples
    for end in ("head", "tail"):
        moved = triples.join(
            nodes.select(pl.col("entity").alias(end), "node"),
            on=end, how="left", maintain_order="left_right",
        )  # fmt: skip
        triples = moved.with_columns(pl.coalesce("node", end).alias(end)).select(TRIPLE)
    single = replace(
        raw, links=own.select("item", entity="node"), triples=triples.unique(maintain_order=True)
    )
    return single, (
        f"{raw.links.height - own.height:,} further links of items (an item is now one entity, "
        f"with the triples of all entities that it was linked to), {shared:,} entities of several "
        "items (copied for each)"
    )


def _linked_only(raw: RawTables) -> tuple[RawTables, str]:
    """Interactions and negatives of items with an entity."""
    rows = raw.interactions.join(raw.links, on="item", how="semi", maintain_order="left")
    negatives = raw.negatives
    if negatives is not None:
        negatives = negatives.join(raw.links, on="item", how="semi", maintain_order="left")
    lost = raw.interactions.height - rows.height
    linked = _without_empty_tables(replace(raw, interactions=rows, negatives=negatives))
    lost_negatives = (0 if raw.negatives is None else raw.negatives.height) - (
        0 if negatives is None else negatives.height
    )
    if not lost and not lost_negatives:
        return raw, ""
    return linked, (
        f"{lost:,} interactions and {lost_negatives:,} negatives of items without an entity, left "
        "out"
    )


def _numbered(raw: RawTables) -> tuple[RawTables, str]:
    """Entities become numbers, first those of items, for formats in which item i is entity i."""
    ends = raw.triples.select(pl.concat_list("head", "tail").alias("entity")).explode("entity")
    entities = pl.concat([raw.links.select("entity"), ends]).unique(maintain_order=True)
    numbers = entities.with_columns(number=pl.int_range(pl.len()).cast(pl.String))
    if raw.links["entity"].is_duplicated().any() or entities["entity"].equals(numbers["number"]):
        return raw, ""
    new = {"old": numbers["entity"], "new": numbers["number"]}

    def number(column: str) -> pl.Expr:
        return pl.col(column).replace_strict(new["old"], new["new"])

    numbered = replace(
        raw,
        links=raw.links.with_columns(number("entity")),
        triples=raw.triples.with_columns(number("head"), number("tail")),
    )
    return numbered, f"{entities.height:,} names of entities, replaced by numbers"


def _one_to_one_numbered(raw: RawTables) -> tuple[RawTables, str]:
    single, first = _one_to_one(raw)
    numbered, second = _numbered(single)
    return (numbered, f"{first}; {second}") if first and second else (raw, "")


# Steps that leave something out, the smallest loss first.
STEPS: tuple[Step, ...] = (
    _ratings_of_one,
    _validation_trains,
    _one_to_one,
    _numbered,
    _one_to_one_numbered,
    _linked_only,
    _no_negatives,
    _no_texts,
    _no_names,
    _no_graph_names,
    _no_user_columns,
    _no_user_attributes,
    _no_user_links,
    _without_column("weight", "weights"),
    _without_column("timestamp", "timestamps"),
    _without_column("rating", "ratings"),
    _without_column("part", "rows with a given part (train, val or test)"),
)
