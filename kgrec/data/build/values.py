"""Values of an attribute: from the cells of a column to entities of the graph."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl

from kgrec.data.build.columns import clean_ids, has_texts, parse_numbers
from kgrec.data.build.plan import ITEM, Attribute
from kgrec.data.build.report import Report
from kgrec.errors import DataError, several

YEAR = r"(?:^|[^0-9])([12][0-9]{3})(?:[^0-9]|$)"


def attribute_values(
    owners: pl.Series, cells: pl.Series, attribute: Attribute, missing: tuple[str, ...],
    table: str, report: Report,
) -> pl.DataFrame:  # fmt: skip
    """The values of a column, one row for each owner and value.

    Args:
        owners: id of the item or user of each row.
        cells: the column.
        attribute: how the cells become values.
        missing: texts that stand for a missing value.
        table: the table, for messages and counts.
        report: where cells without a usable value are counted.

    Returns:
        ``owner, value, name``: the value as in the id of its entity, and for people.

    Raises:
        DataError: most cells cannot be read as the attribute wants.
    """
    rows = pl.DataFrame({"owner": owners, "cell": _text_cells(cells, attribute, table)})
    if rows["cell"].dtype == pl.List:
        rows = rows.explode("cell", empty_as_null=True)
    if attribute.separator is not None:
        rows = rows.with_columns(pl.col("cell").str.split(attribute.separator)).explode(
            "cell", empty_as_null=True
        )
    raw = rows["cell"]
    # A value that is an item is cleaned as ids of items are, so that it is the same item.
    clean = clean_ids(raw) if attribute.entities == ITEM else clean_texts(raw)
    rows = rows.with_columns(clean.alias("cell")).filter(
        pl.col("cell").is_not_null() & (pl.col("cell") != "")
        & ~pl.col("cell").is_in(list(missing))
    )  # fmt: skip
    where = f"{table}: {attribute.column}"
    if attribute.entities != ITEM:
        changed = raw.str.strip_chars().drop_nulls().n_unique() - clean.drop_nulls().n_unique()
        what = f"{where}: spellings that differ by blanks or Unicode form alone, merged"
        report.add(what, changed)
    if attribute.bins or attribute.edges:
        return _binned(rows, attribute, where, report)
    if attribute.date:
        return _dated(rows, attribute, where, report)
    return rows.select("owner", value="cell", name="cell")


def clean_texts(texts: pl.Series) -> pl.Series:
    """Texts with blanks and Unicode forms made alike."""
    return texts.str.normalize("NFC").str.replace_all(r"\s+", " ").str.strip_chars()


def _text_cells(cells: pl.Series, attribute: Attribute, table: str) -> pl.Series:
    """Cells as strings, or as lists of strings."""
    kind = cells.dtype
    if isinstance(kind, pl.List | pl.Array):
        if attribute.separator is not None:
            raise DataError(f"{table}: found lists in column {attribute.column}, expected no "
                            "separator for it")  # fmt: skip
        if not has_texts(kind.inner):
            raise _no_texts(cells, attribute, table)
        inner = pl.element()
        if kind.inner.is_float():
            inner = _plain_number(inner)
        return cells.cast(pl.List(kind.inner)).list.eval(inner.cast(pl.String))
    if not has_texts(kind):
        raise _no_texts(cells, attribute, table)
    if kind.is_float():
        return cells.to_frame("cell").select(_plain_number(pl.col("cell")))["cell"]
    return cells.cast(pl.String)


def _no_texts(cells: pl.Series, attribute: Attribute, table: str) -> DataError:
    return DataError(
        f"{table}: found the type {cells.dtype} in column {attribute.column}, expected texts, "
        "numbers or lists of them"
    )


def _plain_number(number: pl.Expr) -> pl.Expr:
    """A float as text, without ``.0`` where it is whole, null where it is none."""
    text = number.fill_nan(None).cast(pl.String)
    return text.str.strip_suffix(".0")


def _readable(rows: pl.DataFrame, good: pl.Series, where: str, what: str, report: Report) -> None:
    """Counts the cells that cannot be read.

    Raises:
        DataError: they are more than half of all.
    """
    bad = rows.filter(~good)
    if bad.is_empty():
        return
    shown = several(bad["cell"].unique().sort()[:3])
    if bad.height * 2 > rows.height:
        raise DataError(
            f"{where}: found {bad.height:,} of {rows.height:,} values that are no {what} "
            f"({shown}), expected {what}, because of its bins, edges or date"
        )
    report.warn(f"{where}: values that are no {what}, left out ({shown})", bad.height)


def _binned(
    rows: pl.DataFrame, attribute: Attribute, where: str, report: Report
) -> pl.DataFrame:  # fmt: skip
    numbers = parse_numbers(rows["cell"])
    good = numbers.is_not_null()
    _readable(rows, good, where, "numbers", report)
    values, owners = numbers.filter(good).to_numpy(), rows["owner"].filter(good)
    if not len(values):
        return _no_values()
    if attribute.edges:
        edges = list(attribute.edges)
        # The ids are made of the limits: rows that are added later do not change them.
        ids = [f"below {_exact(edges[0])}"]
        ids += [f"{_exact(a)} to {_exact(b)}" for a, b in pairwise(edges)]
        ids += [f"{_exact(edges[-1])} or more"]
        numbers_of_bins = np.searchsorted(edges, values, side="right")
        names = ids
    else:
        k = attribute.bins or 2
        edges = np.quantile(values, np.arange(1, k) / k).tolist()
        numbers_of_bins = np.searchsorted(edges, values, side="left")
        # The ids are made of the ranks: the limits move with the values, the ids do not.
        ids = [f"{i + 1}/{k}" for i in range(k)]
        names = [_range(values[numbers_of_bins == i]) for i in range(k)]
        empty = sum(name == "" for name in names)
        report.warn(f"{where}: quantile bins without a value, because many values are equal", empty)
    return pl.DataFrame(
        {
            "owner": owners,
            "value": pl.Series([ids[i] for i in numbers_of_bins], dtype=pl.String),
            "name": pl.Series([names[i] for i in numbers_of_bins], dtype=pl.String),
        }
    )


def _range(values: np.ndarray) -> str:
    """The least and the largest number, for people; empty where there is none."""
    if not len(values):
        return ""
    low, high = _exact(values.min()), _exact(values.max())
    return low if low == high else f"{low} to {high}"


def _exact(number: float) -> str:
    """The shortest text that stands for this number and no other."""
    return repr(float(number)).removesuffix(".0")


def _dated(rows: pl.DataFrame, attribute: Attribute, where: str, report: Report) -> pl.DataFrame:
    year = rows["cell"].str.extract(YEAR)
    good = year.is_not_null()
    _readable(rows, good, where, "dates with a year of four digits", report)
    value = year.filter(good)
    if attribute.date == "decade":
        value = value.str.slice(0, 3) + "0s"
    return pl.DataFrame({"owner": rows["owner"].filter(good), "value": value, "name": value})


def _no_values() -> pl.DataFrame:
    return pl.DataFrame(schema={"owner": pl.String, "value": pl.String, "name": pl.String})
