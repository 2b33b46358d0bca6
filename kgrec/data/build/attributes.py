"""Attributes of items and users: one triple for each value of an item."""

from __future__ import annotations

import polars as pl

from kgrec.data.build.columns import UserTable
from kgrec.data.build.plan import ITEM, Attribute, AttributeTable
from kgrec.data.build.report import Report
from kgrec.data.build.triples import Triples, entity
from kgrec.data.build.values import attribute_values
from kgrec.errors import DataError, quoted, several

ONE_VALUE = 0.99  # share of the items with one value, from which an attribute tells nothing


def read_owners(
    table: UserTable, column: str, key: str, report: Report, repeats: bool = False
) -> pl.Series:
    """The ids of a table of items or users, null in rows without one; these are counted.

    Args:
        table: the table.
        column: its column of ids.
        key: the key of build.yaml that names the column.
        report: where rows are counted.
        repeats: whether an id in several rows is as it should be.

    Raises:
        DataError: no row has an id.
    """
    ids = table.ids(column, key)
    if ids.null_count() == len(ids):
        raise DataError(f"{table.path}: found no id in column {column} ({key}), expected some")
    name = table.name
    report.warn(f"{name}: rows without {column}, left out", ids.null_count())
    repeated = len(ids) - ids.null_count() - ids.drop_nulls().n_unique()
    if not repeats:
        what = f"{name}: rows with the {column} of an earlier row: their values are joined"
        report.warn(what, repeated)
    return ids


def read_attributes(
    plan: AttributeTable,
    table: UserTable,
    owners: pl.Series,
    items: pl.Series,
    missing: tuple[str, ...],
    triples: Triples,
    owner_kind: str = ITEM,
) -> None:
    """Adds the triples of every attribute of a table.

    Args:
        plan: the attributes.
        table: the table.
        owners: id of the item or user of each row, or null.
        items: ids of all items; values that should be items and are not are left out and counted.
        missing: texts that stand for a missing value.
        triples: where the triples are added.
        owner_kind: kind of the owners.

    Raises:
        DataError: a column is missing, cannot be read, or should have items and has none.
    """
    report, total = triples.report, owners.drop_nulls().n_unique()
    for attribute in plan.attributes:
        key = f"attributes.{attribute.column}"
        cells = table.column(attribute.column, key)
        values = attribute_values(
            owners, cells, attribute, missing, table.name, report
        ).drop_nulls("owner")  # fmt: skip
        where = f"{table.name}: {attribute.column}"
        if attribute.entities == ITEM:
            values = _known_items(values, items, table, attribute, report)
        if values.is_empty():
            report.warn(f"{where}: column without a value, left out", 1)
            continue
        _warn(values, attribute, where, total, "items" if owner_kind == ITEM else "users", report)
        rows = values.select(
            head=entity(owner_kind, "owner"),
            relation=pl.lit(attribute.relation),
            tail=entity(attribute.entities, "value"),
        )
        triples.add(rows, where, {attribute.relation: attribute.label})
        if attribute.entities != ITEM:
            triples.name(
                values.select(
                    entity=entity(attribute.entities, "value"), name="name",
                    kind=pl.lit(attribute.entities),
                )
            )  # fmt: skip


def _known_items(
    values: pl.DataFrame, items: pl.Series, table: UserTable, attribute: Attribute, report: Report
) -> pl.DataFrame:
    """The values that are known items; counts the others."""
    known = values.filter(pl.col("value").is_in(items.implode()))
    if known.is_empty() and not values.is_empty():
        raise DataError(
            f"{table.path}: found no known item in column {attribute.column}, expected some, "
            f"because its values are items (the first value is {quoted(values['value'][0])}, the "
            f"first item {quoted(items[0])})"
        )
    report.warn(f"{table.name}: {attribute.column}: values that are unknown items, left out",
                values.height - known.height)  # fmt: skip
    return known


def _warn(
    values: pl.DataFrame, attribute: Attribute, where: str, total: int, owners: str, report: Report
) -> None:
    """Counts what makes an attribute useless or unclear."""
    sizes = values.group_by("value").agg(pl.col("owner").n_unique().alias("owners"))
    single = sizes.filter(pl.col("owners") == 1).height
    if total > 1 and single == sizes.height and values["owner"].n_unique() == total:
        report.warn(f"{where}: another value for each of the {owners}, so that it connects none "
                    "(leave it out)", single)  # fmt: skip
    elif single * 2 > sizes.height and single > 10:
        hint = " (a number? bins: 5 joins near ones)" if _numeric(values["value"]) else ""
        report.warn(f"{where}: of {sizes.height:,} values, those of one of the {owners} alone, "
                    f"which connect none{hint}", single)  # fmt: skip
    most = sizes["owners"].max()
    if isinstance(most, int) and total > 1 and most >= ONE_VALUE * total:
        part = f"{100 * most / total:.1f} %"
        report.warn(f"{where}: one value on {part} of the {owners}, so that it tells little",
                    most)  # fmt: skip
    if not attribute.bins and not attribute.edges:
        spelled = sizes.group_by(pl.col("value").str.to_lowercase()).agg(pl.col("value").alias("v"))
        alike = spelled.filter(pl.col("v").list.len() > 1)["v"].list.sort().sort()
        if len(alike):
            report.warn(f"{where}: values that differ by case alone, kept apart "
                        f"({several(alike[0])})", len(alike))  # fmt: skip


def _numeric(values: pl.Series) -> bool:
    return bool(values.cast(pl.Float64, strict=False).is_not_null().all())
