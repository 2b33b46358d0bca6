"""The user graph: users, values of their attributes, and links between users, with integer ids.

Columns of a table of users become attributes as ``kgrec data build --guess`` would choose: numbers
in quantile bins, dates by year or decade, lists of values apart, ids and texts left out. A value
that one user alone has connects no users, so it is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import polars as pl

from kgrec.data.account import Account
from kgrec.data.build.plan import USER_PREFIX, Attribute
from kgrec.data.build.profile import choose
from kgrec.data.build.report import Report
from kgrec.data.build.values import attribute_values
from kgrec.data.interaction_numbers import to_tensor
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.raw_tables import TRIPLE, RawTables
from kgrec.errors import DataError, quoted

ATTRIBUTES = ("user", "relation", "entity")
LINKS = ("user", "relation", "other")
STEP = "user graph"


def user_tables(raw: RawTables) -> list[pl.DataFrame]:
    """The tables of which the user graph is made."""
    tables = (raw.user_columns, raw.user_attributes, raw.user_links)
    return [table for table in tables if table is not None]


class UserGraph(NamedTuple):
    """The user graph and its raw ids.

    Attributes:
        graph: users are the entities 0 … num_users - 1.
        entities: ``entity, name`` of the users, then of the values.
        relations: ``relation, name``.
    """

    graph: KnowledgeGraph
    entities: pl.DataFrame
    relations: pl.DataFrame


def number_user_graph(raw: RawTables, users: pl.Series, account: Account, place: str) -> UserGraph:
    """Gives the entities and relations of the user graph numbers, and counts what is left out.

    Args:
        raw: tables of string ids.
        users: raw ids of the users, in the order of their numbers.
        account: where rows are counted.
        place: source of the tables, for messages.

    Raises:
        DataError: there are no attributes and no links, or none connects users.
    """
    if not user_tables(raw):
        raise DataError(
            f"dataset.user_graph: found no table of users in {place}, expected users.csv, "
            "user_attributes.csv, user_links.csv or, in RecBole's format, a *.user file"
        )
    attributes, names = user_attributes(raw, account)
    links = raw.user_links
    known = users.implode()
    triples = [pl.DataFrame(schema=dict.fromkeys(TRIPLE, pl.String) | {"is_user": pl.Boolean})]
    if attributes is not None:
        rows = attributes.unique(maintain_order=True)
        account.add(STEP, "values of attributes of users, read", rows.height)
        rows = _counted(rows, pl.col("user").is_in(known), account,
                        "values of users without a positive, dropped")  # fmt: skip
        shared = pl.col("user").n_unique().over("entity") > 1
        rows = _counted(rows, shared, account, "values that one user alone has, dropped")
        triples.append(rows.select(head="user", relation="relation", tail="entity",
                                   is_user=pl.lit(False)))  # fmt: skip
    if links is not None:
        rows = links.select(LINKS).unique(maintain_order=True)
        account.add(STEP, "links between users, read", rows.height)
        both = pl.col("user").is_in(known) & pl.col("other").is_in(known)
        rows = _counted(rows, both, account, "links of users without a positive, dropped")
        rows = _counted(rows, pl.col("user") != pl.col("other"), account,
                        "links of a user to the same user, dropped")  # fmt: skip
        triples.append(rows.select(head="user", relation="relation", tail="other",
                                   is_user=pl.lit(True)))  # fmt: skip
    rows = pl.concat(triples)
    if rows.is_empty():
        raise DataError(
            f"dataset.user_graph: found no attribute that two users of {place} share and no link "
            "between them, expected at least one (the first user is "
            f"{quoted(users[0] if len(users) else 'missing')})"
        )
    graph = _numbered(rows, users, raw, names)
    alone = len(users) - int(graph.graph.connected()[: len(users)].sum())
    account.add(STEP, "users without a neighbour in the user graph, kept", alone)
    return graph


def user_attributes(raw: RawTables, account: Account) -> tuple[pl.DataFrame | None, dict[str, str]]:
    """``user, relation, entity`` of all attributes, or None; and names of the values of columns.

    Args:
        raw: tables of string ids.
        account: where columns that are left out, and cells without a usable value, are counted.
    """
    frames: list[pl.DataFrame] = []
    names: dict[str, str] = {}
    if raw.user_attributes is not None:
        frames.append(raw.user_attributes.select(ATTRIBUTES))
    if (table := raw.user_columns) is not None:
        report = Report()
        for column in table.columns:
            if column == "user":
                continue
            choice = choose(column, table[column], "users")
            if choice.settings is None:
                account.add(STEP, f"column of users not used: {column} ({choice.comment})", 1)
                continue
            kind = USER_PREFIX + column
            attribute = Attribute(column, kind, kind, column, **choice.settings)  # type: ignore[arg-type]
            values = attribute_values(
                table["user"], table[column], attribute, choice.missing, "users", report
            )
            ids = values.with_columns(entity=pl.lit(f"{kind}=") + pl.col("value"))
            names |= dict(ids.select("entity", "name").iter_rows())
            frames.append(ids.select(user="owner", relation=pl.lit(kind), entity="entity"))
            account.add(STEP, f"values of {column} ({choice.comment})", ids["entity"].n_unique())
        for what, count in report.warnings:
            account.add(STEP, what, count, changes=True)
        for what, count in report.counts:
            account.add(STEP, what, count)
    return (pl.concat(frames) if frames else None), names


def _counted(rows: pl.DataFrame, kept: pl.Expr, account: Account, line: str) -> pl.DataFrame:
    """The rows for which an expression holds; the others are counted."""
    left = rows.filter(kept)
    account.add(STEP, line, rows.height - left.height, changes=True)
    return left


def _numbered(
    rows: pl.DataFrame, users: pl.Series, raw: RawTables, names: dict[str, str]
) -> UserGraph:
    """The graph of triples ``head, relation, tail, is_user``, whose heads are users."""
    numbers = pl.DataFrame({"id": users, "node": pl.int_range(len(users), eager=True)})
    values = rows.filter(~pl.col("is_user"))["tail"].unique(maintain_order=True)
    of_values = pl.DataFrame(
        {"id": values, "node": len(users) + pl.int_range(len(values), eager=True)}
    )
    tails = pl.concat(
        [numbers.with_columns(is_user=pl.lit(True)), of_values.with_columns(is_user=pl.lit(False))]
    )
    relations = rows["relation"].unique(maintain_order=True)
    by_name = pl.DataFrame({"relation": relations}).with_row_index("relation_id")
    numbered = (
        rows.join(numbers, left_on="head", right_on="id", maintain_order="left")
        .join(tails, left_on=["tail", "is_user"], right_on=["id", "is_user"],
              maintain_order="left", suffix="_tail")
        .join(by_name, on="relation", maintain_order="left")
    )  # fmt: skip
    graph = KnowledgeGraph(
        heads=to_tensor(numbered["node"]),
        relations=to_tensor(numbered["relation_id"]),
        tails=to_tensor(numbered["node_tail"]),
        num_entities=len(users) + len(values),
        num_relations=len(relations),
    )
    entities = pl.DataFrame({"entity": pl.concat([users, values])})
    given = pl.DataFrame(
        {"entity": list(names), "name": list(names.values())},
        schema={"entity": pl.String, "name": pl.String},
    )
    if raw.entity_names is not None:
        known = raw.entity_names.select("entity", "name")
        given = pl.concat([given, known]).unique("entity", keep="first", maintain_order=True)
    named = entities.with_row_index("node").join(
        given, on="entity", how="left", maintain_order="left"
    )
    # A user may have the id of an entity; the name is that of the entity.
    name = pl.when(pl.col("node") >= len(users)).then("name").alias("name")
    labels = pl.DataFrame({"relation": relations})
    if raw.relation_names is None:
        plain = pl.col("relation").str.strip_prefix(USER_PREFIX)
        labels = labels.with_columns(name=plain)
    else:
        labels = labels.join(raw.relation_names, on="relation", how="left", maintain_order="left")
    return UserGraph(graph, named.select("entity", name), labels.select("relation", "name"))
