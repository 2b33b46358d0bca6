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
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.data.parquet_files import read_parquet
from kgrec.errors import DataError
from kgrec.files import write_parquet


@dataclass(frozen=True)
class IdMaps:
    """Maps from integer ids to the user's own ids; row i of a frame is id i.

    Attributes:
        users: column ``user``.
        items: columns ``item``, ``entity`` and ``name`` (null where the files have none), and
            ``text`` where the files have texts on the items.
        entities: columns ``entity`` and ``name`` (as above); the entities of the items come first.
        relations: columns ``relation`` and ``name``.
        user_entities: entities of the user graph, columns ``entity`` and ``name``; the users come
            first. None: no user graph.
        user_relations: relations of the user graph, columns ``relation`` and ``name``, or None.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    entities: pl.DataFrame
    relations: pl.DataFrame
    user_entities: pl.DataFrame | None = None
    user_relations: pl.DataFrame | None = None

    _FILES = ("users", "items", "entities", "relations")
    _OPTIONAL = ("user_entities", "user_relations")

    def save(self, folder: Path) -> None:
        """Writes one Parquet file for each kind of id."""
        for name in (*self._FILES, *self._OPTIONAL):
            if (table := getattr(self, name)) is not None:
                write_parquet(folder / f"{name}.parquet", table)

    @classmethod
    def load(cls, folder: Path, trusted: bool = False) -> IdMaps:
        """Reads the files that :meth:`save` wrote.

        Args:
            folder: the folder.
            trusted: whether the files are known to be whole, see :func:`read_parquet`.

        Raises:
            DataError: a file is missing or damaged; the message names it.
        """
        missing = [n for n in cls._FILES if not (folder / f"{n}.parquet").is_file()]
        if missing:
            raise DataError(f"{folder}: found no {missing[0]}.parquet, expected the saved id maps")
        optional = [n for n in cls._OPTIONAL if (folder / f"{n}.parquet").is_file()]
        tables = {}
        for name in (*cls._FILES, *optional):
            tables[name] = read_parquet(path := folder / f"{name}.parquet", trusted)
            _check_ids(tables[name], name, path)
        return cls(**tables)


def _check_ids(table: pl.DataFrame, name: str, path: Path) -> None:
    """Checks that a table of a folder, which may be a stranger's, has its ids and names as texts.

    Raises:
        DataError: a column is missing or of another type, or an id is missing.
    """
    own = {"users": "user", "items": "item"}.get(name)
    own = own or ("relation" if name.endswith("relations") else "entity")
    further = {"users": [], "items": ["entity", "name"]}.get(name, ["name"])
    for column in (own, *further):
        if column not in table.columns or table.schema[column] not in (pl.String, pl.Null):
            raise DataError(f"{path}: found no column {column} of texts, expected one")
        if column != "name" and table[column].null_count():
            raise DataError(f"{path}: found rows without {column}, expected one in each row")
    if name in ("users", "items") and table[own].is_duplicated().any():
        raise DataError(f"{path}: found a {own} twice, expected each once")


@dataclass(frozen=True)
class PreparedData:
    """Prepared data: interactions and graph with integer ids, before the split.

    Attributes:
        name: name of the data set.
        positives: positive pairs.
        rated: all rated pairs, positive or not.
        times: (n,) float64, time of each positive in seconds since 1970, or None.
        given_parts: (n,) int64, part of each positive in the files, or None.
        weights: (n,) float64, weight of each positive in training, above 0; None: all are equal.
        given_negatives: (users, items) that the files give as negatives, or None.
        graph: the knowledge graph.
        ids: raw ids.
        account: counts of the preparation's steps.
        user_graph: graph of the users, their attributes and the links between them, with relations
            of its own; users are its entities 0 … num_users - 1. None: no user graph.
        seed: ``dataset.seed``, of the split and the evaluation negatives.
        files: SHA-256 of each raw file, by name.
        published_counts: sizes in Table 1 of the KGCN paper, or empty.
    """

    name: str
    positives: Interactions
    rated: Interactions
    given_negatives: tuple[Tensor, Tensor] | None
    graph: KnowledgeGraph
    ids: IdMaps
    account: Account
    user_graph: KnowledgeGraph | None = None
    times: Tensor | None = None
    given_parts: Tensor | None = None
    weights: Tensor | None = None
    seed: int = 0
    files: dict[str, str] = field(default_factory=dict)
    published_counts: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Sizes of the data set, named as in Table 1 of the paper (interactions are positives)."""
        counts = {
            "users": self.positives.num_users,
            "items": self.positives.num_items,
            "positives": len(self.positives),
            "entities": self.graph.num_entities,
            "relations": self.graph.num_relations,
            "triples": len(self.graph),
        }
        if self.user_graph is not None:
            counts["user entities"] = self.user_graph.num_entities
            counts["user relations"] = self.user_graph.num_relations
            counts["user triples"] = len(self.user_graph)
        return counts


@dataclass(frozen=True)
class RecDataset:
    """A split data set: all that training and evaluation use.

    Attributes:
        name: name of the data set.
        protocol: "paper" or "clean".
        graph: the knowledge graph; items are its entities 0 … num_items - 1.
        train: training positives.
        static_negatives: (users, items), the training negatives under ``negatives=static``.
        val: labelled rows for validation.
        test: labelled rows for the test.
        matched: under clean, {"val": …, "test": …}: the same positives with negatives of equal
            popularity; empty under paper.
        ids: raw ids.
        account: counts of the steps of preparation and split.
        files: SHA-256 of each raw file, by name.
        train_weights: (n,) float64, weight of each training positive; None: all are equal.
        user_graph: see :class:`PreparedData`.
        items_apart: whether each part has its own items, as under ``split=cold_items``.
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
    train_weights: Tensor | None = None
    user_graph: KnowledgeGraph | None = None
    items_apart: bool = False

    @property
    def num_users(self) -> int:
        """Number of users, including users without a training positive."""
        return self.train.num_users

    @property
    def num_items(self) -> int:
        """Number of items, including items without an interaction."""
        return self.train.num_items

    @property
    def num_entities(self) -> int:
        """Number of entities, including the items."""
        return self.graph.num_entities

    @property
    def num_relations(self) -> int:
        """Number of relations."""
        return self.graph.num_relations

    @cached_property
    def training_items(self) -> Tensor | None:
        """(m,) ascending items from which training negatives are drawn; None: all items.

        If each part has its own items, the other parts' items must not be trained as negatives.
        """
        if not self.items_apart:
            return None
        items: Tensor = torch.unique(torch.cat([self.train.items, self.static_negatives[1]]))
        return items

    def candidate_items(self, stage: str) -> Tensor | None:
        """(m,) ascending items that are ranked: those with a positive of the part; None: all items.

        Args:
            stage: "val" or "test".
        """
        if not self.items_apart:
            return None
        rows = self.test if stage == "test" else self.val
        items: Tensor = torch.unique(rows.items[rows.labels > 0.5])
        return items

    @property
    def num_candidates(self) -> int:
        """Number of items that are ranked, in the smaller of validation and test."""
        candidates = [self.candidate_items(stage) for stage in ("val", "test")]
        return min(self.num_items if items is None else len(items) for items in candidates)

    @cached_property
    def neighborhood(self) -> Neighborhood:
        """S(v) of every entity."""
        return self.graph.neighborhood()

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits that change with the graph or any part of the split.

        With weights, ``+`` and 16 digits that change with the weights follow, and likewise with a
        user graph: runs with the same digits before the first ``+`` are tested on the same rows.
        """
        digest = hashlib.sha256(f"{self.num_users} {self.num_items} {self.num_entities}".encode())
        tensors = [self.graph.heads, self.graph.relations, self.graph.tails]
        tensors += [self.train.users, self.train.items]
        for rows in (self.val, self.test):
            tensors += [rows.users, rows.items, rows.labels.long()]
        if self.items_apart:
            digest.update(b"items apart")  # other negatives and candidates than before
        for tensor in tensors:
            numbers = tensor.to(torch.int64).contiguous().numpy()
            digest.update(numbers.data)  # without a copy of mapped triples
        fingerprint = digest.hexdigest()[:16]
        if self.train_weights is not None:
            weights = self.train_weights.contiguous().numpy().tobytes()
            fingerprint += f"+{hashlib.sha256(weights).hexdigest()[:16]}"
        if self.user_graph is not None:
            graph = self.user_graph
            sizes = torch.tensor([graph.num_entities, graph.num_relations])
            numbers = torch.cat([sizes, graph.heads, graph.relations, graph.tails]).numpy()
            fingerprint += f"+{hashlib.sha256(numbers.tobytes()).hexdigest()[:16]}"
        return fingerprint
