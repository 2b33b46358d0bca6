"""The data that a run folder keeps for inference, so that the training data are not needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.dataset import IdMaps, PreparedData, RecDataset
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.errors import DataError
from kgrec.runs.folder import RunFolder

TRAIN, VAL, TEST, NOT_POSITIVE = range(4)  # values of the column ``part``


@dataclass(frozen=True)
class KeptData:
    """Ids, interactions and graph of a finished run.

    Attributes:
        ids: raw ids and names.
        seen: every rated pair of user and item, positive or not.
        train: training positives.
        val: validation positives.
        test: test positives.
        positives: positives of all parts.
        triples: (M, 3) int64, head, relation and tail.
        about: model, seed and further facts on the run.
    """

    ids: IdMaps
    seen: Interactions
    train: Interactions
    val: Interactions
    test: Interactions
    positives: Interactions
    triples: Tensor
    about: Mapping[str, Any]

    @cached_property
    def graph(self) -> KnowledgeGraph:
        """The knowledge graph."""
        heads, relations, tails = self.triples.unbind(dim=1)
        sizes = self.ids.entities.height, self.ids.relations.height
        return KnowledgeGraph(heads, relations, tails, *sizes)

    @cached_property
    def neighborhood(self) -> Neighborhood:
        """S(v) of every entity."""
        return self.graph.neighborhood()

    @cached_property
    def popularity(self) -> Tensor:
        """(num_items,) number of training positives of each item."""
        return self.train.item_degrees()


def keep(
    folder: RunFolder, data: PreparedData, dataset: RecDataset, about: Mapping[str, Any]
) -> None:
    """Writes the data that inference needs into a run folder.

    Args:
        folder: run folder.
        data: the data before the split.
        dataset: the split data.
        about: model, seed and further plain facts.
    """
    parts = [(dataset.train, TRAIN)]
    for rows, part in ((dataset.val, VAL), (dataset.test, TEST)):
        positive = rows.labels > 0.5
        pairs = rows.users[positive], rows.items[positive]
        parts.append((Interactions.from_pairs(*pairs, dataset.num_users, dataset.num_items), part))
    rated = data.rated
    if rated is not data.positives:
        others = ~data.positives.contains(rated.users, rated.items)
        parts.append((rated.take(others), NOT_POSITIVE))
    seen = pl.concat(
        pl.DataFrame(
            {"user": pairs.users.numpy(), "item": pairs.items.numpy()},
            schema={"user": pl.Int32, "item": pl.Int32},
        ).with_columns(part=pl.lit(part, dtype=pl.Int8))
        for pairs, part in parts
    )
    graph = dataset.graph
    triples = pl.DataFrame(
        {
            "head": graph.heads.numpy(),
            "relation": graph.relations.numpy(),
            "tail": graph.tails.numpy(),
        }
    ).cast(pl.Int32)
    folder.write_inference(about, seen.sort("user", "item"), triples)


def read(folder: RunFolder) -> KeptData:
    """Reads what :func:`keep` wrote, and the raw ids.

    Raises:
        DataError: a file is missing, damaged or of another version, or the files do not fit
            together.
    """
    about, ids = folder.about(), IdMaps.load(folder.ids)
    sizes = {"user": ids.users.height, "item": ids.items.height, "part": NOT_POSITIVE + 1}
    seen = _numbers(folder.seen(), sizes, folder.seen_file)
    entities = ids.entities.height
    sizes = {"head": entities, "relation": ids.relations.height, "tail": entities}
    triples = _numbers(folder.triples(), sizes, folder.triples_file)
    users, items, part = seen.unbind(dim=1)

    def pairs(chosen: Tensor) -> Interactions:
        counts = ids.users.height, ids.items.height
        return Interactions.from_pairs(users[chosen], items[chosen], *counts)

    return KeptData(
        ids=ids,
        seen=pairs(torch.ones_like(part, dtype=torch.bool)),
        train=pairs(part == TRAIN),
        val=pairs(part == VAL),
        test=pairs(part == TEST),
        positives=pairs(part != NOT_POSITIVE),
        triples=triples,
        about=about,
    )


def _numbers(table: pl.DataFrame, sizes: Mapping[str, int], file: Any) -> Tensor:
    """(n, columns) int64 numbers of a table, each from 0 to below the size of its column."""
    for name, size in sizes.items():
        if name not in table.columns or not table[name].dtype.is_integer():
            raise DataError(f"{file}: found no column {name} of integers, expected one")
        numbers = table[name]
        if numbers.null_count() or (
            table.height and not (0 <= int(numbers.min()) <= int(numbers.max()) < size)  # type: ignore[arg-type]
        ):
            raise DataError(f"{file}: found {name} beyond the ids, expected 0 to {size - 1}")
    columns = [table[name].cast(pl.Int64).to_numpy(writable=True) for name in sizes]
    return torch.stack([torch.from_numpy(column) for column in columns], dim=1)
