"""From raw tables to integer ids and a graph, every step counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.dataset import IdMaps, PreparedData
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.readers import RawTables
from kgrec.data.sources import Source, locate
from kgrec.errors import ConfigError, DataError


def load(
    name: str,
    sources: Sequence[Mapping[str, Any]],
    root: str | None,
    data_dir: str,
    min_rating: float | None,
    unlinked: str,
    seed: int,
    table1: Mapping[str, int] | None = None,
) -> PreparedData:
    """Finds, reads and prepares a data set; the target of every conf/dataset file.

    Args:
        name: of the data set.
        sources: the public forms of its files, see :class:`kgrec.data.sources.Source`.
        root: the folder that the user names, or None.
        data_dir: the project's data folder.
        min_rating: ratings below it are no positives; None: every interaction is one.
        unlinked: "drop" or "keep" items that no entity is known for.
        seed: for the split and the evaluation negatives.
        table1: sizes that the KGCN paper's Table 1 gives, to be shown beside ours.

    Raises:
        ConfigError: an unknown value.
        DataError: files that are missing, malformed or do not fit together.
    """
    found = locate(
        name,
        [Source.from_config(source) for source in sources],
        Path(root).expanduser() if root is not None else None,
        Path(data_dir),
    )
    raw = found.format.read(found.folder)
    data = prepare(raw, name, min_rating, unlinked, place=str(found.folder))
    return replace(data, seed=seed, files=found.files, published_counts=dict(table1 or {}))


def prepare(
    raw: RawTables,
    name: str,
    min_rating: float | None = None,
    unlinked: str = "drop",
    place: str = "",
) -> PreparedData:
    """Gives every id a number and counts whatever falls out.

    Items are numbered in the order of the links, so that item i is entity i, as the released
    preprocessing does; the other entities follow in order of appearance.

    Args:
        raw: tables of string ids.
        name: of the data set.
        min_rating: ratings below it are no positives; None: every interaction is one.
        unlinked: "drop" or "keep" items that no entity is known for; kept ones have no
            neighbours.
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
        account.add("interactions", what, count)
    items = _number_items(raw, unlinked, account, place)
    positives, rated, given, users = _number_interactions(raw, items, min_rating, account, place)
    graph, entities, relations = _number_graph(raw.triples, items, account, place)
    seen = positives.item_degrees() > 0
    account.add("items", "items without any positive, kept", int((~seen).sum()))
    degrees = graph.neighborhood().degrees[: items.height]
    account.add("items", "items without a neighbour in the graph, kept", int((degrees == 0).sum()))
    names = pl.DataFrame(schema={"item": pl.String, "name": pl.String})
    if raw.item_names is not None:
        names = raw.item_names.unique("item", keep="first", maintain_order=True)
    return PreparedData(
        name=name,
        positives=positives,
        rated=rated,
        given_negatives=given,
        graph=graph,
        ids=IdMaps(
            users=users.select("user"),
            items=items.join(names, on="item", how="left", maintain_order="left").select(
                "item", "entity", "name"
            ),
            entities=entities.select("entity"),
            relations=relations.select("relation"),
        ),
        account=account,
    )


def _tensor(column: pl.Series) -> Tensor:
    return torch.from_numpy(column.cast(pl.Int64).to_numpy(writable=True))


def _number_items(raw: RawTables, unlinked: str, account: Account, place: str) -> pl.DataFrame:
    """``item, entity, item_id``: linked items in the order of the links, then kept ones."""
    links = raw.links.unique(maintain_order=True)
    account.add("items", "links that stand twice, merged", raw.links.height - links.height)
    for one, other in (("item", "entity"), ("entity", "item")):
        twice = links.filter(pl.col(one).is_duplicated())
        if not twice.is_empty():
            value = twice[one][0]
            others = twice.filter(pl.col(one) == value)[other].to_list()
            raise DataError(
                f"{place}: found {one} {value!r} linked to {len(others)} of the kind {other} "
                f"({', '.join(map(repr, others[:3]))}), expected one {other} for each {one}"
            )
    account.add("items", "items linked to an entity", links.height)
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
        links = pl.concat([links, loose.with_columns(entity=pl.Series(invented, dtype=pl.String))])
    return links.select("item", "entity").with_row_index("item_id")


def _number_interactions(
    raw: RawTables, items: pl.DataFrame, min_rating: float | None, account: Account, place: str
) -> tuple[Interactions, Interactions, tuple[Tensor, Tensor] | None, pl.DataFrame]:
    rows = raw.interactions
    account.add("interactions", "interactions read", rows.height)
    known = rows.join(items.select("item", "item_id"), on="item", maintain_order="left")
    account.add(
        "interactions",
        "interactions of items without an entity, dropped",
        rows.height - known.height,
    )
    if min_rating is None:
        liked = known
    elif "rating" not in rows.columns:
        raise DataError(
            f"{place}: found interactions without ratings, expected a rating, because "
            f"dataset.min_rating={min_rating:g} (set it to null to take every interaction)"
        )
    else:
        liked = known.filter(pl.col("rating") >= min_rating)
    if min_rating is not None:
        what = f"interactions rated below {min_rating:g}, no positives"
        account.add("interactions", what, known.height - liked.height)
    elif "rating" in rows.columns:
        low, high = rows.select(pl.col("rating").min().alias("low"), pl.col("rating").max()).row(0)
        what = f"rated {low:g} to {high:g}, all taken as positive (dataset.min_rating=null)"
        account.add("interactions", what, known.height)
    users = liked.select("user").unique(maintain_order=True).with_row_index("user_id")
    if users.is_empty():
        raise DataError(
            f"{place}: found {rows.height} interactions and no positive among them, expected some"
        )
    account.add(
        "interactions",
        "users left without a positive, dropped",
        rows["user"].n_unique() - users.height,
    )

    def pairs(frame: pl.DataFrame) -> tuple[Tensor, Tensor]:
        numbered = frame.join(users, on="user", maintain_order="left")
        return _tensor(numbered["user_id"]), _tensor(numbered["item_id"])

    size = (users.height, items.height)
    positives = Interactions.from_pairs(*pairs(liked), *size)
    account.add(
        "interactions",
        "positives of a pair that stands more than once, merged",
        liked.height - len(positives),
    )
    account.add("interactions", "positives", len(positives))
    rated = Interactions.from_pairs(*pairs(known), *size)
    given = None
    if raw.negatives is not None and not raw.negatives.is_empty():
        linked = raw.negatives.join(
            items.select("item", "item_id"), on="item", maintain_order="left"
        )
        given = pairs(linked)
        account.add("interactions", "label-0 rows given", raw.negatives.height)
        account.add(
            "interactions",
            "label-0 rows of unknown users or items, dropped",
            raw.negatives.height - len(given[0]),
        )
    return positives, rated, given, users


def _number_graph(
    triples: pl.DataFrame, items: pl.DataFrame, account: Account, place: str
) -> tuple[KnowledgeGraph, pl.DataFrame, pl.DataFrame]:
    distinct = triples.unique(maintain_order=True)
    account.add("graph", "triples read", triples.height)
    account.add("graph", "triples that stand twice, merged", triples.height - distinct.height)
    loops = distinct.filter(pl.col("head") == pl.col("tail")).height
    account.add("graph", "self-loops, kept", loops)
    # Heads and tails in reading order: h0, t0, h1, t1, …
    ends = (
        distinct.select(pl.concat_list("head", "tail").alias("entity"))
        .explode("entity", empty_as_null=False)
        .unique(maintain_order=True)
    )
    mentioned = items.join(ends, on="entity", how="semi").height
    if mentioned == 0:
        raise DataError(
            f"{place}: found {distinct.height} triples that mention none of the "
            f"{items.height} items (the first triple is {distinct.row(0)}, the first item's "
            f"entity {items['entity'][0]!r}), expected item entities in the graph"
        )
    account.add("graph", "items whose entity the graph does not have", items.height - mentioned)
    entities = (
        pl.concat([items.select("entity"), ends])
        .unique(maintain_order=True)
        .with_row_index("entity_id")
    )
    relations = (
        distinct.select("relation").unique(maintain_order=True).with_row_index("relation_id")
    )
    numbered = (
        distinct.join(entities, left_on="head", right_on="entity", maintain_order="left")
        .join(entities, left_on="tail", right_on="entity", maintain_order="left", suffix="_of_tail")
        .join(relations, on="relation", maintain_order="left")
    )
    graph = KnowledgeGraph(
        heads=_tensor(numbered["entity_id"]),
        relations=_tensor(numbered["relation_id"]),
        tails=_tensor(numbered["entity_id_of_tail"]),
        num_entities=entities.height,
        num_relations=relations.height,
    )
    return graph, entities, relations
