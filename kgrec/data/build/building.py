"""``kgrec data build``: from the plan and its tables to a folder in CSV format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from kgrec import __version__
from kgrec.data.build.attributes import read_attributes, read_owners
from kgrec.data.build.columns import Tables
from kgrec.data.build.existing_graph import OUTCOMES, read_graph, read_links
from kgrec.data.build.folder import check_target, write_folder
from kgrec.data.build.interactions import read_interactions
from kgrec.data.build.links import read_triples, read_user_links
from kgrec.data.build.plan import ITEM, USER_PREFIX, AttributeTable, Plan
from kgrec.data.build.report import Report
from kgrec.data.build.triples import Triples, entity
from kgrec.data.sources.public_files import file_sha256
from kgrec.errors import DataError, quoted

USER = "user"  # kind of the entities that users would be


def build(plan: Plan, target: Path) -> Report:
    """Builds the folder from the tables of a plan, whole or not at all.

    Raises:
        DataError: a table is malformed, the tables do not fit together, or the target is in use.
    """
    check_target(target)
    report, tables = Report(), Tables(plan.path)
    rows = read_interactions(plan.interactions, tables, report)
    triples = Triples(report)
    owners = [_owners(table, plan, tables, report) for table in plan.items]
    listed = _listed(plan, tables, owners)
    items = pl.concat([listed["item"], rows["item"]]).unique(maintain_order=True)
    for source, ids in zip(plan.items, owners, strict=True):
        read_attributes(source, tables.open(source.table), ids, items, plan.missing, triples)
    for table in plan.triples:
        read_triples(table, items, tables, triples)
    own = triples.table()
    files: dict[str, pl.DataFrame] = {}
    graph_links = pl.DataFrame(schema={"item": pl.String, "entity": pl.String})
    if plan.graph is not None:
        entities = read_graph(plan.graph, tables, triples)
        graph_links, outcomes = read_links(plan, items, entities, tables, triples)
        if outcomes is not None:
            files[OUTCOMES] = outcomes
    links = _links(listed["item"], own, graph_links)
    _count_unlinked(rows, links, plan, report)
    graph = triples.table()
    if graph.is_empty():
        raise DataError(f"{plan.path}: found no value of an attribute and no link, expected some")
    files |= {"interactions.csv": _whole(rows), "triples.csv": graph, "links.csv": links}
    if plan.items:
        files["items.csv"] = listed
    report.sizes = {
        "users": rows["user"].n_unique(),
        "items": links["item"].n_unique(),
        "interactions": rows.height,
        "user-item pairs": rows.select("user", "item").n_unique(),
        "relations": graph["relation"].n_unique(),
        "entities": pl.concat([graph["head"], graph["tail"]]).n_unique(),
        "triples": graph.height,
    }
    of_users = Triples(report)
    if plan.users is not None:
        files["user_attributes.csv"] = _read_users(
            plan.users, rows["user"], items, plan, tables, of_users
        )
    if plan.user_links:
        users = rows["user"].unique(maintain_order=True)
        files["user_links.csv"] = pl.concat(
            read_user_links(source, users, tables, report) for source in plan.user_links
        )
        of_users.relation_names |= {
            source.relation: source.relation.removeprefix(USER_PREFIX).replace("_", " ")
            for source in plan.user_links
        }
    files["entities.csv"] = pl.concat([triples.entity_names(), of_users.entity_names()])
    files["relations.csv"] = pl.DataFrame(
        list((triples.relation_names | of_users.relation_names).items()),
        schema={"relation": pl.String, "name": pl.String},
        orient="row",
    )
    report.tables = tables.summary()
    record: dict[str, Any] = {
        "kgrec": __version__,
        "plan": plan.content,
        "sha256": {t.name: file_sha256(path) for path, t in tables.opened.items()},
        **report.as_dict(),
    }
    write_folder(target, files, record)
    return report


def _owners(items: AttributeTable, plan: Plan, tables: Tables, report: Report) -> pl.Series:
    """The item of each row of a table of items."""
    repeats = items.table == plan.interactions.table
    return read_owners(tables.open(items.table), items.id, "items.id", report, repeats)


def _listed(plan: Plan, tables: Tables, owners: list[pl.Series]) -> pl.DataFrame:
    """``item, name`` of the items of all tables of items.

    Where the plan names a column of texts, there is a column ``text`` too.
    """
    words = ["name", *(["text"] if any(items.text is not None for items in plan.items) else [])]
    names = [pl.DataFrame(schema=dict.fromkeys(["item", *words], pl.String))]
    for items, ids in zip(plan.items, owners, strict=True):
        columns = [ids.alias("item")]
        for word in words:
            cells = pl.Series([None], dtype=pl.String).new_from_index(0, len(ids))
            if (column := getattr(items, word)) is not None:
                cells = tables.open(items.table).texts(column, f"items.{word}").str.strip_chars()
            columns.append(cells.alias(word))
        names.append(
            pl.DataFrame(columns)
            .drop_nulls("item")
            .with_columns(pl.when(pl.col(word) != "").then(word).alias(word) for word in words)
        )
    # The first name and text of an item, and null for an item without one.
    return pl.concat(names).group_by("item", maintain_order=True).agg(
        pl.col(words).drop_nulls().first()
    )  # fmt: skip


def _read_users(
    users: AttributeTable, known: pl.Series, items: pl.Series, plan: Plan, tables: Tables,
    triples: Triples,
) -> pl.DataFrame:  # fmt: skip
    """``user, relation, entity``: the attributes of the users."""
    table = tables.open(users.table)
    owners = read_owners(table, users.id, "users.id", triples.report)
    read_attributes(users, table, owners, items, plan.missing, triples, USER)
    name = table.name
    without = known.unique().filter(~known.unique().is_in(owners.drop_nulls().implode()))
    triples.report.warn(f"{name}: users with interactions that it lacks", len(without))
    user = pl.col("head").str.strip_prefix(f"{USER}=")
    return triples.table().select(user=user, relation="relation", entity="tail")


def _links(listed: pl.Series, own: pl.DataFrame, graph_links: pl.DataFrame) -> pl.DataFrame:
    """``item, entity`` of every item: its own entity, and its entities in an existing graph.

    An item of the items tables has an entity of its own unless the graph has one for it and none
    of its triples is ours.
    """
    prefix = f"{ITEM}="
    ends = pl.concat([own["head"], own["tail"]]).unique(maintain_order=True)
    with_triples = ends.filter(ends.str.starts_with(prefix)).str.strip_prefix(prefix)
    lone = listed.filter(~listed.is_in(graph_links["item"].implode()))
    named = pl.concat([lone, with_triples]).unique()
    items = pl.concat([listed, with_triples]).unique(maintain_order=True)
    items = items.filter(items.is_in(named.implode()))
    own_links = pl.DataFrame({"item": items}).with_columns(entity=entity(ITEM, "item"))
    return pl.concat([own_links, graph_links.select("item", "entity")])


def _count_unlinked(
    rows: pl.DataFrame, links: pl.DataFrame, plan: Plan, report: Report
) -> None:  # fmt: skip
    """Counts the items of the interactions that the graph lacks, and the other way round.

    Raises:
        DataError: the graph has no item of the interactions.
    """
    linked = pl.col("item").is_in(links["item"].implode())
    loose = rows.filter(~linked)
    if loose.height == rows.height:
        raise DataError(
            f"{plan.interactions.table}: found no item with an attribute or a link, expected the "
            f"ids of the other tables (the first item is {quoted(rows['item'][0])}"
            + (f", of the others {quoted(links['item'][0])})" if links.height else ")")
            + _zeros(rows["item"], links["item"])
        )
    report.warn(
        f"items with interactions, but without attributes or links ({loose.height:,} "
        "interactions); training leaves them out, or keeps them with dataset.unlinked=keep",
        loose["item"].n_unique(),
    )
    used = links["item"].unique().is_in(rows["item"].implode())
    report.add("items without an interaction, kept", int((~used).sum()))


def _zeros(first: pl.Series, second: pl.Series) -> str:
    """A hint where ids differ by leading zeros alone, which spreadsheets drop."""
    plain = first.str.strip_chars_start("0").is_in(second.str.strip_chars_start("0").implode())
    return "; they differ by leading zeros" if plain.any() else ""


def _whole(rows: pl.DataFrame) -> pl.DataFrame:
    """Numbers that are all whole as integers, so that files show 3 for 3.0."""
    floats = [c for c, kind in rows.schema.items() if kind == pl.Float64]
    whole = [c for c in floats if ((rows[c] == rows[c].round()) & (rows[c].abs() < 2**53)).all()]
    return rows.with_columns(pl.col(whole).cast(pl.Int64))
