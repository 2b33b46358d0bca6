"""From one file format to another; what the target cannot hold is refused, or left out and said."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from kgrec.data.formats import FORMATS, Format, recognise
from kgrec.data.raw_tables import PARTS, TRIPLE, RawTables
from kgrec.errors import DataError

Step = Callable[[RawTables], tuple[RawTables, str]]
"""Tables without something, and what that was; the same tables where it was not there."""


def convert(raw: RawTables, target: Path, format_name: str, lossy: bool = False) -> list[str]:
    """Writes tables to a new folder, whole or not at all, and reads them back to be sure.

    Args:
        raw: what a reader returned.
        target: a folder that does not exist, or is empty.
        format_name: a key of ``formats.FORMATS``.
        lossy: leave out what the format cannot hold, where that can be left out.

    Returns:
        What was left out or changed, counted.

    Raises:
        DataError: the folder is not empty, or the format cannot hold the tables.
    """
    if format_name not in FORMATS:
        raise DataError(f"--to: found {format_name!r}, expected one of {', '.join(FORMATS)}")
    check_target(target)
    chosen = FORMATS[format_name]
    notes: list[str] = []
    raw = _without_empty_tables(raw)
    losses = chosen.losses(raw)
    if losses and not lossy:
        lines = "\n".join(f"  {loss}" for loss in losses)
        raise DataError(
            f"--to {format_name}: these files cannot hold\n{lines}\n"
            "expected another format, or --lossy to leave out what can be left out"
        )
    if losses:
        raw, notes = reduced(raw, chosen)
        if rest := chosen.losses(raw):
            raise DataError(
                f"--to {format_name}: these files cannot hold {'; '.join(rest)}, and that cannot "
                "be left out; expected another format"
            )
    for name, table in (("interactions", raw.interactions), ("links", raw.links),
                        ("triples", raw.triples)):  # fmt: skip
        if table.is_empty():
            raise DataError(f"--to {format_name}: found no {name} that these files can hold")
    _write(raw, target, chosen)
    return notes


def check_target(target: Path) -> None:
    """Raises DataError where a folder cannot become the target of a conversion."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: found something there, expected a new or an empty folder")


def _write(raw: RawTables, target: Path, chosen: Format) -> None:
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".incoming-") as temporary:
        # Some formats name their files after the folder.
        incoming = Path(temporary) / target.name
        incoming.mkdir()
        chosen.write(incoming, raw, [raw.interactions])
        written, found = _content(raw), _content(recognise(incoming).read(incoming))
        wrong = [name for name in written if not written[name].equals(found[name])]
        if wrong:
            sizes = ", ".join(f"{len(written[n]):,} {n}, read {len(found[n]):,}" for n in wrong)
            raise RuntimeError(f"{target}: what is read back differs: wrote {sizes}")
        if target.exists():
            target.rmdir()
        incoming.rename(target)


def _content(raw: RawTables) -> dict[str, pl.Series]:
    """Of each table, a number a row, whatever the order of rows and columns."""
    raw = _without_empty_tables(raw)
    tables = {
        "interactions": raw.interactions, "links": raw.links, "triples": raw.triples,
        "negatives": raw.negatives, "item names": raw.item_names,
        "entity names": raw.entity_names, "relation names": raw.relation_names,
    }  # fmt: skip
    return {
        name: pl.Series(dtype=pl.UInt64) if table is None
        else table.select(sorted(table.columns)).hash_rows().sort()
        for name, table in tables.items()
    }  # fmt: skip


def _without_empty_tables(raw: RawTables) -> RawTables:
    """Negatives and names of which there are none need no place."""
    negatives = None if raw.negatives is None or raw.negatives.is_empty() else raw.negatives
    names = None if raw.item_names is None or raw.item_names.is_empty() else raw.item_names
    entities, relations = (
        None if table is None or table.is_empty() else table
        for table in (raw.entity_names, raw.relation_names)
    )
    return replace(raw, negatives=negatives, item_names=names, entity_names=entities,
                   relation_names=relations)  # fmt: skip


# ------------------------------------------------------------------ leaving out


def without(raw: RawTables, chosen: Format) -> RawTables:
    """Tables without what a format cannot hold, as far as it can be left out."""
    return reduced(raw, chosen)[0]


def reduced(raw: RawTables, chosen: Format) -> tuple[RawTables, list[str]]:
    """Leaves out, one thing after the other, what a format cannot hold.

    A thing stays wherever leaving it out does not make the format hold more.

    Returns:
        The tables, and what was left out or changed, counted.
    """
    notes: list[str] = []
    raw = _without_empty_tables(raw)
    for step in STEPS:
        losses = chosen.losses(raw)
        if not losses:
            break
        smaller, note = step(raw)
        if note and len(chosen.losses(smaller)) < len(losses):
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


def _no_graph_names(raw: RawTables) -> tuple[RawTables, str]:
    tables = [t for t in (raw.entity_names, raw.relation_names) if t is not None]
    if not tables:
        return raw, ""
    count = sum(table.height for table in tables)
    smaller = replace(raw, entity_names=None, relation_names=None)
    return smaller, f"{count:,} names of entities and relations, left out"


def _without_column(column: str, what: str) -> Step:
    def step(raw: RawTables) -> tuple[RawTables, str]:
        rows = raw.interactions
        if column not in rows.columns:
            return raw, ""
        return replace(raw, interactions=rows.drop(column)), f"{rows.height:,} {what}, left out"

    return step


def _validation_trains(raw: RawTables) -> tuple[RawTables, str]:
    """For formats that know training and test alone."""
    val = PARTS.index("val")
    if "val" not in raw.given_parts:
        return raw, ""
    count = int((raw.interactions["part"] == val).sum())
    train = pl.lit(PARTS.index("train"), dtype=pl.Int8)
    part = pl.when(pl.col("part") == val).then(train).otherwise("part")
    rows = raw.interactions.with_columns(part.alias("part"))
    return replace(raw, interactions=rows), f"{count:,} validation rows, which now train"


def _ratings_of_one(raw: RawTables) -> tuple[RawTables, str]:
    """For formats in which every row must have a rating."""
    if "rating" in raw.interactions.columns:
        return raw, ""
    rows = raw.interactions.with_columns(rating=pl.lit(1.0))
    return replace(raw, interactions=rows), f"{rows.height:,} rows without a rating, given 1"


def _one_to_one(raw: RawTables) -> tuple[RawTables, str]:
    """One entity for each item, with the triples of all that it is linked to.

    An entity of several items is copied for each, so that the graph says of every item what it
    said before; preparing the data would do the same.
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
    made = replace(
        raw, links=own.select("item", entity="node"), triples=triples.unique(maintain_order=True)
    )
    return made, (
        f"{raw.links.height - own.height:,} further links of items (an item now is one entity, "
        f"with the triples of all that it was linked to), {shared:,} entities of several items "
        "(copied for each)"
    )


def _linked_only(raw: RawTables) -> tuple[RawTables, str]:
    rows = raw.interactions.join(raw.links, on="item", how="semi", maintain_order="left")
    negatives = raw.negatives
    if negatives is not None:
        negatives = negatives.join(raw.links, on="item", how="semi", maintain_order="left")
    lost = raw.interactions.height - rows.height
    made = _without_empty_tables(replace(raw, interactions=rows, negatives=negatives))
    unknown = (0 if raw.negatives is None else raw.negatives.height) - (
        0 if negatives is None else negatives.height
    )
    if not lost and not unknown:
        return raw, ""
    return made, (
        f"{lost:,} interactions and {unknown:,} negatives of items without an entity, left out"
    )


def _numbered(raw: RawTables) -> tuple[RawTables, str]:
    """Entities by number, the items' own first, for formats in which item i is entity i."""
    ends = raw.triples.select(pl.concat_list("head", "tail").alias("entity")).explode("entity")
    entities = pl.concat([raw.links.select("entity"), ends]).unique(maintain_order=True)
    numbers = entities.with_columns(number=pl.int_range(pl.len()).cast(pl.String))
    if raw.links["entity"].is_duplicated().any() or entities["entity"].equals(numbers["number"]):
        return raw, ""
    new = {"old": numbers["entity"], "new": numbers["number"]}

    def number(column: str) -> pl.Expr:
        return pl.col(column).replace_strict(new["old"], new["new"])

    made = replace(
        raw,
        links=raw.links.with_columns(number("entity")),
        triples=raw.triples.with_columns(number("head"), number("tail")),
    )
    return made, f"{entities.height:,} names of entities, which become numbers"


def _one_to_one_numbered(raw: RawTables) -> tuple[RawTables, str]:
    single, first = _one_to_one(raw)
    numbered, second = _numbered(single)
    return (numbered, f"{first}; {second}") if first and second else (raw, "")


# What can be left out, the lesser losses first.
STEPS: tuple[Step, ...] = (
    _ratings_of_one,
    _validation_trains,
    _one_to_one,
    _numbered,
    _one_to_one_numbered,
    _linked_only,
    _no_negatives,
    _no_names,
    _no_graph_names,
    _without_column("timestamp", "timestamps"),
    _without_column("rating", "ratings"),
    _without_column("part", "rows with a given part (train, val or test)"),
)
