"""Prepared data, before and after it is split."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.errors import DataError
from kgrec.files import write_parquet


@dataclass(frozen=True)
class IdMaps:
    """From integer ids back to the user's own; row i of a frame is id i.

    Attributes:
        users: column ``user``.
        items: columns ``item``, ``entity`` and ``name`` (null where the files have none).
        entities: columns ``entity`` and ``name`` (as above); the items' entities come first.
        relations: columns ``relation`` and ``name``.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    entities: pl.DataFrame
    relations: pl.DataFrame

    _FILES = ("users", "items", "entities", "relations")

    def save(self, folder: Path) -> None:
        """Writes one parquet file a kind of id."""
        for name in self._FILES:
            write_parquet(folder / f"{name}.parquet", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> IdMaps:
        """Reads what :meth:`save` wrote.

        Raises:
            DataError: a file is missing.
        """
        missing = [n for n in cls._FILES if not (folder / f"{n}.parquet").is_file()]
        if missing:
            raise DataError(f"{folder}: found no {missing[0]}.parquet, expected the saved id maps")
        return cls(
            *(pl.read_parquet(folder / f"{name}.parquet", glob=False) for name in cls._FILES)
        )


@dataclass(frozen=True)
class PreparedData:
    """Integer ids and a graph, not split yet.

    Attributes:
        name: of the data set.
        positives: pairs that count as positive feedback.
        rated: every pair the user has rated, positive or not.
        times: (n,) float64, seconds since 1970 of each positive, or None.
        given_parts: (n,) int64, the part that the files put each positive in, or None.
        given_negatives: (users, items) that the files give as negatives, or None.
        graph: the knowledge graph.
        ids: raw ids.
        account: what was counted on the way.
        seed: ``dataset.seed``, for the split and the evaluation negatives.
        files: raw file to its SHA-256.
        published_counts: sizes that the KGCN paper's Table 1 gives, or empty.
    """

    name: str
    positives: Interactions
    rated: Interactions
    given_negatives: tuple[Tensor, Tensor] | None
    graph: KnowledgeGraph
    ids: IdMaps
    account: Account
    times: Tensor | None = None
    given_parts: Tensor | None = None
    seed: int = 0
    files: dict[str, str] = field(default_factory=dict)
    published_counts: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Sizes, under the names of the paper's Table 1 (interactions are positives)."""
        return {
            "users": self.positives.num_users,
            "items": self.positives.num_items,
            "positives": len(self.positives),
            "entities": self.graph.num_entities,
            "relations": self.graph.num_relations,
            "triples": len(self.graph),
        }


@dataclass(frozen=True)
class RecDataset:
    """Everything a model may train on and an evaluation may look at.

    Attributes:
        name: of the data set.
        protocol: "paper" or "clean".
        graph: the knowledge graph; items are its entities 0 … num_items - 1.
        train: training positives.
        static_negatives: (users, items) to train on under ``negatives=static``.
        val: labelled rows for validation.
        test: labelled rows for the test.
        matched: under clean, {"val": …, "test": …}: the same positives against negatives that
            are as popular as they are; empty under paper.
        ids: raw ids.
        account: what was counted on the way.
        files: raw file to its SHA-256.
    """

    name: str
    protocol: str
    graph: KnowledgeGraph
    train: Interactions
    static_negatives: tuple[Tensor, Tensor]
    val: LabelledRows
    test: LabelledRows
    matched: dict[str, LabelledRows]
    ids: IdMaps
    account: Account
    files: dict[str, str]

    @property
    def num_users(self) -> int:
        """Users, also those without a training positive."""
        return self.train.num_users

    @property
    def num_items(self) -> int:
        """Items, also those nobody has touched."""
        return self.train.num_items

    @property
    def num_entities(self) -> int:
        """Entities, items included."""
        return self.graph.num_entities

    @property
    def num_relations(self) -> int:
        """Relations of the graph."""
        return self.graph.num_relations

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change when the graph or any split does."""
        digest = hashlib.sha256(f"{self.num_users} {self.num_items} {self.num_entities}".encode())
        tensors = [self.graph.heads, self.graph.relations, self.graph.tails]
        tensors += [self.train.users, self.train.items]
        for rows in (self.val, self.test):
            tensors += [rows.users, rows.items, rows.labels.long()]
        for tensor in tensors:
            digest.update(tensor.to(torch.int64).contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
