"""Interactions from a user's table: rows without ids left out, repeats counted."""

from __future__ import annotations

import polars as pl

from kgrec.data.build.columns import Tables, UserTable
from kgrec.data.build.plan import InteractionTable
from kgrec.data.build.report import Report
from kgrec.errors import DataError


def read_interactions(plan: InteractionTable, tables: Tables, report: Report) -> pl.DataFrame:
    """The interactions, in the order of the table.

    A pair that occurs in several rows stays in several rows: the preparation merges them. Where
    the plan has ``min_count``, the pairs with a smaller sum of quantities are left out. Where it
    has ``weight``, the rows of a pair are merged into one row with the sum of their weights.

    Returns:
        ``user, item`` and, where the plan names them, ``rating``, ``timestamp``, and ``quantity``
        or ``weight``.

    Raises:
        DataError: a column is missing, a cell cannot be read, or no row is left.
    """
    table = tables.open(plan.table)
    name = table.name
    columns = [
        table.ids(plan.user, "interactions.user"),
        table.ids(plan.item, "interactions.item"),
    ]
    if plan.rating:
        columns.append(table.numbers(plan.rating, "interactions.rating"))
    if plan.timestamp:
        columns.append(table.numbers(plan.timestamp, "interactions.timestamp", times=True))
    if plan.quantity:
        columns.append(table.numbers(plan.quantity, "interactions.quantity"))
    rows = pl.DataFrame(columns)
    for column in ("user", "item", "rating", "timestamp"):
        if column not in rows.columns:
            continue
        report.warn(f"{name}: rows without {getattr(plan, column)}, left out",
                    rows[column].null_count())  # fmt: skip
        rows = rows.drop_nulls(column)
    if "quantity" in rows.columns:
        blank = rows["quantity"].null_count()
        report.warn(f"{name}: rows without {plan.quantity}, taken as 1", blank)
        rows = rows.with_columns(pl.col("quantity").fill_null(1.0))
    if rows.is_empty():
        raise DataError(f"{table.path}: found no row with a user and an item, expected some")
    rows = _counted(rows, plan, table, report)
    return rows if plan.weight is None else _weighted(rows, plan, table, report)


def _counted(
    rows: pl.DataFrame, plan: InteractionTable, table: UserTable, report: Report
) -> pl.DataFrame:
    """Counts repeats, and leaves out the pairs below ``min_count``."""
    name = table.name
    amount = pl.col("quantity").sum() if "quantity" in rows.columns else pl.len()
    rows = rows.with_columns(amount.over("user", "item").alias("amount"))
    if "quantity" in rows.columns and plan.weight != "quantity":
        nothing = rows.filter(pl.col("amount") <= 0).select("user", "item").n_unique()
        report.warn(f"{name}: user-item pairs with a sum of {plan.quantity} of 0 or less (returned?"
                    "; min_count: 1 leaves them out)" if not plan.min_count else
                    f"{name}: user-item pairs with a sum of {plan.quantity} of 0 or less",
                    nothing)  # fmt: skip
    if plan.min_count is not None:
        pairs = rows.select("user", "item").n_unique()
        kept = rows.filter(pl.col("amount") >= plan.min_count)
        if kept.is_empty():
            raise DataError(
                f"{table.path}: found no user-item pair with a count of at least "
                f"{plan.min_count:g} (interactions.min_count), expected some; the largest is "
                f"{rows.select(pl.max('amount')).item():g}"
            )
        report.add(f"{name}: user-item pairs with a count below {plan.min_count:g}, left out "
                   "(min_count)", pairs - kept.select("user", "item").n_unique())  # fmt: skip
        rows = kept
    repeats = rows.height - rows.select("user", "item").n_unique()
    line = f"{name}: repeats of a user-item pair"
    if plan.weight is not None:
        line += ", merged"
    elif plan.min_count is None:
        line += ("; a pair is one positive however often it occurs (min_count: 2 keeps repeated "
                 "pairs alone, weight: repeats counts them)")  # fmt: skip
    else:
        line += "; a pair is one positive"
    report.add(line, repeats)
    if "rating" in rows.columns:
        low, high = rows.select(pl.min("rating").alias("low"), pl.max("rating")).row(0)
        if low < high:
            report.warn(f"{name}: ratings from {low:g} to {high:g}; all are positives unless you "
                        "train with dataset.min_rating=NUMBER", rows.height)  # fmt: skip
    return rows.drop("amount")


def _weighted(
    rows: pl.DataFrame, plan: InteractionTable, table: UserTable, report: Report
) -> pl.DataFrame:
    """One row for each pair: its weight, its earliest time and its highest rating."""
    name = table.path.name
    weight = pl.len().cast(pl.Float64) if plan.weight == "repeats" else pl.col("quantity").sum()
    kept = [pl.min("timestamp")] if plan.timestamp else []
    if plan.rating:
        kept = [pl.max("rating"), *kept]
        several = pl.n_unique("rating").over("user", "item") > 1
        count = rows.filter(several).select("user", "item").n_unique()
        report.warn(f"{name}: user-item pairs with several ratings, the highest kept", count)
    pairs = rows.group_by("user", "item", maintain_order=True).agg(*kept, weight.alias("weight"))
    rows = pairs.filter(pl.col("weight") > 0)
    report.warn(f"{name}: user-item pairs with a sum of {plan.quantity} of 0 or less, left out "
                "(returned?): a weight must be above 0", pairs.height - rows.height)  # fmt: skip
    if rows.is_empty():
        raise DataError(f"{table.path}: found no user-item pair with a sum of {plan.quantity} "
                        "above 0, expected some, because of weight: quantity")  # fmt: skip
    low, high = rows.select(pl.min("weight").alias("low"), pl.max("weight")).row(0)
    line = (f"{name}: user-item pairs with a weight other than 1 ({low:g} to {high:g}); "
            "dataset.weights=use trains on pairs in proportion to their weights")  # fmt: skip
    report.add(line, int((rows["weight"] != 1).sum()))
    return rows
