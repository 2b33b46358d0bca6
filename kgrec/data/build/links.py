"""Tables of links between items or values of attributes."""

from __future__ import annotations

import polars as pl

from kgrec.data.build.columns import Tables
from kgrec.data.build.plan import ITEM, TripleTable, UserLinkTable
from kgrec.data.build.report import RelationSize, Report
from kgrec.data.build.triples import Triples, entity
from kgrec.data.build.values import clean_texts
from kgrec.errors import DataError, quoted


def read_triples(plan: TripleTable, items: pl.Series, tables: Tables, triples: Triples) -> None:
    """Adds the triples of a table of links.

    Args:
        plan: the columns, and what heads and tails are.
        items: ids of all items; links of others are left out and counted.
        tables: the tables of the plan.
        triples: where the triples are added.

    Raises:
        DataError: a column is missing, or no link is left.
    """
    table = tables.open(plan.table)
    ends = {"head": plan.head_is, "tail": plan.tail_is}
    columns = [
        table.ids(plan.head, "triples.head").alias("head"),
        table.ids(plan.tail, "triples.tail").alias("tail"),
    ]
    if plan.relation_column is not None:
        columns.append(table.ids(plan.relation_column, "triples.relation_column").alias("relation"))
    rows = pl.DataFrame(columns)
    if plan.relation is not None:
        rows = rows.with_columns(relation=pl.lit(plan.relation))
    # Values are cleaned as those of attributes are, so that they are the same entities.
    values = [end for end, kind in ends.items() if kind != ITEM]
    whole = rows.with_columns(clean_texts(rows[end]) for end in values).drop_nulls()
    report, name = triples.report, table.name
    report.warn(f"{name}: rows with a blank, left out", rows.height - whole.height)
    known = whole
    for end, kind in ends.items():
        if kind == ITEM:
            known = known.filter(pl.col(end).is_in(items.implode()))
    report.warn(f"{name}: links of unknown items, left out", whole.height - known.height)
    if known.is_empty():
        raise DataError(
            f"{plan.table}: found no link between known items, expected some (the first row is "
            f"{quoted(table.frame.row(0))}, the first item {quoted(items[0])})"
        )
    triples.add(
        known.select(
            head=entity(plan.head_is, "head"),
            relation="relation",
            tail=entity(plan.tail_is, "tail"),
        ),
        name,
        {} if plan.relation is None else {plan.relation: plan.relation.replace("_", " ")},
    )
    for end, kind in ends.items():
        if kind != ITEM:
            triples.name(known.select(entity=entity(kind, end), name=end, kind=pl.lit(kind)))


def read_user_links(
    plan: UserLinkTable, users: pl.Series, tables: Tables, report: Report
) -> pl.DataFrame:
    """``user, relation, other``: the links of a table between users with interactions, each once.

    Args:
        plan: the columns and the relation.
        users: ids of the users of the interactions; links of others are left out and counted.
        tables: the tables of the plan.
        report: where links are counted.

    Raises:
        DataError: a column is missing, or no link is left.
    """
    table = tables.open(plan.table)
    rows = pl.DataFrame(
        [
            table.ids(plan.user, "user_links.user").alias("user"),
            table.ids(plan.other, "user_links.other").alias("other"),
        ]
    )
    name, whole = table.name, rows.drop_nulls()
    report.warn(f"{name}: rows with a blank, left out", rows.height - whole.height)
    ids = users.implode()
    known = whole.filter(pl.col("user").is_in(ids) & pl.col("other").is_in(ids))
    report.warn(f"{name}: links of users without an interaction, left out",
                whole.height - known.height)  # fmt: skip
    links = known.filter(pl.col("user") != pl.col("other"))
    report.warn(f"{name}: links of a user to the same user, left out", known.height - links.height)
    if links.is_empty():
        raise DataError(
            f"{plan.table}: found no link between users with interactions, expected some (the "
            f"first row is {quoted(table.frame.row(0))}, the first user {quoted(users[0])})"
        )
    links = links.unique(maintain_order=True)
    sizes = links["user"].n_unique(), links["other"].n_unique(), links.height
    report.relations.append(RelationSize(plan.relation, name, *sizes))
    return links.select("user", pl.lit(plan.relation).alias("relation"), "other")
