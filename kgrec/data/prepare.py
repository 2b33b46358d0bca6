"""From raw tables to integer ids and a graph, every step counted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.dataset import IdMaps, PreparedData
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.raw_tables import RawTables
from kgrec.errors import ConfigError, DataError


def prepare(
    raw: RawTables,
    name: str,
    min_rating: float | None = None,
    unlinked: str = "drop",
    pool_splits: bool = False,
    place: str = "",
) -> PreparedData:
    """Gives every id a number and counts whatever falls out.

    Items are numbered in the order of the links, so that item i is entity i, as the released
    preprocessing does; the other entities follow in order of appearance. An item is every
    entity that it is linked to: it has the triples of all of them, and an entity that several
    items are linked to lends its triples to each.

    Args:
        raw: tables of string ids.
        name: of the data set.
        min_rating: ratings below it are no positives; None: every interaction is one.
        unlinked: "drop" or "keep" items that no entity is known for; kept ones have no
            neighbours.
        pool_splits: forget the parts that the files come split into.
        place: where the tables come from, for messages.

    Raises:
        ConfigError: an unknown value for ``unlinked``.
        DataError: tables that do not fit together.
    """
    if unlinked not in ("drop", "keep"):
        raise ConfigError(f"dataset.unlinked: found {unlinked!r}, expected drop or keep")
    place = place or name
    account = Account()
    for what, count in raw.counts:
        account.add("files", what, count)
    items, links = _number_items(raw, unlinked, account, place)
    found = _number_interactions(raw, items, min_rating, pool_splits, account, place)
    graph, entities, relations = _number_graph(raw.triples, items, links, account, place)
    seen = found.positives.item_degrees() > 0
    account.add("items", "items without any positive, kept", int((~seen).sum()))
    degrees = graph.neighborhood().degrees[: items.height]
    account.add("items", "items without a neighbour in the graph, kept", int((degrees == 0).sum()))
    names = pl.DataFrame(schema={"item": pl.String, "name": pl.String})
    if raw.item_names is not None:
        names = raw.item_names.unique("item", keep="first", maintain_order=True)
        twice = raw.item_names.unique().height - names.height
        account.add("items", "further names of an item, dropped", twice)
    return PreparedData(
        name=name,
        positives=found.positives,
        times=found.times,
        given_parts=found.parts,
        rated=found.rated,
        given_negatives=found.negatives,
        graph=graph,
        ids=IdMaps(
            users=found.users,
            items=items.join(names, on="item", how="left", maintain_order="left").select(
                "item", "entity", "name"
            ),
            entities=entities,
            relations=relations,
        ),
        account=account,
    )


def _first(values: Iterable[object]) -> str:
    """For messages."""
    return next((repr(value) for value in values), "missing")


def _tensor(column: pl.Series) -> Tensor:
    return torch.from_numpy(column.cast(pl.Int64).to_numpy(writable=True))


def _number_items(
    raw: RawTables, unlinked: str, account: Account, place: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Items with their numbers, and every link.

    Returns:
        ``item_id, item, entity`` (the first one it is linked to), linked items in the order of
        the links, then kept ones; and ``entity, node``: the nodes that an entity is.
    """
    links = raw.links.unique(maintain_order=True)
    account.add("items", "links that stand twice, merged", raw.links.height - links.height)
    items = links.unique("item", keep="first", maintain_order=True).select("item", "entity")
    several = links.filter(pl.col("item").is_duplicated())["item"].n_unique()
    account.add("items", "items linked to several entities: they have the triples of all", several)
    shared = links.filter(pl.col("entity").is_duplicated())["entity"].n_unique()
    account.add("items", "entities linked to several items: each has their triples", shared)
    account.add("items", "items linked to an entity", items.height)
    asked = pl.concat(
        [raw.interactions.select("item")]
        + ([raw.negatives.select("item")] if raw.negatives is not None else [])
    ).unique(maintain_order=True)
    loose = asked.join(links, on="item", how="anti", maintain_order="left")
    fate = "dropped" if unlinked == "drop" else "kept without neighbours"
    account.add("items", f"items without an entity, {fate}", loose.height)
    if unlinked == "keep":
        taken = set(links["entity"]) | set(raw.triples["head"]) | set(raw.triples["tail"])
        invented = [f"item:{item}" for item in loose["item"]]
        clash = next((e for e in invented if e in taken), None)
        if clash is not None:
            raise DataError(f"{place}: found an entity named {clash!r}, which is kept for items")
        items = pl.concat([items, loose.with_columns(entity=pl.Series(invented, dtype=pl.String))])
    if items.is_empty():
        raise DataError(
            f"{place}: found no link from an item to an entity, expected some (the first item is "
            f"{_first(raw.interactions['item'])}, the first triple "
            f"{_first(raw.triples.iter_rows())})"
        )
    items = items.with_row_index("item_id").cast({"item_id": pl.Int64})
    nodes = links.join(items.select("item", node="item_id"), on="item", maintain_order="left")
    return items, nodes.select("entity", "node")


@dataclass
class _Found:
    """Interactions with numbers; see PreparedData."""

    positives: Interactions
    times: Tensor | None
    parts: Tensor | None
    rated: Interactions
    negatives: tuple[Tensor, Tensor] | None
    users: pl.DataFrame


def _number_interactions(
    raw: RawTables,
    items: pl.DataFrame,
    min_rating: float | None,
    pool_splits: bool,
    account: Account,
    place: str,
) -> _Found:
    rows = raw.interactions
    account.add("interactions", "interactions read", rows.height)
    if "part" in rows.columns and pool_splits:
        rows = rows.drop("part")
        account.add("interactions", "the given splits were pooled (dataset.pool_splits)", 1)
    numbers = items.select("item", "item_id")
    known = rows.join(numbers, on="item", maintain_order="left").drop("item")
    account.add(
        "interactions",
        "interactions of items without an entity, dropped",
        rows.height - known.height,
    )
    liked = _liked(known, min_rating, rows.height, account, place)
    users = liked.select("user").unique(maintain_order=True)
    if users.is_empty():
        raise DataError(
            f"{place}: found {rows.height} interactions and no positive among them, expected some "
            f"(the first item is {_first(raw.interactions['item'])}, the first linked one "
            f"{_first(items['item'])})"
        )
    account.add(
        "interactions",
        "users left without a positive, dropped",
        rows["user"].n_unique() - users.height,
    )
    by_user = users.with_row_index("user_id").cast({"user_id": pl.Int64})
    size = (users.height, items.height)

    def pairs(frame: pl.DataFrame) -> tuple[Tensor, Tensor]:
        numbered = frame.join(by_user, on="user").select("user_id", "item_id")
        return _tensor(numbered["user_id"]), _tensor(numbered["item_id"])

    rated = Interactions.from_pairs(*pairs(known), *size)
    negatives = None
    if raw.negatives is not None and not raw.negatives.is_empty():
        # In the order of the files, which a split goes by.
        listed = raw.negatives.join(numbers, on="item", maintain_order="left").join(
            by_user, on="user", maintain_order="left"
        )
        negatives = _tensor(listed["user_id"]), _tensor(listed["item_id"])
        account.add("interactions", "label-0 rows given", raw.negatives.height)
        account.add(
            "interactions",
            "label-0 rows of unknown users or items, dropped",
            raw.negatives.height - len(negatives[0]),
        )
    times = parts = None
    if "timestamp" in liked.columns or "part" in liked.columns:
        once = _each_pair_once(liked.join(by_user, on="user"), account)
        positives = Interactions(_tensor(once["user_id"]), _tensor(once["item_id"]), *size)
        if "timestamp" in once.columns:
            times = torch.from_numpy(once["timestamp"].to_numpy(writable=True))
        parts = _tensor(once["part"]) if "part" in once.columns else None
    else:
        positives = rated if liked is known else Interactions.from_pairs(*pairs(liked), *size)
    account.add(
        "interactions",
        "positives of a pair that stands more than once, merged",
        liked.height - len(positives),
    )
    account.add("interactions", "positives", len(positives))
    return _Found(positives, times, parts, rated, negatives, users)


def _liked(
    known: pl.DataFrame, min_rating: float | None, read: int, account: Account, place: str
) -> pl.DataFrame:
    """The rows that count as positive."""
    if min_rating is None:
        if "rating" in known.columns and known.height:
            low, high = known.select(pl.col("rating").min().alias("low"), pl.max("rating")).row(0)
            what = f"rated {low:g} to {high:g}, all taken as positive (dataset.min_rating=null)"
            account.add("interactions", what, known.height)
        return known
    if "rating" not in known.columns:
        raise DataError(
            f"{place}: found {read} interactions without ratings, expected a rating, because "
            f"dataset.min_rating={min_rating:g} (set it to null to take every interaction)"
        )
    liked = known.filter(pl.col("rating") >= min_rating)
    what = f"interactions rated below {min_rating:g}, no positives"
    account.add("interactions", what, known.height - liked.height)
    return liked


def _each_pair_once(liked: pl.DataFrame, account: Account) -> pl.DataFrame:
    """The pairs in order, each at its earliest time and in the first part that it stands in."""
    columns = [c for c in ("timestamp", "part") if c in liked.columns]
    found = liked.lazy().group_by("user_id", "item_id").agg(
        *(pl.col(c).min() for c in columns),
        *([(pl.col("part").n_unique() > 1).alias("torn")] if "part" in columns else []),
    )  # fmt: skip
    once = found.sort("user_id", "item_id").collect()
    if "part" in columns:
        torn = int(once["torn"].sum())
        account.add("interactions", "pairs in several given parts, kept in the first", torn)
    return once


def _number_graph(
    triples: pl.DataFrame,
    items: pl.DataFrame,
    nodes: pl.DataFrame,
    account: Account,
    place: str,
) -> tuple[KnowledgeGraph, pl.DataFrame, pl.DataFrame]:
    distinct = triples.select("head", "relation", "tail").unique(maintain_order=True)
    account.add("graph", "triples read", triples.height)
    account.add("graph", "triples that stand twice, merged", triples.height - distinct.height)
    loops = distinct.filter(pl.col("head") == pl.col("tail")).height
    account.add("graph", "self-loops, kept", loops)
    reverse = distinct.select(head="tail", relation="relation", tail="head")
    both = distinct.join(reverse, on=["head", "relation", "tail"], how="semi").height - loops
    account.add("graph", "triples whose reverse stands there too: one neighbour each", both)
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
            f"{items.height} items (the first triple is {_first(distinct.iter_rows())}, the first "
            f"item's entity {_first(items['entity'])}), expected item entities in the graph"
        )
    missing = items.height - linked["node"].n_unique()
    account.add("graph", "items whose entity the graph does not have", missing)
    others = ends.join(nodes, on="entity", how="anti", maintain_order="left")
    nodes = pl.concat(
        [nodes, others.with_columns(node=pl.int_range(pl.len(), dtype=pl.Int64) + items.height)]
    )
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
        merged = distinct.height + copies - numbered.height
        account.add("graph", "triples that became the same, merged", merged)
    graph = KnowledgeGraph(
        heads=_tensor(numbered["node"]),
        relations=_tensor(numbered["relation_id"]),
        tails=_tensor(numbered["node_tail"]),
        num_entities=items.height + others.height,
        num_relations=relations.height,
    )
    entities = pl.concat([items.select("entity"), others.select("entity")])
    return graph, entities, relations
