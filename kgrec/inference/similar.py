"""Items that a model holds for similar."""

from __future__ import annotations

import polars as pl
import torch
from torch import Tensor

from kgrec.errors import DataError, SettingError
from kgrec.inference.kept_data import KeptData
from kgrec.models.recommender import Recommender


def similar_items(
    model: Recommender,
    data: KeptData,
    name: str,
    item: int,
    k: int,
    allowed: Tensor | None,
    order: Tensor,
) -> pl.DataFrame:
    """The k most similar items, see :meth:`kgrec.inference.loaded_model.LoadedModel.similar_items`.

    Args:
        model: model that compares items.
        data: ids and graph.
        name: name of the model, for messages.
        item: number of the item.
        k: number of items.
        allowed: (num_items,) bool, whether each item may be returned; None: all.
        order: (num_items,) items in the order in which equally similar items are taken.

    Raises:
        DataError: the model compares no items, or has no vector of this one.
    """
    try:
        with torch.no_grad():
            similarities = model.similar_to(item).float().cpu()
    except SettingError as error:
        raise DataError(f"found the model {name}, expected a model that compares items") from error
    if not bool(similarities.any()):
        raise DataError(
            f"item {data.ids.items['item'][item]}: found an item without a vector (it was added "
            "after the training, or no user had it), expected an item that the model has learned"
        )
    possible = torch.ones(len(similarities), dtype=torch.bool) if allowed is None else allowed
    possible = possible.clone()
    possible[item] = False
    chosen = order[possible[order]]
    best = chosen[similarities[chosen].sort(descending=True, stable=True).indices[:k]]
    mine = _entities(data, item)
    shared = [int(torch.isin(mine, _entities(data, int(other))).sum()) for other in best]
    frame = data.ids.items.select("item", "name")[best.numpy()]
    return frame.with_columns(
        similarity=similarities[best].numpy(), shared=pl.Series(shared, dtype=pl.Int64)
    ).select(pl.int_range(1, pl.len() + 1).alias("rank"), pl.all())


def _entities(data: KeptData, item: int) -> Tensor:
    """Distinct neighbours of an item."""
    graph = data.neighborhood
    entries = slice(int(graph.indptr[item]), int(graph.indptr[item + 1]))
    distinct: Tensor = torch.unique(graph.neighbors[entries])
    return distinct
