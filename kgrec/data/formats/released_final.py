"""Files that the preprocessing of the released KGCN code writes.

``ratings_final.txt`` (user, item, label) and ``kg_final.txt`` (head, relation, tail). Items and
entities are numbers, and an item is the entity of the same number. Label-0 rows are the negatives
that were drawn when the file was written.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from kgrec.data.field_files import read_fields
from kgrec.data.formats.released_raw import INDEX, read_index
from kgrec.data.formats.writing import append_rows, unwritable, write_rows
from kgrec.data.raw_tables import TRIPLE, Counts, RawTables, by_label
from kgrec.data.text_files import malformed, read_lines, split_fields, whole_number
from kgrec.errors import DataError

RATINGS, GRAPH = "ratings_final.txt", "kg_final.txt"

# Items are numbered from 0 without gaps, so the largest number is the size of the catalogue. Files
# from which rows were removed have gaps: up to so many numbers for each item or entity, and always.
GAPS, ALWAYS = 5, 100_000


def _wrong_row(path: Path, condition: pl.Expr, column: str, expected: str) -> DataError:
    """The error for the first row that meets the condition."""
    rows = split_fields(read_lines(path), path, ["user", "item", "label"])
    rows = rows.with_columns(pl.col("user", "item", "label").str.strip_chars())
    row = rows.filter(condition).row(0, named=True)
    return malformed(path, row["line"], row[column], expected)


def read(folder: Path) -> RawTables:
    """Reads ratings and graph.

    Where the folder has an item index, line i of it gives the raw id of item i, as the
    preprocessing numbers them.
    """
    path = folder / RATINGS
    counts: Counts = []
    rows = read_fields(path, dict.fromkeys(("user", "item", "label"), pl.String), counts)
    for condition, column, expected in (
        (~pl.col("label").is_in(["0", "1"]), "label", "a label, 0 or 1"),
        (~whole_number("item"), "item", "an item number"),
    ):
        if rows.select(condition.any()).item():
            raise _wrong_row(path, condition, column, expected)
    triples = read_fields(folder / GRAPH, dict.fromkeys(TRIPLE, pl.String), counts)
    number = pl.col("item").cast(pl.Int64)
    num_items, used = rows.select(number.max() + 1, pl.col("item").n_unique().alias("used")).row(0)
    entities = pl.concat([triples["head"], triples["tail"]]).n_unique()
    if num_items > GAPS * (used + entities) + ALWAYS:
        expected = f"item numbers without wide gaps ({used:,} items, {entities:,} in {GRAPH})"
        raise _wrong_row(path, number == num_items - 1, "item", expected)
    numbers = pl.int_range(num_items, eager=True).cast(pl.String)
    links = pl.DataFrame({"item": numbers, "entity": numbers})
    index = [folder / name for name in INDEX if (folder / name).is_file()]
    if index:
        listed = read_index(index[0], counts)
        if listed.height < num_items:
            raise DataError(
                f"{index[0]}: found {listed.height} items, expected at least {num_items}, "
                f"the items of {path.name}"
            )
        numbers = pl.int_range(listed.height, eager=True).cast(pl.String)
        links = pl.DataFrame({"item": listed["item"], "entity": numbers})
    rows = rows.join(links, left_on="item", right_on="entity", maintain_order="left")
    label = pl.col("label").cast(pl.Int8)
    positives, negatives = by_label(rows.select("user", pl.col("item_right").alias("item"), label))
    return RawTables(
        interactions=positives,
        negatives=negatives,
        links=links,
        triples=triples,
        counts=counts,
    )


def cannot_hold(raw: RawTables) -> list[str]:
    """Lists the content of raw tables that these files cannot hold."""
    losses = unwritable(raw, given_splits=False, ratings=False, timestamps=False, names=False)
    numbers = pl.int_range(raw.links.height, eager=True).cast(pl.String)
    if raw.links["item"].is_duplicated().any():
        losses.append("items linked to several entities")
    elif raw.links["entity"].is_duplicated().any():
        losses.append("entities linked to several items")
    elif not raw.links["entity"].equals(numbers):
        losses.append("the names of entities (they become numbers)")
    for rows, kind in ((raw.interactions, "interactions"), (raw.negatives, "negatives")):
        unlinked = 0 if rows is None else rows.join(raw.links, on="item", how="anti").height
        if unlinked:
            losses.append(f"{unlinked} {kind} of items without an entity")
    return losses


def write(folder: Path, raw: RawTables, interactions: Iterable[pl.DataFrame]) -> None:
    """Writes ratings, graph and, for the raw ids of the items, the index."""
    items = raw.links.unique("item", keep="first", maintain_order=True)
    numbers = items.select("item", number=pl.int_range(pl.len()).cast(pl.String))
    path = folder / RATINGS
    path.touch()
    negatives = [] if raw.negatives is None else [raw.negatives]
    for label, pieces in (("1", interactions), ("0", negatives)):
        for rows in pieces:
            numbered = rows.join(numbers, on="item", maintain_order="left")
            append_rows(path, numbered.select("user", "number", label=pl.lit(label)), "\t")
    write_rows(folder / INDEX[0], items.select("item", "entity"), "\t")
    triples = raw.triples
    if not items["entity"].equals(numbers["number"]):
        # Entities get numbers too: first those of the items, then the others as they appear.
        own = pl.DataFrame({"entity": items["entity"], "number": numbers["number"]})
        others = (
            triples.select(pl.concat_list("head", "tail").alias("entity"))
            .explode("entity")
            .unique(maintain_order=True)
            .join(own, on="entity", how="anti", maintain_order="left")
            .with_columns(number=(pl.int_range(pl.len()) + items.height).cast(pl.String))
        )
        entities = pl.concat([own.unique("entity", keep="first", maintain_order=True), others])
        triples = (
            triples.join(entities, left_on="head", right_on="entity", maintain_order="left")
            .join(entities, left_on="tail", right_on="entity", maintain_order="left", suffix="_t")
            .select(head="number", relation="relation", tail="number_t")
        )
    write_rows(folder / GRAPH, triples.select(TRIPLE), "\t")
