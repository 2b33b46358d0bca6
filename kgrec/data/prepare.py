"""Preparation: from raw tables to integer ids and a graph, with a count of every step."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from kgrec.data.account import Account
from kgrec.data.dataset import IdMaps, PreparedData
from kgrec.data.interaction_numbers import first, number_interactions, to_tensor
from kgrec.data.inverses import inverse_pairs, merge_inverses
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.raw_tables import RawTables
from kgrec.data.rows import Rows
from kgrec.data.spill import release
from kgrec.data.user_graph import number_user_graph, user_tables
from kgrec.data.weights import WEIGHTS, weigh
from kgrec.errors import ConfigError, DataError, quoted

MOST_COPIES = 10  # triples for each triple and link, once items have those of their entities


def prepare(
    raw: RawTables,
    name: str,
    min_rating: float | None = None,
    unlinked: str = "drop",
    pool_splits: bool = False,
    inverses: str = "keep",
    place: str = "",
    weights: str = "ignore",
    user_graph: str = "ignore",
) -> PreparedData:
    """Gives every id a number, and counts every row that is dropped or merged.

    Items are numbered in the order of the links, so that item i is entity i, as in the released
    preprocessing. The other entities follow in order of appearance. An item has the triples of
    all entities that it is linked to, and an entity that several items are linked to gives its
    triples to each.

    Args:
        raw: tables of string ids.
        name: name of the data set.
        min_rating: lowest rating of a positive; None: every interaction is a positive.
        unlinked: "drop" or "keep" items without an entity; kept items have no neighbours.
        pool_splits: whether to ignore the split given in the files.
        inverses: "keep" or "merge" pairs of inverse relations, see :mod:`kgrec.data.inverses`.
        place: source of the tables, for messages; empty: the name.
        weights: "ignore", "use" (of the files) or "repeats" (number of interactions of a pair),
            see :mod:`kgrec.data.weights`.
        user_graph: "ignore" or "use" the attributes of users and the links between them, see
            :mod:`kgrec.data.user_graph`.

    Raises:
        ConfigError: an unknown value of ``unlinked``, ``inverses``, ``weights`` or ``user_graph``.
        DataError: the tables do not fit together.
    """
    for key, value, choices in (
        ("unlinked", unlinked, ("drop", "keep")),
        ("inverses", inverses, ("keep", "merge")),
        ("weights", weights, WEIGHTS),
        ("user_graph", user_graph, ("ignore", "use")),
    ):
        if value not in choices:
            raise ConfigError(f"dataset.{key}: found {value!r}, expected {' or '.join(choices)}")
    place = place or name
    account = Account()
    for changes, lines in ((True, raw.counts), (False, raw.notes)):
        for line, count in lines:
            account.add("files", line, count, changes)
    with account.shown_on_failure():
        read = raw.rows if raw.rows is not None else Rows.of(raw.interactions)
        raw = replace(raw, interactions=raw.interactions.clear(), rows=None)  # frees the strings
        items, links = _number_items(raw, read, unlinked, account, place)
        read = weigh(read, weights, account, place)
        rows = number_interactions(
            read, raw.negatives, items, min_rating, pool_splits, account, place
        )
        del read
        merge = inverses == "merge"
        graph, entities, relations = _number_graph(raw.triples, items, links, merge, account, place)
        of_users = None
        if user_graph == "use":
            of_users = number_user_graph(raw, rows.users["user"], account, place)
        elif tables := len(user_tables(raw)):
            line = "tables of users, not used (dataset.user_graph=use makes a graph of them)"
            account.add("user graph", line, tables)
    popularity = rows.positives.item_degrees()
    release(rows.positives.items)
    account.add("items", "items without any positive, kept", int((popularity == 0).sum()))
    alone = items.height - int(graph.connected()[: items.height].sum())
    account.add("items", "items without a neighbour in the graph, kept", alone)
    names = pl.DataFrame(schema={"item": pl.String, "name": pl.String})
    if raw.item_names is not None:
        named = raw.item_names.drop_nulls("name").unique(maintain_order=True)
        names = named.unique("item", keep="first", maintain_order=True)
        further = named.height - names.height
        account.add("items", "further names of an item, dropped", further, changes=True)
    listed = items.join(names, on="item", how="left", maintain_order="left")
    listed = listed.select("item", "entity", "name")
    if raw.item_names is not None and raw.has_texts:
        texts = raw.item_names.select("item", "text").drop_nulls("text")
        texts = texts.unique("item", keep="first", maintain_order=True)
        listed = listed.join(texts, on="item", how="left", maintain_order="left")
    return PreparedData(
        name=name,
        positives=rows.positives,
        times=rows.times,
        given_parts=rows.parts,
        weights=rows.weights,
        rated=rows.rated,
        given_negatives=rows.negatives,
        graph=graph,
        user_graph=None if of_users is None else of_users.graph,
        ids=IdMaps(
            users=rows.users,
            items=listed,
            entities=_named_entities(entities, raw.entity_names, listed["name"]),
            relations=_named(relations, "relation", raw.relation_names),
            user_entities=None if of_users is None else of_users.entities,
            user_relations=None if of_users is None else of_users.relations,
        ),
        account=account,
    )


def _named(ids: pl.DataFrame, column: str, names: pl.DataFrame | None) -> pl.DataFrame:
    """Ids with their ``name``, null where the files have none."""
    if names is None:
        return ids.with_columns(name=pl.lit(None, dtype=pl.String))
    return ids.join(names, on=column, how="left", maintain_order="left").select(column, "name")


def _named_entities(
    entities: pl.DataFrame, names: pl.DataFrame | None, of_items: pl.Series
) -> pl.DataFrame:
    """``entity, name``; an item's entity (one per row) has the item's name."""
    named = _named(entities, "entity", names)
    first = of_items.extend_constant(None, entities.height - len(of_items))
    return named.with_columns(name=pl.coalesce(first, pl.col("name")))


def _number_items(
    raw: RawTables, rows: Rows, unlinked: str, account: Account, place: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items with their numbers, and every link.

    Returns:
        ``item_id, item, entity`` (the first entity of each item): linked items in the order of
        the links, then kept items; and ``entity, node``: the nodes of each linked entity.
    """
    links = raw.links.unique(maintain_order=True)
    account.add("items", "duplicate links, merged", raw.links.height - links.height, changes=True)
    items = links.unique("item", keep="first", maintain_order=True).select("item", "entity")
    several = links.filter(pl.col("item").is_duplicated())["item"].n_unique()
    account.add("items", "items linked to several entities: they have the triples of all", several)
    shared = links.filter(pl.col("entity").is_duplicated())["entity"].n_unique()
    account.add("items", "entities linked to several items: each has their triples", shared)
    account.add("items", "items linked to an entity", items.height)
    missing = []
    effect = "dropped" if unlinked == "drop" else "kept without neighbours"
    used = [
        rows.ids("item"),
        *([raw.negatives["item"]] if raw.negatives is not None else []),
    ]
    listed = [raw.item_names["item"]] if raw.item_names is not None else []
    counted = links["item"]
    for group, columns in (
        ("items without an entity", used),
        ("items without an entity or an interaction (only listed)", listed),
    ):
        if columns:
            column = pl.concat(columns).unique(maintain_order=True)
            missing.append(column.filter(~column.is_in(counted.implode())))
            account.add("items", f"{group}, {effect}", len(missing[-1]), changes=True)
            counted = pl.concat([counted, missing[-1]])
    if unlinked == "keep":
        added = pl.concat(missing).to_frame("item")
        entity_names = set(links["entity"]) | set(raw.triples["head"]) | set(raw.triples["tail"])
        invented = [f"item:{item}" for item in added["item"]]
        clash = next((e for e in invented if e in entity_names), None)
        if clash is not None:
            raise DataError(
                f"{place}: found an entity named {quoted(clash)}, a name reserved for items"
            )
        items = pl.concat([items, added.with_columns(entity=pl.Series(invented, dtype=pl.String))])
    if items.is_empty():
        raise DataError(
            f"{place}: found no link from an item to an entity, expected at least one (the first "
            f"item is "
            f"{first(rows.ids('item'))}, the first triple "
            f"{first(raw.triples.iter_rows())})"
        )
    items = items.with_row_index("item_id").cast({"item_id": pl.Int64})
    nodes = links.join(items.select("item", node="item_id"), on="item", maintain_order="left")
    return items, nodes.select("entity", "node")


def _check_copies(triples: pl.DataFrame, nodes: pl.DataFrame, place: str) -> None:
    """Checks the number of triples once each item of an entity has a copy of the entity's triples.

    Raises:
        DataError: there would be too many, as with a triple between two entities of 100,000 items.
    """
    items = nodes.group_by("entity").agg(items=pl.len().cast(pl.Float64))
    items = items.filter(pl.col("items") > 1)
    if items.is_empty():
        return
    copies = (
        triples.join(items, left_on="head", right_on="entity", how="left")
        .join(items, left_on="tail", right_on="entity", how="left", suffix="_tail")
        .select((pl.col("items").fill_null(1) * pl.col("items_tail").fill_null(1)).sum())
        .item()
    )
    most = MOST_COPIES * (triples.height + nodes.height) + 1_000_000
    if copies > most:
        entity, count = items.sort("items", descending=True).row(0)
        raise DataError(
            f"{place}: found {count:,.0f} items linked to the entity {quoted(entity)}; each item "
            f"gets the triples of its entity, which makes {copies:,.0f} triples of "
            f"{triples.height:,}; expected at most {most:,} (link items to entities of their own)"
        )


def _number_graph(
    triples: pl.DataFrame,
    items: pl.DataFrame,
    nodes: pl.DataFrame,
    merge: bool,
    account: Account,
    place: str,
) -> tuple[KnowledgeGraph, pl.DataFrame, pl.DataFrame]:
    """The graph, and the raw ids of entities and relations in the order of their numbers."""
    distinct = triples.select("head", "relation", "tail").unique(maintain_order=True)
    account.add("graph", "triples read", triples.height)
    line = "duplicate triples, merged"
    account.add("graph", line, triples.height - distinct.height, changes=True)
    loops = distinct.filter(pl.col("head") == pl.col("tail")).height
    account.add("graph", "self-loops, kept", loops)
    reverse = distinct.select(head="tail", relation="relation", tail="head")
    both = distinct.join(reverse, on=["head", "relation", "tail"], how="semi").height - loops
    account.add("graph", "triples with a reverse of the same relation: one neighbour each", both)
    # Heads and tails in reading order: h0, t0, h1, t1, …
    ends = (
        distinct.select(pl.concat_list("head", "tail").alias("entity"))
        .explode("entity", empty_as_null=False)
        .unique(maintain_order=True)
    )
    linked = nodes.join(ends, on="entity", how="semi")
    if linked.is_empty() and not nodes.is_empty():
        raise DataError(
            f"{place}: found {distinct.height} triples that mention none of the "
            f"{items.height} items (the first triple is {first(distinct.iter_rows())}, the first "
            f"item's entity {first(items['entity'])}), expected item entities in the graph"
        )
    missing = items.height - linked["node"].n_unique()
    account.add("graph", "items whose entity is in no triple", missing)
    pairs = inverse_pairs(distinct)
    if merge:
        merged = merge_inverses(distinct, pairs)
        account.add("graph", "inverse relations, merged into the other", pairs.height, changes=True)
        line = "triples that an inverse relation restates, merged"
        account.add("graph", line, distinct.height - merged.height, changes=True)
        distinct = merged
    else:
        line = "triples that an inverse relation restates, kept: two neighbours each"
        account.add("graph", line, int(pairs["shared"].sum()))
    others = ends.join(nodes, on="entity", how="anti", maintain_order="left")
    nodes = pl.concat(
        [nodes, others.with_columns(node=pl.int_range(pl.len(), dtype=pl.Int64) + items.height)]
    )
    _check_copies(distinct, nodes, place)
    relations = distinct.select("relation").unique(maintain_order=True)
    by_name = relations.with_row_index("relation_id")
    numbered = (
        distinct.join(nodes, left_on="head", right_on="entity", maintain_order="left_right")
        .join(nodes, left_on="tail", right_on="entity", maintain_order="left_right", suffix="_tail")
        .join(by_name, on="relation", maintain_order="left")
        .select("node", "relation_id", "node_tail")
    )
    copies = numbered.height - distinct.height
    numbered = numbered.unique(maintain_order=True)
    if copies:
        account.add("graph", "copies of triples for entities of several items", copies)
        same = distinct.height + copies - numbered.height
        account.add("graph", "triples that became the same, merged", same, changes=True)
    graph = KnowledgeGraph(
        heads=to_tensor(numbered["node"]),
        relations=to_tensor(numbered["relation_id"]),
        tails=to_tensor(numbered["node_tail"]),
        num_entities=items.height + others.height,
        num_relations=relations.height,
    )
    entities = pl.concat([items.select("entity"), others.select("entity")])
    return graph, entities, relations
