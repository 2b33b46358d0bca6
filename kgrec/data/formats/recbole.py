"""RecBole's atomic files.

``*.inter``, or ``*.train.inter`` and ``*.test.inter`` (and ``*.valid.inter``) for data that come
with a split; ``*.link``, ``*.kg``; for names ``*.item``; for attributes of users ``*.user``. Fields
are separated by tabs; the header says ``name:type``; other fields are not read. Rows with label 0
are negatives. A field of type ``token_seq`` in ``*.kg`` holds several tokens, each of which makes a
triple.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from kgrec.data.field_files import read_fields
from kgrec.data.formats.writing import append_rows, unwritable, write_rows
from kgrec.data.raw_tables import PARTS, Counts, RawTables, by_label, named_items, strip_blanks
from kgrec.data.text_files import (
    first_line,
    header_line,
    malformed,
    parse_number,
    read_lines,
    repeated_header,
    require_ids,
    second_header,
    split_fields,
)
from kgrec.errors import DataError, several

# RecBole's names of the parts, in the order of PARTS.
PART_FILES = ("train", "valid", "test")

MOST_ROWS = 10  # rows for each token, where several columns have several tokens

_NUMBERS = ("rating", "timestamp", "label")
_IDS = {"user_id": "user", "item_id": "item"}
_TRIPLE = {"head_id": "head", "relation_id": "relation", "tail_id": "tail"}


def _header(path: Path, required: Iterable[str]) -> dict[str, str]:
    """The fields of a header, each with its type (empty where the file gives none).

    Raises:
        DataError: the header lacks a required field, has a field twice or is not separated by
            tabs.
    """
    number, text = header_line(path)
    fields = [field.partition(":") for field in text.strip().split("\t")]
    names = [name.strip() for name, _, _ in fields]
    missing = [name for name in required if name not in names]
    if missing:
        expected = f"a header with the field {missing[0]}"
        if len(fields) == 1 and re.search(rf"[\s,;|]{missing[0]}\b|\b{missing[0]}:", text):
            expected = "fields separated by tabs"
        raise malformed(path, number, text, expected)
    if len(set(names)) < len(names):
        raise malformed(path, number, text, "each field once")
    return {name: kind.strip() for name, (_, _, kind) in zip(names, fields, strict=True)}


def _read_atomic(
    path: Path,
    wanted: dict[str, str],
    counts: Counts,
    optional: dict[str, str] | None = None,
    sequences: bool = False,
) -> pl.DataFrame:
    """Reads fields of an atomic file under other names.

    Args:
        path: the file.
        wanted: names of required fields, each with the name of its column.
        counts: the list to which changes of ids are added.
        optional: fields that the file may lack; only a ``name`` may be empty.
        sequences: whether an id field may have the type token_seq; the row is then repeated for
            each token.

    Raises:
        DataError: the file is malformed.
    """
    header = _header(path, wanted)
    fields = wanted | {n: column for n, column in (optional or {}).items() if n in header}
    several_tokens = []
    for field, column in fields.items():
        if column != "name" and header[field].endswith("_seq"):
            if not sequences:
                number, text = first_line(path)
                expected = f"one value in {field}, not the type {header[field]}"
                raise malformed(path, number, text, expected)
            several_tokens.append(column)
    columns = list(fields.values())
    ids = [c for c in columns if c not in {"name", *_NUMBERS}]
    if "name" not in columns and set(fields) == set(header):
        kinds = {c: pl.Float64 if c in _NUMBERS else pl.String for c in columns}
        ordered = {fields[name]: kinds[fields[name]] for name in header}
        frame = read_fields(path, ordered, counts, header=True).select(columns)
    else:
        lines = read_lines(path)
        first, lines = lines[:1], lines[1:]
        if lines.is_empty():
            raise DataError(f"{path}: found a header and no rows, expected rows")
        renamed = [fields.get(name, f"other field: {name}") for name in header]
        names = split_fields(first, path, renamed).drop("line").row(0, named=True)
        frame = split_fields(lines, path, renamed)
        row = repeated_header(frame, names)
        if row is not None:
            raise second_header(path, frame["line"][row])
        frame = frame.select("line", *columns)
        frame = require_ids(frame, path, ids)
        for column in columns:
            if column in _NUMBERS:
                frame = parse_number(frame, path, column, column)
        frame = strip_blanks(frame.drop("line"), ids, path.name, counts)
    for column in several_tokens:
        tokens = pl.col(column).str.replace_all(r"\s+", " ").str.split(" ")
        frame = frame.with_columns(tokens)
    _check_tokens(path, frame, several_tokens)
    for column in several_tokens:
        rows = frame.height
        frame = frame.explode(column)
        counts.append((f"rows added by tokens of {column} in {path.name}", frame.height - rows))
    return frame


def _check_tokens(path: Path, frame: pl.DataFrame, columns: list[str]) -> None:
    """Checks the number of rows once there is one for every combination of the tokens in a row.

    Raises:
        DataError: tokens in several columns make too many.
    """
    if len(columns) < 2:
        return
    sizes = frame.select(pl.col(column).list.len().cast(pl.Float64) for column in columns)
    rows, tokens = float(sizes.fold(lambda a, b: a * b).sum()), int(sizes.sum_horizontal().sum())
    most = MOST_ROWS * tokens + 1_000_000
    if rows > most:
        raise DataError(
            f"{path}: found {tokens:,} tokens that make {rows:,.0f} triples, because "
            f"{several(columns)} have several in a row, expected at most {most:,}"
        )


def read(folder: Path) -> RawTables:
    """Reads interactions, whole or split, links, graph and names."""
    counts: Counts = []
    frames = []
    for path, part in _inter_files(folder):
        frame = _read_atomic(path, _IDS, counts, {n: n for n in _NUMBERS})
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
                f"{path}: found the fields {several(frame.columns[:-1])}, expected those of "
                f"{frames[0][0].name}: {several(frames[0][1].columns[:-1])}"
            )
    rows = pl.concat([frame for _, frame in frames])
    negatives = None
    if "label" in rows.columns:
        rows, negatives = by_label(rows)
    names = None
    if list(folder.glob("*.item")):
        path = only(folder, ".item")
        fields = _header(path, ["item_id"])
        title = next((name for name in fields if "title" in name or "name" in name), None)
        optional = {} if title is None else {title: "name"}
        names = _read_atomic(path, {"item_id": "item"}, counts, optional)
        if title is None:
            names = names.with_columns(name=pl.lit(None, dtype=pl.String))
            counts.append((f"{path.name} has no field for a title or a name: no names", 1))
        names = named_items(names, path.name, counts)
    links = {"item_id": "item", "entity_id": "entity"}
    return RawTables(
        interactions=rows,
        negatives=negatives,
        links=_read_atomic(only(folder, ".link"), links, counts),
        triples=_read_atomic(only(folder, ".kg"), _TRIPLE, counts, sequences=True),
        item_names=names,
        user_columns=_user_columns(folder, counts),
        counts=counts,
    )


def _user_columns(folder: Path, counts: Counts) -> pl.DataFrame | None:
    """``user`` and all columns of the file on users; None where there is none.

    Cells of sequences become lists, and blank cells null.
    """
    if not list(folder.glob("*.user")):
        return None
    path = only(folder, ".user")
    fields = _header(path, ["user_id"])
    columns = ["user" if name == "user_id" else name for name in fields]
    lines = read_lines(path)[1:]
    if lines.is_empty():
        raise DataError(f"{path}: found a header and no rows, expected rows")
    frame = require_ids(split_fields(lines, path, columns), path, ["user"]).drop("line")
    frame = strip_blanks(frame, ["user"], path.name, counts)
    for name, kind in fields.items():
        if name == "user_id":
            continue
        cell = pl.col(name).str.strip_chars()
        cell = pl.when(cell != "").then(cell).alias(name)
        if kind.endswith("_seq"):
            cell = cell.str.replace_all(r"\s+", " ").str.split(" ")
        frame = frame.with_columns(cell)
    return frame


def _inter_files(folder: Path) -> list[tuple[Path, int | None]]:
    """The interaction files, each with its part; None for a file that is not split."""
    given: list[tuple[Path, int | None]] = []
    for part, name in enumerate(PART_FILES):
        if list(folder.glob(f"*.{name}.inter")):
            given.append((only(folder, f".{name}.inter"), part))
    if not given:
        return [(only(folder, ".inter"), None)]
    whole = set(folder.glob("*.inter")) - {path for path, _ in given}
    if whole:
        raise DataError(
            f"{folder}: found {min(whole).name} and {given[0][0].name}, expected interactions "
            "either whole or split"
        )
    if {0, 2} - {part for _, part in given}:
        names = ", ".join(path.name for path, _ in given)
        raise DataError(f"{folder}: found {names}, expected a .train.inter and a .test.inter")
    return given


def only(folder: Path, suffix: str) -> Path:
    """The only file of a folder whose name has the suffix.

    Raises:
        DataError: there is no such file, or more than one.
    """
    paths = sorted(folder.glob(f"*{suffix}"))
    if len(paths) != 1:
        names = several(p.name for p in paths) or "none"
        raise DataError(f"{folder}: found {names}, expected one file that ends in {suffix}")
    return paths[0]


def cannot_hold(raw: RawTables) -> list[str]:
    """Lists the content of raw tables that these files cannot hold."""
    parts = raw.given_parts
    losses = unwritable(raw, user_columns=True) + _unfit_users(raw.user_columns)
    if parts and (missing := sorted({"train", "test"} - set(parts))):
        losses.append(f"given splits without a {' and a '.join(missing)} part")
    return losses


def _unfit_users(users: pl.DataFrame | None) -> list[str]:
    """Columns of users that a file with tabs between fields cannot give back."""
    losses = []
    for name, kind in ({} if users is None else dict(users.schema)).items():
        assert users is not None
        if kind == pl.String:
            cells, pattern = users[name], r"[\t\n\r]|^\s|\s$|^$"
        elif kind == pl.List(pl.String):
            cells, pattern = users[name].explode(), r"\s|^$"
        else:
            losses.append(f"the type {kind} in column {name} of users")
            continue
        if ":" in name or re.search(r"[\t\n\r]", name):
            losses.append(f"the name of column {name!r} of users")
        if cells.str.contains(pattern).any():
            losses.append(f"values of column {name} of users (separators or blanks around them)")
    return losses


def write(folder: Path, raw: RawTables, interactions: Iterable[pl.DataFrame]) -> None:
    """Writes interactions, whole or split, links, graph and names, named like the folder."""
    # A stem that ends in .train would look like the name of a part.
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
    if raw.user_columns is not None and not raw.user_columns.is_empty():
        kinds = raw.user_columns.schema
        lists = [name for name, kind in kinds.items() if kind != pl.String]
        names = ["user_id" if name == "user" else name for name in kinds]
        types = ["token_seq" if name in lists else "token" for name in kinds]
        fields = map(":".join, zip(names, types, strict=True))
        rows = raw.user_columns.with_columns(pl.col(lists).list.join(" "))
        write_rows(folder / f"{stem}.user", rows, "\t", "\t".join(fields))
