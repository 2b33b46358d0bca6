"""KGAT's files, which KGIN and others use too; split into train and test.

``train.txt`` and ``test.txt`` (a user and its items on each line, separated by blanks),
``kg_final.txt`` (head relation tail). All values are numbers, and an item is the entity of the
same number. The optional ``user_list.txt``, ``item_list.txt``, ``entity_list.txt`` and
``relation_list.txt`` give the raw id (``org_id``) of each number (``remap_id``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from kgrec.data.formats.writing import unfit, unwritable, write_rows
from kgrec.data.raw_tables import PARTS, TRIPLE, Counts, RawTables
from kgrec.data.text_files import (
    first_line,
    malformed,
    read_lines,
    second_header,
    whole_number,
)
from kgrec.errors import DataError, quoted

LISTS = ("user_list.txt", "item_list.txt", "entity_list.txt", "relation_list.txt")
_FILES = {"train": "train.txt", "test": "test.txt"}


def read(folder: Path) -> RawTables:
    """Reads interactions with their parts, the graph, and the raw ids that are listed."""
    counts: Counts = []
    rows = pl.concat(
        [
            _read_lists_of_items(folder / name, counts).with_columns(
                part=pl.lit(PARTS.index(part), dtype=pl.Int8)
            )
            for part, name in _FILES.items()
        ]
    )
    triples = _read_numbers(folder / "kg_final.txt", TRIPLE)
    users, items, entities, relations = (
        _read_list(folder / name) if (folder / name).is_file() else None for name in LISTS
    )
    used = pl.concat([rows["item"], *([items["number"]] if items is not None else [])])
    links = pl.DataFrame({"item": used.unique(maintain_order=True)}).with_columns(entity="item")
    # In the order of the numbers in the files.
    links = links.sort(pl.col("item").cast(pl.Int64))
    entity_list = LISTS[2]
    if items is not None and "freebase_id" in items.columns and entities is None:
        entities, entity_list = items.select("number", raw="freebase_id"), LISTS[1]
    frames = [rows, links, triples]
    for name, table, columns in (
        (LISTS[0], users, [(0, "user")]),
        (LISTS[1], items, [(0, "item"), (1, "item")]),
        (entity_list, entities, [(1, "entity"), (2, "head"), (2, "tail")]),
        (LISTS[3], relations, [(2, "relation")]),
    ):
        if table is None:
            continue
        used = pl.concat([frames[which][column].rename("number") for which, column in columns])
        unlisted = used.to_frame().unique().join(table, on="number", how="anti")
        unlisted = unlisted.with_columns(raw="#" + pl.col("number"))
        clash = unlisted.join(table, on="raw", how="semi")
        if not clash.is_empty():
            raise DataError(
                f"{folder / name}: found the id {quoted(clash['raw'][0])}, which is kept for a "
                "number that the file does not list"
            )
        if not unlisted.is_empty():
            counts.append((f"numbers that {name} does not list, kept as #number", unlisted.height))
        named = pl.concat([table.select("number", "raw"), unlisted.select("number", "raw")])
        for which, column in columns:
            frames[which] = _named(frames[which], column, named)
    rows, links, triples = frames
    return RawTables(interactions=rows, links=links, triples=triples, counts=counts)


def _named(frame: pl.DataFrame, column: str, named: pl.DataFrame) -> pl.DataFrame:
    """Replaces each number by its raw id."""
    return (
        frame.join(named, left_on=column, right_on="number", maintain_order="left")
        .with_columns(pl.col("raw").alias(column))
        .select(frame.columns)
    )


def _read_lists_of_items(path: Path, counts: Counts) -> pl.DataFrame:
    """``user, item`` of lines of the form "user item item …"."""
    lines = read_lines(path)
    words = lines.with_columns(
        word=pl.col("text").str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    )
    listed = words.explode("word").filter(~whole_number("word"))
    if not listed.is_empty():
        raise malformed(path, listed["line"][0], listed["word"][0], "numbers of a user and items")
    words = words.select(user=pl.col("word").list.first(), item=pl.col("word").list.slice(1))
    num_empty = words.filter(pl.col("item").list.len() == 0).height
    if num_empty:
        counts.append((f"users of {path.name} without any item, skipped", num_empty))
    return words.filter(pl.col("item").list.len() > 0).explode("item")


def _read_numbers(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """Reads lines of numbers separated by blanks."""
    lines = read_lines(path)
    text = pl.col("text").str.strip_chars().str.replace_all(r"\s+", " ")
    words = lines.select("line", "text", word=text.str.split(" "))
    layout = f"{len(columns)} numbers ({', '.join(columns)}) separated by blanks"
    wrong = words.filter(pl.col("word").list.len() != len(columns))
    if not wrong.is_empty():
        raise malformed(path, wrong["line"][0], wrong["text"][0], layout)
    fields = words.select(
        "line", "text", *(pl.col("word").list.get(i).alias(c) for i, c in enumerate(columns))
    )
    wrong = fields.filter(~pl.all_horizontal(whole_number(c) for c in columns))
    if not wrong.is_empty():
        raise malformed(path, wrong["line"][0], wrong["text"][0], layout)
    return fields.select(columns)


def _read_list(path: Path) -> pl.DataFrame:
    """Reads ``number, raw`` and, where the file has it, ``freebase_id`` of a list file."""
    number, text = first_line(path)
    header = text.split()
    if header not in (["org_id", "remap_id"], ["org_id", "remap_id", "freebase_id"]):
        raise malformed(path, number, text, "a header, org_id remap_id (and freebase_id)")
    lines = read_lines(path)[1:]
    if lines.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    # Raw ids may contain blanks; the last fields do not.
    last = r"\s+(\S+)" * (len(header) - 1)
    fields = lines["text"].str.extract_groups(rf"^\s*(\S.*?){last}\s*$").struct.unnest()
    fields.columns = ["raw", "number", *header[2:]]
    fields = fields.with_columns(line=lines["line"], text=lines["text"])
    layout = f"{len(header)} fields ({', '.join(header)})"
    blanks = pl.col("text").str.strip_chars().str.replace_all(r"\s+", " ")
    repeated = fields.filter(blanks == " ".join(header))
    if not repeated.is_empty():
        raise second_header(path, repeated["line"][0])
    wrong = fields.filter(pl.col("raw").is_null() | ~whole_number("number"))
    if not wrong.is_empty():
        raise malformed(path, wrong["line"][0], wrong["text"][0], layout)
    for column, name in (("number", "remap_id"), ("raw", "org_id")):
        repeated = fields.filter(~pl.col(column).is_first_distinct())
        if not repeated.is_empty():
            raise malformed(path, repeated["line"][0], repeated["text"][0], f"each {name} once")
    return fields.select("number", "raw", *header[2:])


def cannot_hold(raw: RawTables) -> list[str]:
    """Lists the content of raw tables that these files cannot hold."""
    losses = unwritable(raw, negatives=False, ratings=False, timestamps=False, names=False)
    if "part" not in raw.interactions.columns:
        losses.append("that there is no given split (these files are split into train and test)")
    elif raw.given_parts != ["train", "test"]:
        losses.append(f"given splits other than train and test ({', '.join(raw.given_parts)})")
    if raw.links["item"].is_duplicated().any() or raw.links["entity"].is_duplicated().any():
        losses.append("links that are not one to one")
    # The entity of an item is a field between blanks, so it cannot contain blanks.
    losses += unfit(raw.links, ("entity",), " ")
    unlinked = raw.interactions.join(raw.links, on="item", how="anti").height
    if unlinked:
        losses.append(f"{unlinked} interactions of items without an entity")
    return losses


def write(folder: Path, raw: RawTables, interactions: Iterable[pl.DataFrame]) -> None:
    """Writes train and test, the graph, and the lists of raw ids."""
    links = raw.links.unique("item", keep="first", maintain_order=True)
    items = links.select(org_id="item", remap_id=pl.int_range(pl.len()), freebase_id="entity")
    users = pl.DataFrame(schema={"user": pl.String})
    paths = {PARTS.index(part): folder / name for part, name in _FILES.items()}
    for path in paths.values():
        path.touch()
    for rows in interactions:
        users = pl.concat([users, rows.select("user")]).unique(maintain_order=True)
        numbered = (
            rows.join(users.with_row_index("u"), on="user", maintain_order="left")
            .join(items.select(item="org_id", i="remap_id"), on="item", maintain_order="left")
            .group_by("part", "u", maintain_order=True)
            .agg(pl.col("i").cast(pl.String).str.join(" "))
        )
        for part, path in paths.items():
            lines = numbered.filter(pl.col("part") == part).select(
                pl.concat_str("u", "i", separator=" ")
            )
            with path.open("ab") as file:
                lines.write_csv(file, include_header=False, quote_style="never")
    ends = raw.triples.select(pl.concat_list("head", "tail").alias("entity")).explode("entity")
    entities = (
        pl.concat([links.select("entity"), ends.select("entity")])
        .unique(maintain_order=True)
        .select(org_id="entity", remap_id=pl.int_range(pl.len()))
    )
    relations = raw.triples.select("relation").unique(maintain_order=True)
    relations = relations.select(org_id="relation", remap_id=pl.int_range(pl.len()))
    numbers = [("head", entities), ("relation", relations), ("tail", entities)]
    triples = raw.triples.select(TRIPLE)
    for column, table in numbers:
        triples = triples.join(
            table, left_on=column, right_on="org_id", maintain_order="left"
        ).select(pl.exclude(column, "remap_id"), pl.col("remap_id").alias(column))
    write_rows(folder / "kg_final.txt", triples.select(TRIPLE), " ")
    users = users.select(org_id="user", remap_id=pl.int_range(pl.len()))
    for name, table in zip(LISTS, (users, items, entities, relations), strict=True):
        write_rows(folder / name, table, " ", " ".join(table.columns))
