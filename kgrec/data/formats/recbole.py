"""RecBole's atomic files.

``*.inter``, or ``*.train.inter`` and ``*.test.inter`` (and ``*.valid.inter``) for data that come
already split; ``*.link``, ``*.kg`` and, for names, ``*.item``. Fields are separated by tabs;
the header says ``name:type``; fields that are not known are left alone. Rows with label 0 are
negatives.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from kgrec.data.formats.writing import append_rows, unwritable, write_rows
from kgrec.data.raw_tables import PARTS, Counts, RawTables, by_label, named_items
from kgrec.data.text_files import (
    first_line,
    malformed,
    parse_number,
    read_fields,
    read_lines,
    require_ids,
    split_fields,
)
from kgrec.errors import DataError

# RecBole's names of the parts, in the order of PARTS.
PART_FILES = ("train", "valid", "test")

_NUMBERS = ("rating", "timestamp", "label")
_IDS = {"user_id": "user", "item_id": "item"}
_TRIPLE = {"head_id": "head", "relation_id": "relation", "tail_id": "tail"}


def _header(path: Path) -> tuple[int, str, list[str]]:
    number, text = first_line(path)
    return number, text, [name.split(":")[0] for name in text.strip().split("\t")]


def _read_atomic(
    path: Path, wanted: dict[str, str], optional: dict[str, str] | None = None
) -> pl.DataFrame:
    """Reads fields of an atomic file, renamed; only the optional ``name`` may be empty."""
    number, text, header = _header(path)
    missing = [name for name in wanted if name not in header]
    if missing:
        raise malformed(path, number, text, f"a header with the field {missing[0]}")
    if len(set(header)) < len(header):
        raise malformed(path, number, text, "each field once")
    found = wanted | {n: column for n, column in (optional or {}).items() if n in header}
    columns = list(found.values())
    if "name" not in columns and set(found) == set(header):
        kinds = {c: pl.Float64 if c in _NUMBERS else pl.String for c in columns}
        fields = {found[name]: kinds[found[name]] for name in header}
        return read_fields(path, fields, header=True).select(columns)
    lines = read_lines(path)[1:]
    if lines.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    renamed = [found.get(name, f"other field: {name}") for name in header]
    frame = split_fields(lines, path, renamed).select("line", *columns)
    frame = require_ids(frame, path, [c for c in columns if c not in {"name", *_NUMBERS}])
    for column in columns:
        if column in _NUMBERS:
            frame = parse_number(frame, path, column, column)
    return frame.drop("line")


def read(folder: Path) -> RawTables:
    """Reads interactions, whole or split, links, graph and names."""
    frames = []
    for path, part in _inter_files(folder):
        frame = _read_atomic(path, _IDS, {n: n for n in _NUMBERS})
        if "label" in frame.columns and not frame["label"].is_in([0.0, 1.0]).all():
            row = (~frame["label"].is_in([0.0, 1.0])).arg_max() or 0
            line = read_lines(path)["line"][row + 1]
            raise malformed(path, line, f"{frame['label'][row]:g}", "a label, 0 or 1")
        if part is not None:
            frame = frame.with_columns(part=pl.lit(part, dtype=pl.Int8))
        frames.append((path, frame))
    for path, frame in frames[1:]:
        if frame.columns != frames[0][1].columns:
            raise DataError(
                f"{path}: found the fields {', '.join(frame.columns[:-1])}, expected those of "
                f"{frames[0][0].name}: {', '.join(frames[0][1].columns[:-1])}"
            )
    rows = pl.concat([frame for _, frame in frames])
    negatives = None
    if "label" in rows.columns:
        rows, negatives = by_label(rows)
    names = None
    counts: Counts = []
    if list(folder.glob("*.item")):
        path = only(folder, ".item")
        number, text, fields = _header(path)
        if "item_id" not in fields:
            raise malformed(path, number, text, "a header with the field item_id")
        title = next((name for name in fields if "title" in name or "name" in name), None)
        if title is not None:
            names = _read_atomic(path, {"item_id": "item"}, {title: "name"})
            names = named_items(names, path.name, counts)
        else:
            counts.append((f"{path.name} has no field for a title or a name: no names", 1))
    return RawTables(
        interactions=rows,
        negatives=negatives,
        links=_read_atomic(only(folder, ".link"), {"item_id": "item", "entity_id": "entity"}),
        triples=_read_atomic(only(folder, ".kg"), _TRIPLE),
        item_names=names,
        counts=counts,
    )


def _inter_files(folder: Path) -> list[tuple[Path, int | None]]:
    """The interaction files, each with its part."""
    given: list[tuple[Path, int | None]] = []
    for part, name in enumerate(PART_FILES):
        if list(folder.glob(f"*.{name}.inter")):
            given.append((only(folder, f".{name}.inter"), part))
    if not given:
        return [(only(folder, ".inter"), None)]
    whole = set(folder.glob("*.inter")) - {path for path, _ in given}
    if whole:
        raise DataError(
            f"{folder}: found {min(whole).name} beside {given[0][0].name}, expected interactions "
            "either whole or split"
        )
    if {0, 2} - {part for _, part in given}:
        names = ", ".join(path.name for path, _ in given)
        raise DataError(f"{folder}: found {names}, expected a .train.inter and a .test.inter")
    return given


def only(folder: Path, suffix: str) -> Path:
    """The one file of a folder whose name ends so.

    Raises:
        DataError: there is none, or more than one.
    """
    found = sorted(folder.glob(f"*{suffix}"))
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise DataError(f"{folder}: found {names}, expected one file that ends in {suffix}")
    return found[0]


def losses(raw: RawTables) -> list[str]:
    """What these files cannot hold of the given tables."""
    parts = raw.given_parts
    found = unwritable(raw)
    if parts and (missing := sorted({"train", "test"} - set(parts))):
        found.append(f"given splits without a {' and a '.join(missing)} part")
    return found


def write(folder: Path, raw: RawTables, interactions: Iterable[pl.DataFrame]) -> None:
    """Writes interactions, whole or split, links, graph and names, named like the folder."""
    # A stem that ends in .train would make the name of a part.
    stem = folder.name.strip(".").replace(".", "-") or "data"
    numbers = [c for c in ("rating", "timestamp") if c in raw.interactions.columns]
    labelled = raw.negatives is not None
    header = "\t".join(
        ["user_id:token", "item_id:token", *(f"{c}:float" for c in numbers)]
        + (["label:float"] if labelled else [])
    )
    parts = raw.given_parts
    paths: dict[int | None, Path] = {
        PARTS.index(part): folder / f"{stem}.{PART_FILES[PARTS.index(part)]}.inter"
        for part in parts
    } or {None: folder / f"{stem}.inter"}
    for path in paths.values():
        path.write_text(header + "\n", encoding="utf-8")
    for rows in interactions:
        for part, path in paths.items():
            own = rows if part is None else rows.filter(pl.col("part") == part)
            own = own.select("user", "item", *numbers)
            append_rows(path, own.with_columns(label=pl.lit(1)) if labelled else own, "\t")
    if raw.negatives is not None:
        blanks = [pl.lit(0).alias(c) for c in numbers]
        path = next(iter(paths.values()))
        append_rows(path, raw.negatives.select("user", "item", *blanks, label=pl.lit(0)), "\t")
    write_rows(folder / f"{stem}.link", raw.links.select("item", "entity"), "\t",
               "item_id:token\tentity_id:token")  # fmt: skip
    write_rows(folder / f"{stem}.kg", raw.triples.select("head", "relation", "tail"), "\t",
               "head_id:token\trelation_id:token\ttail_id:token")  # fmt: skip
    if raw.item_names is not None and not raw.item_names.is_empty():
        write_rows(folder / f"{stem}.item", raw.item_names.select("item", "name"), "\t",
                   "item_id:token\titem_name:token_seq")  # fmt: skip
