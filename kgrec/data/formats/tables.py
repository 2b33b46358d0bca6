"""Plain tables with named columns: CSV, TSV or Parquet.

``interactions.*`` (user, item; optionally rating, timestamp, label, split), or ``train.*`` and
``test.*`` (and ``val.*``) for data that come already split; ``triples.*`` (head, relation, tail);
optionally ``links.*`` (item, entity) and ``items.*`` (item, name). Without links an item is the
entity of the same id. Columns go by their usual names (:data:`NAMES`) or by those that the user
gives; others are left alone and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import polars as pl

from kgrec.data.csv_files import SEPARATORS, header_fields, line_of, read_csv
from kgrec.data.formats.writing import blank, id_columns, without_rows, write_table
from kgrec.data.raw_tables import PARTS, TRIPLE, Counts, RawTables, by_label, named_items
from kgrec.data.text_files import first_line
from kgrec.errors import ConfigError, DataError

SUFFIXES = (".csv", ".tsv", ".parquet")
PART_FILES = (("train",), ("val", "valid", "validation"), ("test",))

# Columns by the names that people give them, written small and without anything but letters.
NAMES = {
    "user": ("user", "userid", "uid"),
    "item": ("item", "itemid", "iid", "movieid", "bookid", "artistid", "isbn", "asin"),
    "rating": ("rating", "stars", "score", "weight"),
    "timestamp": ("timestamp", "time", "ts", "date", "datetime"),
    "label": ("label",),
    "split": ("split", "part"),
    "head": ("head", "headid", "h", "subject"),
    "relation": ("relation", "relationid", "r", "predicate"),
    "tail": ("tail", "tailid", "t", "object"),
    "entity": ("entity", "entityid"),
    "name": ("name", "title", "itemname", "movietitle"),
}
_SPLIT_VALUES = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


class _Table:
    """One file: its columns by our names, and how to tell the line of a row.

    Args:
        path: of the file.
        wanted: our names of the columns, and whether they must be there.
        given: the file's own names of some.
        headless: the file has no header; its columns are what is wanted, in this order.
        beside: the file stands beside the interactions, and may call items otherwise.
    """

    def __init__(
        self,
        path: Path,
        wanted: Mapping[str, bool],
        given: Mapping[str, str],
        headless: bool = False,
        beside: bool = False,
    ) -> None:
        self.path, self.header = path, not headless
        if beside:
            given = {name: column for name, column in given.items() if name != "item"} | (
                {"item": given["item"]} if given.get("item") in _fields(path) else {}
            )
        self.separator = ""
        if path.suffix == ".parquet":
            try:
                self.frame = pl.read_parquet(path, glob=False)
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                raise DataError(f"{path}: {error}; expected a whole Parquet file") from None
            if self.frame.is_empty():
                raise DataError(f"{path}: found no rows, expected rows")
        else:
            self.separator = self._separator(wanted, given, headless)
            self.frame = read_csv(path, self.separator, list(wanted) if headless else None)
        self.columns = _choose(path, self.frame.columns, wanted, given)
        self.unused = [c for c in self.frame.columns if c not in self.columns.values()]

    def _separator(
        self, wanted: Mapping[str, bool], given: Mapping[str, str], headless: bool
    ) -> str:
        """The separator with which the header names the most of what is wanted."""
        _, text = first_line(self.path)

        def known(separator: str) -> int:
            fields = header_fields(text, separator)
            if headless:
                return len(fields) == len(wanted)
            return sum(bool(_matches(fields, name, given)) for name in wanted)

        return max(SEPARATORS, key=known)

    def row(self, index: int) -> str:
        """Where a row stands, for messages."""
        if not self.separator:
            return f"{self.path}: row {index + 1}"
        return f"{self.path}:{line_of(self.path, self.separator, self.header, index)}"

    def first(self, wrong: pl.Series) -> str:
        """Where the first row stands for which ``wrong`` holds."""
        return self.row(int(wrong.arg_max() or 0))

    def values(self, name: str, expected: str, *others: type[pl.DataType]) -> pl.Series:
        """A column of strings or numbers, categories as strings, or of one of other types."""
        values = self.frame[self.columns[name]]
        kind = values.dtype
        if kind == pl.Categorical or isinstance(kind, pl.Enum):
            return values.cast(pl.String)
        if not (kind == pl.String or kind.is_float() or kind.is_integer() or kind in others):
            raise DataError(
                f"{self.path}: found the type {kind} in column {self.columns[name]}, expected "
                f"{expected}"
            )
        return values

    def ids(self, name: str, counts: Counts) -> pl.Series:
        """A column of ids as strings."""
        values = self.values(name, f"whole numbers or strings ({name})")
        if values.dtype.is_float():
            whole = (values == values.round()) & (values.abs() < 2**53)
            wrong = values.is_not_null() & ~whole.fill_null(False)
            if wrong.any():
                raise DataError(
                    f"{self.first(wrong)}: found {values.filter(wrong)[0]} as {name}, "
                    "expected a whole number or a string"
                )
            values = values.cast(pl.Int64)
        values = values.cast(pl.String)
        empty = (values.str.strip_chars() == "").fill_null(True)
        if empty.any():
            raise DataError(f"{self.first(empty)}: found '', expected a value for {name}")
        if _written_as_floats(values):
            values = values.str.strip_suffix(".0")
            where = f"column {self.columns[name]} of {self.path.name}"
            counts.append((f"ids in {where} written as 42.0, read as 42", len(values)))
        return values.alias(name)

    def numbers(self, name: str) -> pl.Series:
        """A column of finite numbers; times may be dates too."""
        expected = "numbers or dates" if name == "timestamp" else "numbers"
        dates = (pl.Date, pl.Datetime) if name == "timestamp" else ()
        values = self.values(name, f"{expected} ({name})", pl.Boolean, pl.Decimal, *dates)
        found = _seconds(values) if name == "timestamp" else _numbers(values)
        wrong = (~found.is_finite()).fill_null(True)
        if wrong.any():
            was = values.filter(wrong)[0]
            raise DataError(f"{self.first(wrong)}: found {was!r}, expected {expected} ({name})")
        return found.alias(name)

    def chosen(self, name: str, values: Mapping[str, int], expected: str) -> pl.Series:
        """A column of names out of a few, as numbers."""
        column = self.values(name, expected, pl.Boolean).cast(pl.String)
        small = column.str.strip_chars().str.to_lowercase()
        found = small.replace_strict(values, default=None, return_dtype=pl.Int8)
        wrong = found.is_null()
        if wrong.any():
            was = column.filter(wrong)[0]
            raise DataError(f"{self.first(wrong)}: found {was!r}, expected {expected}")
        return found.alias(name)


def _written_as_floats(ids: pl.Series) -> bool:
    """Whether all are like 42.0, which pandas makes of 42 where a column has gaps."""
    return ids.str.contains(r"^(?:0|-?[1-9][0-9]*)\.0$").all()


def _numbers(values: pl.Series) -> pl.Series:
    """Null where a value is no number."""
    if values.dtype == pl.String:
        values = values.str.strip_chars()
    return values.cast(pl.Float64, strict=False)


def _seconds(values: pl.Series) -> pl.Series:
    """Seconds since 1970 of numbers, or of dates; dates in strings begin with year-month-day."""
    if values.dtype == pl.String:
        numbers = _numbers(values)
        iso = values.str.contains(r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}")
        if not iso.any():
            return numbers
        dates = values.set(~iso.fill_null(False), None).str.strip_chars()
        values = dates.str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    if values.dtype.is_temporal():
        return values.cast(pl.Datetime("us")).dt.timestamp("us") / 1e6
    return _numbers(values)


def _plain(column: str) -> str:
    """``userId``, ``User-ID`` and ``user_id:token`` are all ``userid``."""
    return re.sub("[^a-z]", "", column.split(":", maxsplit=1)[0].lower())


def _fields(path: Path) -> list[str]:
    """Every name that the header of a table may be read as."""
    if path.suffix == ".parquet":
        try:
            return list(pl.read_parquet_schema(path))
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            return []  # which reading it will explain
    _, text = first_line(path)
    return [field for separator in SEPARATORS for field in header_fields(text, separator)]


def _matches(fields: list[str], name: str, given: Mapping[str, str]) -> list[str]:
    if name in given:
        return [field for field in fields if field == given[name]]
    return [field for field in fields if _plain(field) in NAMES[name]]


def _choose(
    path: Path, fields: list[str], wanted: Mapping[str, bool], given: Mapping[str, str]
) -> dict[str, str]:
    """Our name to the file's, for every column that is there."""
    chosen = {}
    for name, required in wanted.items():
        found = _matches(fields, name, given)
        if len(found) > 1:
            raise DataError(
                f"{path}: found the columns {', '.join(found)}, expected one for {name}; say which "
                f"with dataset.columns.{name}="
            )
        if found:
            chosen[name] = found[0]
        elif required or name in given:
            expected = given.get(name) or " or ".join(NAMES[name][:2])
            raise DataError(
                f"{path}: found the columns {', '.join(fields)}, expected one for {name} "
                f"({expected}); say which with dataset.columns.{name}="
            )
    for name, column in chosen.items():
        other = next(n for n, c in chosen.items() if c == column)
        if other != name:
            raise DataError(f"{path}: found column {column} for {other} and for {name}, expected "
                            "one for each")  # fmt: skip
    return chosen


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
        table = _Table(path, {**_INTERACTIONS, **split}, given)
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
        table = _Table(links, {"item": True, "entity": True}, given, beside=True)
        linked = pl.DataFrame([table.ids("item", counts), table.ids("entity", counts)])
        _count_unused(table, counts)
    else:
        ends = pl.concat([triples["head"], triples["tail"]]).unique()
        linked = rows.select("item").unique(maintain_order=True)
        linked = linked.filter(pl.col("item").is_in(ends.implode())).with_columns(entity="item")
        counts.append(("no links file: items that are the entity of the same id", linked.height))
    names = None
    if (path := _one(folder, "items")) is not None:
        table = _Table(path, {"item": True, "name": True}, given, beside=True)
        name = table.values("name", "strings (name)").cast(pl.String).alias("name")
        names = named_items(pl.DataFrame([table.ids("item", counts), name]), path.name, counts)
        _count_unused(table, counts)
    return RawTables(rows, linked, triples, negatives, names, counts)


def _interactions(table: _Table, counts: Counts) -> pl.DataFrame:
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


def _count_unused(table: _Table, counts: Counts) -> None:
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
            _matches(fields, name, {}) for fields in headers for name in TRIPLE
        )
    if headless:
        counts.append((f"{path.name} has no header: read as head, relation, tail", 1))
    table = _Table(path, dict.fromkeys(TRIPLE, True), given, headless)
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
            if _written_as_floats(table[c])
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
