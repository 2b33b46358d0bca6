"""An existing graph: its triples, the names of its entities, and the links of the items to it."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from pathlib import Path

import polars as pl

from kgrec.data.build.columns import Tables, UserTable
from kgrec.data.build.plan import Graph, GraphLinks, Plan
from kgrec.data.build.titles import link_by_title
from kgrec.data.build.triples import Triples
from kgrec.data.csv_files import header_fields
from kgrec.data.formats.headers import headless, matches
from kgrec.data.raw_tables import TRIPLE
from kgrec.data.text_files import SEPARATORS, header_line
from kgrec.errors import DataError, quoted, several

OUTCOMES = "title_links.csv"  # outcome of a join by title for every item


def read_graph(plan: Graph, tables: Tables, triples: Triples) -> pl.Series:
    """Adds the triples and names of the graph; returns its entities."""
    rows = _triples(plan, tables, triples)
    triples.add(rows, tables.open(plan.triples).name)
    entities = pl.concat([rows["head"], rows["tail"]]).unique(maintain_order=True)
    if plan.names is not None:
        _add_names(_names(plan.names, entities, tables), entities, triples)
    return entities.alias("entity")


def _triples(plan: Graph, tables: Tables, triples: Triples) -> pl.DataFrame:
    no_header = headless(plan.triples, TRIPLE)
    table = tables.open(plan.triples, TRIPLE if no_header else None)
    frame = table.frame
    triples.report.add(f"{table.name}: no header, the first line read as the triple "
                       f"({several(frame.row(0))})", int(no_header))  # fmt: skip
    named = {name: matches(frame.columns, name, {}) for name in TRIPLE}
    columns = [fields[0] for fields in named.values() if fields]
    if len(columns) < 3:
        if frame.width != 3:
            raise DataError(f"{table.path}: found the columns {several(frame.columns)}, expected "
                            "head, relation and tail")  # fmt: skip
        columns = list(frame.columns)
    ids = [table.ids(c, f"graph.{n}") for c, n in zip(columns, TRIPLE, strict=True)]
    rows = pl.DataFrame(ids)
    whole = rows.drop_nulls()
    triples.report.warn(f"{table.name}: triples with a blank, left out",
                        rows.height - whole.height)  # fmt: skip
    if whole.is_empty():
        raise DataError(f"{table.path}: found no triple, expected some")
    return whole


def _names(path: Path, entities: pl.Series, tables: Tables) -> pl.DataFrame:
    """``entity, name`` of a file of two columns, with a header or without."""
    unsure = headless(path, ("entity", "name"))
    table = tables.open(path, _columns_of_data(path, entities) if unsure else None)
    if table.frame.width < 2:
        raise DataError(f"{path}: found one column, expected entity and name")
    columns = table.frame.columns
    named = {n: matches(columns, n, {}) for n in ("entity", "name")}
    entity, name = (named[n][0] if named[n] else columns[i] for i, n in enumerate(named))
    ids = table.ids(entity, "graph.names")
    if not ids.is_in(entities.implode()).any():
        raise DataError(
            f"{path}: found no entity of the graph in column {entity}, expected some (the first "
            f"one is {quoted(ids[0])}, the graph's first {quoted(entities[0])})"
        )
    return pl.DataFrame([ids.alias("entity"), table.texts(name, "graph.names").alias("name")])


def _add_names(names: pl.DataFrame, entities: pl.Series, triples: Triples) -> None:
    """Adds the names of entities that the graph has."""
    names = names.drop_nulls().filter(pl.col("entity").is_in(entities.implode()))
    triples.name(names.with_columns(kind=pl.lit("")))


def read_links(
    whole_plan: Plan, items: pl.Series, entities: pl.Series, tables: Tables, triples: Triples
) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """The links of the items to the entities of the graph.

    Args:
        whole_plan: the plan, with a graph.
        items: ids of all items.
        entities: the entities of the graph.
        tables: the tables of the plan.
        triples: where the names of entities are added.

    Returns:
        ``item, entity``; and the outcome of a join for every item, or None.

    Raises:
        DataError: a column is missing, or no item has an entity.
    """
    assert whole_plan.graph is not None
    plan = whole_plan.graph.links
    if plan.by:
        return _joined(plan, whole_plan, entities, tables, triples)
    columns = None if plan.item else _columns_of_data(plan.table, items, entities)
    table = tables.open(plan.table, columns)
    if plan.item and plan.entity:
        pairs = pl.DataFrame([table.ids(plan.item, "graph.links.item"),
                              table.ids(plan.entity, "graph.links.entity")])  # fmt: skip
    else:
        pairs = _either_direction(table, items, entities)
    whole = pairs.drop_nulls().unique(maintain_order=True)
    known = pl.col("item").is_in(items.implode()) & pl.col("entity").is_in(entities.implode())
    links = whole.filter(known)
    if links.is_empty():
        raise DataError(
            f"{table.path}: found no row with an item and an entity of the graph, expected some "
            f"(the first item is {quoted(items[0])}, the first entity {quoted(entities[0])}, the "
            f"first row {quoted(table.frame.row(0))})"
        )
    name = table.name
    triples.report.add(f"{name}: items linked to the graph", links["item"].n_unique())
    triples.report.add(f"{name}: items without a link",
                       len(items) - links["item"].n_unique())  # fmt: skip
    triples.report.add(f"{name}: links of items or entities that occur nowhere else, left out",
                       whole.height - links.height)  # fmt: skip
    return links, None


def _columns_of_data(path: Path, *known: pl.Series) -> tuple[str, ...] | None:
    """Names of the columns of a text file whose first line has a known id, so is no header."""
    if path.suffix == ".parquet" or not path.is_file():
        return None
    _, text = header_line(path)
    for separator in SEPARATORS:
        fields = header_fields(text, separator)
        first = pl.Series(fields, dtype=pl.String)
        if len(fields) > 1 and any(first.is_in(ids.implode()).any() for ids in known):
            return tuple(f"column {i + 1}" for i in range(len(fields)))
    return None


def _either_direction(table: UserTable, items: pl.Series, entities: pl.Series) -> pl.DataFrame:
    """The two columns with the most items and entities, whichever comes first."""
    used, columns = set(table.used), {}
    for column in table.frame.columns[:6]:
        with suppress(DataError):  # a column such as one of weights has no ids
            columns[column] = table.ids(column, "graph.links")
    if len(columns) < 2:
        raise DataError(f"{table.path}: found the columns {several(table.frame.columns)}, "
                        "expected one of items and one of entities")  # fmt: skip
    shares = {
        (a, b): _share(columns[a], items) * _share(columns[b], entities)
        for a, b in permutations(columns, 2)
    }
    item, entity = max(shares, key=lambda pair: shares[pair])
    table.used = used | {item, entity}
    return pl.DataFrame([columns[item].alias("item"), columns[entity].alias("entity")])


def _share(ids: pl.Series, known: pl.Series) -> float:
    return int(ids.is_in(known.implode()).sum()) / len(ids)


def _joined(
    plan: GraphLinks, whole_plan: Plan, entities: pl.Series, tables: Tables, triples: Triples
) -> tuple[pl.DataFrame, pl.DataFrame]:
    opened = [(owner, tables.open(owner.table)) for owner in whole_plan.items]
    owner, source = next(
        ((owner, table) for owner, table in opened if set(plan.by) <= set(table.frame.columns)),
        opened[0],
    )
    names = ("title", "year")[: len(plan.by)]
    described = tables.open(plan.table)
    assert plan.entity is not None  # the plan was checked
    left = [source.ids(owner.id, "items.id").alias("item")]
    right = [described.ids(plan.entity, "graph.links.entity").alias("entity")]
    for name, column, other in zip(names, plan.by, plan.columns, strict=True):
        left.append(source.texts(column, "graph.links.by").alias(name))
        right.append(described.texts(other, "graph.links.columns").alias(name))
    items = pl.DataFrame(left).drop_nulls("item").unique("item", keep="first", maintain_order=True)
    others = pl.DataFrame(right).filter(pl.col("entity").is_in(entities.implode()))
    if others.is_empty():
        raise DataError(
            f"{described.path}: found no entity of the graph in column {plan.entity}, expected "
            f"some (the first one is {quoted(right[0][0])}, the graph's first "
            f"{quoted(entities[0])})"
        )
    links, outcomes = link_by_title(items, others, with_year=len(names) == 2)
    counts = dict(outcomes["outcome"].value_counts().iter_rows())
    what = f"{described.name}: items joined by {' and '.join(plan.by)}"
    triples.report.add(f"{what}, exact", counts.get("exact", 0))
    triples.report.warn(f"{what}, ambiguous, not linked (see {OUTCOMES})",
                        counts.get("ambiguous", 0))  # fmt: skip
    triples.report.warn(f"{what}, the title with another year alone, not linked",
                        counts.get("other year", 0))  # fmt: skip
    triples.report.warn(f"{what}, the title there, but the item or the entity without a year, not "
                        "linked", counts.get("no year", 0))  # fmt: skip
    triples.report.warn(f"{what}, missing", counts.get("missing", 0))
    if links.is_empty():
        raise DataError(
            f"{described.path}: found no entity with the {' and '.join(plan.by)} of an item, "
            f"expected some (the first item is {items.row(0)}, the first entity {others.row(0)})"
        )
    _add_names(others.select("entity", name="title"), entities, triples)
    return links, outcomes
