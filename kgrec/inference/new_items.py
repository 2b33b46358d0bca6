"""New items of a finished run, which are known by their triples alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch

from kgrec.data.frames import as_frame, is_frame
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import DataError
from kgrec.inference.kept_data import KeptData
from kgrec.models.kgcn.new_items import renumbered
from kgrec.models.recommender import Recommender

COLUMNS = ("head", "relation", "tail")


class Added(NamedTuple):
    """A model and its data with new items.

    Attributes:
        model: the model with the new items.
        data: the data with the new items.
        items: number of new items.
        left_out: triples that say nothing of a new item, and why, with their number.
    """

    model: Recommender
    data: KeptData
    items: int
    left_out: list[tuple[str, int]]


def read_triples(source: Any) -> pl.DataFrame:
    """Triples of a file or a frame: ``head``, ``relation``, ``tail`` and perhaps ``name``.

    Args:
        source: path of a table, or a frame of polars or pandas.

    Raises:
        DataError: the file is missing or malformed, or a column is missing.
    """
    if is_frame(source):
        source = as_frame("extra triples", source)
    else:
        from kgrec.data.build.columns import UserTable

        table = UserTable(Path(source).expanduser())
        names = [*COLUMNS, *(c for c in ("name",) if c in table.frame.columns)]
        source = pl.DataFrame([table.ids(name, "--extra-triples").alias(name) for name in names])
    if missing := [name for name in COLUMNS if name not in source.columns]:
        raise DataError(
            f"extra triples: found no column {missing[0]}, expected head, relation and tail (and, "
            "for titles of the new items, name)"
        )
    if "name" not in source.columns:
        source = source.with_columns(name=pl.lit(None, dtype=pl.String))
    triples: pl.DataFrame = source.select(*COLUMNS, "name").cast(pl.String)
    return triples


def add_items(model: Recommender, data: KeptData, triples: pl.DataFrame) -> Added:
    """Adds the heads of triples that are no items of the run.

    A head may be an entity of the training, such as a film that nobody has rated; its vector and
    its neighbours are then known already. Tails and relations must be known to the model.

    Args:
        model: trained model.
        data: data of the run.
        triples: ``head``, ``relation``, ``tail``, ``name``.

    Raises:
        DataError: the model cannot score items without training, or no triple is of a new item.
    """
    if not model.adds_items:
        raise DataError(
            f"extra triples: found {data.about['model']}, expected a model that scores items "
            "without training them: kgcn or kgnn_ls"
        )
    ids, num_items = data.ids, data.ids.items.height
    entities = ids.entities.select(entity="entity").with_row_index("number").unique(
        "entity", keep="first", maintain_order=True
    )  # fmt: skip
    relations = ids.relations.select("relation").with_row_index("relation_number")
    left_out: list[tuple[str, int]] = []

    def without(rows: pl.DataFrame, kept: pl.Expr, reason: str) -> pl.DataFrame:
        chosen = rows.filter(kept)
        if rows.height > chosen.height:
            left_out.append((reason, rows.height - chosen.height))
        return chosen

    rows = without(triples, pl.all_horizontal(pl.col(*COLUMNS).is_not_null()), "blank cells")
    # An item of the run is known by its own id and by its entity.
    known = pl.concat([ids.items["item"], ids.entities["entity"].head(num_items)])
    rows = without(rows, ~pl.col("head").is_in(known.implode()), "heads that are items already")
    rows = rows.join(relations, on="relation", how="left", maintain_order="left")
    rows = without(rows, pl.col("relation_number").is_not_null(), "unknown relations")
    tails = entities.rename({"entity": "tail", "number": "tail_number"})
    rows = rows.join(tails, on="tail", how="left", maintain_order="left")
    rows = without(rows, pl.col("tail_number").is_not_null(), "unknown tails")
    if rows.is_empty():
        reasons = "; ".join(f"{count} with {reason}" for reason, count in left_out)
        raise DataError(
            f"extra triples: found no triple of a new item ({reasons or 'no rows'}), expected "
            "heads that are new, and relations and tails of the run"
        )
    heads = rows.group_by("head", maintain_order=True).agg(pl.col("name").drop_nulls().first())
    heads = heads.join(
        entities.rename({"entity": "head", "number": "known"}), on="head", how="left",
        maintain_order="left",
    ).with_row_index("owner")  # fmt: skip
    rows = rows.join(heads.select("head", "owner"), on="head", maintain_order="left")
    known_entities = _tensor(heads["known"].fill_null(-1))
    edges = _edges(data, _tensor(rows["owner"]), rows, known_entities)
    extended = model.add_items(edges, known_entities, int(data.about["seed"]))
    return Added(extended, _extended(data, heads, edges), heads.height, left_out)


def _edges(
    data: KeptData, owners: torch.Tensor, rows: pl.DataFrame, known: torch.Tensor
) -> Neighborhood:
    """S(v) of the new items: their new triples, and those of the training if they are known."""
    neighbors, relations = _tensor(rows["tail_number"]), _tensor(rows["relation_number"])
    whole = data.graph.neighborhood()
    at = torch.nonzero(known >= 0).flatten()
    degrees = whole.degrees[known[at]]
    first = whole.indptr[known[at]]
    entry = torch.repeat_interleave(degrees)
    position = first[entry] + torch.arange(len(entry)) - (degrees.cumsum(0) - degrees)[entry]
    columns = (
        torch.cat([owners, at[entry]]),
        torch.cat([relations, whole.relations[position]]),
        torch.cat([neighbors, whole.neighbors[position]]),
    )
    distinct = torch.unique(torch.stack(columns), dim=1)  # a set of pairs for each item
    return Neighborhood.from_edges(distinct[0], distinct[2], distinct[1], len(known))


def _extended(data: KeptData, heads: pl.DataFrame, edges: Neighborhood) -> KeptData:
    """The data with the new items after the old ones."""
    ids, old, new = data.ids, data.ids.items.height, heads.height
    rows = heads.select(item="head", entity="head", name="name")
    entities = [ids.entities.head(old), rows.select("entity", "name"), ids.entities.slice(old)]

    def widened(pairs: Interactions) -> Interactions:
        return Interactions(pairs.users, pairs.items, pairs.num_users, old + new)

    triples = data.triples.clone()
    for column in (0, 2):
        triples[:, column] = renumbered(triples[:, column], old, new)
    owners = torch.repeat_interleave(edges.degrees) + old
    further = [owners, edges.relations, renumbered(edges.neighbors, old, new)]
    return replace(
        data,
        ids=replace(ids, items=pl.concat([ids.items, rows]), entities=pl.concat(entities)),
        seen=widened(data.seen),
        train=widened(data.train),
        positives=widened(data.positives),
        triples=torch.cat([triples, torch.stack(further, dim=1)]),
    )  # fmt: skip


def _tensor(numbers: Any) -> torch.Tensor:
    return torch.from_numpy(numbers.cast(pl.Int64).to_numpy(writable=True))
