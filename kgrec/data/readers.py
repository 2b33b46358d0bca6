"""Readers: one function a file format, from a folder to raw tables of string ids.

Three public formats are read; a folder is recognised by its files:

==============  ==================================================================
released_raw    ``user_artists.dat`` | ``ratings.csv`` | ``BX-Book-Ratings.csv``,
                ``item_index2entity_id.txt``, ``kg.txt`` (KGCN's and RippleNet's
                repositories)
released_final  ``ratings_final.txt`` (user item label), ``kg_final.txt`` (head
                relation tail): what the released preprocessing writes
recbole         ``*.inter``, ``*.kg``, ``*.link`` and, for names, ``*.item``
                (RecBole atomic files)
==============  ==================================================================

CRLF and LF, a UTF-8 byte order mark and empty lines are all fine; any other line that does
not fit is an error with file, line number, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from kgrec.data.text_files import (
    malformed,
    parse_number,
    read_lines,
    require_ids,
    split_fields,
)
from kgrec.errors import DataError


@dataclass(frozen=True)
class RawTables:
    """What a reader returns; every id is a string, as found in the files.

    Attributes:
        interactions: ``user, item`` and, where the files have them, ``rating`` and
            ``timestamp`` (both Float64).
        links: ``item, entity``: which entity of the graph an item is.
        triples: ``head, relation, tail``.
        negatives: ``user, item`` pairs that the files give as negatives (label 0), or None.
        item_names: ``item, name``, or None.
        counts: what the reader had to pass over, as (what, how many).
    """

    interactions: pl.DataFrame
    links: pl.DataFrame
    triples: pl.DataFrame
    negatives: pl.DataFrame | None = None
    item_names: pl.DataFrame | None = None
    counts: list[tuple[str, int]] = field(default_factory=list)


def _read_columns(path: Path, columns: Sequence[str], separator: str = "\t") -> pl.DataFrame:
    return require_ids(split_fields(read_lines(path), path, columns, separator), path, columns)


# ------------------------------------------------------------------ released KGCN, RippleNet


def _read_user_artists(path: Path) -> tuple[pl.DataFrame, list[tuple[str, int]]]:
    return _read_headed(path, ["user", "item", "rating"], "\t"), []


def _read_movielens(path: Path) -> tuple[pl.DataFrame, list[tuple[str, int]]]:
    frame = _read_headed(path, ["user", "item", "rating", "timestamp"], ",")
    return parse_number(frame, path, "timestamp", "seconds since 1970"), []


def _read_headed(path: Path, columns: Sequence[str], separator: str) -> pl.DataFrame:
    lines = read_lines(path)
    first = lines["text"][0].split(separator)
    if len(first) == len(columns) and first[2].replace(".", "", 1).isdigit():
        raise malformed(path, lines["line"][0], lines["text"][0], "a header")
    lines = lines[1:]
    if lines.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected {', '.join(columns)}")
    frame = require_ids(split_fields(lines, path, columns, separator), path, columns)
    return parse_number(frame, path, "rating", "rating")


def _read_book_crossing(path: Path) -> tuple[pl.DataFrame, list[tuple[str, int]]]:
    """``"user";"ISBN";"rating"`` in Latin-1; some lines of the public file are broken."""
    lines = read_lines(path, encoding="latin-1")
    fields = lines["text"].str.extract_groups(r'^"(\d+)";"(.+)";"(\d+)"$').struct.unnest()
    fields.columns = ["user", "item", "rating"]
    if fields["rating"][0] is not None:
        raise malformed(path, lines["line"][0], lines["text"][0], "a header")
    fields = fields[1:]
    whole = fields.drop_nulls()
    if whole.is_empty():
        raise DataError(f'{path}: found no line of the form "user";"ISBN";"rating"')
    broken = fields.height - whole.height
    frame = whole.with_columns(pl.col("rating").cast(pl.Float64))
    return frame, [(f"broken lines of {path.name}, passed over", broken)]


_RATINGS: dict[str, Callable[[Path], tuple[pl.DataFrame, list[tuple[str, int]]]]] = {
    "user_artists.dat": _read_user_artists,
    "ratings.csv": _read_movielens,
    "BX-Book-Ratings.csv": _read_book_crossing,
}
_INDEX = ("item_index2entity_id.txt", "item_index2entity_id_rehashed.txt")
_GRAPH = ("kg.txt", "kg_rehashed.txt")


def _first(folder: Path, names: Sequence[str]) -> Path:
    return next(folder / name for name in names if (folder / name).is_file())


def read_released_raw(folder: Path) -> RawTables:
    """Reads raw ratings, item index and graph as in the repositories of KGCN and RippleNet."""
    ratings = _first(folder, list(_RATINGS))
    interactions, counts = _RATINGS[ratings.name](ratings)
    return RawTables(
        interactions=interactions.drop("line", strict=False),
        links=_read_columns(_first(folder, _INDEX), ["item", "entity"]).drop("line"),
        triples=_read_columns(_first(folder, _GRAPH), ["head", "relation", "tail"]).drop("line"),
        counts=counts,
    )


def read_released_final(folder: Path) -> RawTables:
    """Reads ``ratings_final.txt`` and ``kg_final.txt``, written by the released preprocessing.

    There items and entities are integers already, an item being the entity of the same number;
    label-0 rows are the negatives that were drawn when the file was written. Where the item
    index lies beside them, line i of it gives the raw id of item i (so the preprocessing
    numbered them).
    """
    path = folder / "ratings_final.txt"
    rows = _read_columns(path, ["user", "item", "label"])
    bad = rows.filter(~pl.col("label").is_in(["0", "1"]))
    if not bad.is_empty():
        raise malformed(path, bad["line"][0], bad["label"][0], "a label, 0 or 1")
    number = pl.col("item").cast(pl.UInt32, strict=False)
    bad = rows.filter(number.is_null() | (number.cast(pl.String) != pl.col("item")))
    if not bad.is_empty():
        raise malformed(path, bad["line"][0], bad["item"][0], "an item number")
    num_items = int(rows.select(number.max()).item()) + 1
    links = pl.DataFrame({"entity": pl.int_range(num_items, eager=True).cast(pl.String)})
    index = [folder / name for name in _INDEX if (folder / name).is_file()]
    if index:
        listed = _read_columns(index[0], ["item", "old_entity"])
        if listed.height < num_items:
            raise DataError(
                f"{index[0]}: found {listed.height} items, expected at least {num_items}, "
                f"the items of {path.name}"
            )
        numbers = pl.int_range(listed.height, eager=True).cast(pl.String)
        links = pl.DataFrame({"item": listed["item"], "entity": numbers})
    else:
        links = links.select(pl.col("entity").alias("item"), "entity")
    rows = rows.join(links, left_on="item", right_on="entity", maintain_order="left")
    rows = rows.select("user", pl.col("item_right").alias("item"), "label")
    return RawTables(
        interactions=rows.filter(pl.col("label") == "1").drop("label"),
        negatives=rows.filter(pl.col("label") == "0").drop("label"),
        links=links,
        triples=_read_columns(folder / "kg_final.txt", ["head", "relation", "tail"]).drop("line"),
    )


# ------------------------------------------------------------------ RecBole atomic files


def _read_atomic(path: Path, wanted: dict[str, str], optional: dict[str, str]) -> pl.DataFrame:
    """Reads the named fields of a RecBole atomic file; its header says ``name:type``."""
    lines = read_lines(path)
    header = [name.split(":")[0] for name in lines["text"][0].strip().split("\t")]
    missing = [name for name in wanted if name not in header]
    if missing:
        raise malformed(
            path, lines["line"][0], lines["text"][0], f"a header with the field {missing[0]}"
        )
    header = ["line_" if name == "line" else name for name in header]  # ours is the line number
    if len(set(header)) < len(header):
        raise malformed(path, lines["line"][0], lines["text"][0], "each field once")
    body = lines[1:]
    if body.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    frame = split_fields(body, path, header)
    found = wanted | {name: column for name, column in optional.items() if name in header}
    frame = frame.select("line", *(pl.col(name).alias(found[name]) for name in found))
    return require_ids(frame, path, list(wanted.values()))


def read_recbole(folder: Path) -> RawTables:
    """Reads RecBole's atomic files: ``.inter``, ``.kg``, ``.link`` and, for names, ``.item``."""
    inter, kg, link = (_only(folder, suffix) for suffix in (".inter", ".kg", ".link"))
    interactions = _read_atomic(
        inter,
        {"user_id": "user", "item_id": "item"},
        {"rating": "rating", "timestamp": "timestamp"},
    )
    for column in ("rating", "timestamp"):
        if column in interactions.columns:
            interactions = parse_number(interactions, inter, column, column)
    names = None
    if list(folder.glob("*.item")):
        path = _only(folder, ".item")
        header = read_lines(path)["text"][0].split("\t")
        title = next(
            (n.split(":")[0] for n in header if "title" in n or "name" in n.split(":")[0]), None
        )
        if title is not None:
            names = _read_atomic(path, {"item_id": "item"}, {title: "name"}).drop("line")
    return RawTables(
        interactions=interactions.drop("line"),
        links=_read_atomic(link, {"item_id": "item", "entity_id": "entity"}, {}).drop("line"),
        triples=_read_atomic(
            kg, {"head_id": "head", "relation_id": "relation", "tail_id": "tail"}, {}
        ).drop("line"),
        item_names=names,
    )


def _only(folder: Path, suffix: str) -> Path:
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DataError(f"{folder}: found {names}, expected one file that ends in {suffix}")
    return found[0]


# ------------------------------------------------------------------ which format is it?


@dataclass(frozen=True)
class Format:
    """A file format, recognised by its files.

    Attributes:
        name: as in ``dataset.format``.
        files: for every file that must be there, the names or patterns that it may have.
        read: from a folder to raw tables.
    """

    name: str
    files: tuple[tuple[str, ...], ...]
    read: Callable[[Path], RawTables]

    def missing(self, folder: Path) -> list[str]:
        """The files that this format needs and the folder lacks."""
        return [
            " or ".join(names)
            for names in self.files
            if not any(any(folder.glob(name)) for name in names)
        ]


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("released_final", (("ratings_final.txt",), ("kg_final.txt",)), read_released_final),
        Format("released_raw", (tuple(_RATINGS), _INDEX, _GRAPH), read_released_raw),
        Format("recbole", (("*.inter",), ("*.kg",), ("*.link",)), read_recbole),
    )
}


def recognise(folder: Path) -> Format:
    """Tells which format a folder is in.

    Raises:
        DataError: none fits; lists what was found and what each format expects.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: found no such folder, expected one with data files")
    for candidate in FORMATS.values():
        if not candidate.missing(folder):
            return candidate
    found = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
    expected = "\n".join(
        f"  {f.name}: {', '.join(' or '.join(names) for names in f.files)}"
        for f in FORMATS.values()
    )
    raise DataError(f"{folder}: found {found}; expected the files of one format:\n{expected}")
