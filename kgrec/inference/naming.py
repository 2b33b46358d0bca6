"""Terms of a score with raw ids and names, and the history that shares their entities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from kgrec.inference import wording
from kgrec.inference.kept_data import KeptData
from kgrec.models.reasons import Step, Term


class Named(NamedTuple):
    """A raw id and its name, or None."""

    id: str
    name: str | None

    @property
    def text(self) -> str:
        """The title, else the raw id."""
        return wording.readable_title(self.name) if self.name else self.id


class NamedStep(NamedTuple):
    """A step of a path.

    Attributes:
        relation: raw id.
        reads: relation in words.
        entity: entity that the step leads to.
        item: raw id of the entity as an item, or None.
    """

    relation: str
    reads: str
    entity: Named
    item: str | None


@dataclass(frozen=True)
class Contribution:
    """One reason, with names.

    Attributes:
        weight: weight in the model: attention along the path, similarity, or count.
        share: the score minus the score without the reason; None: it is no cause.
        steps: path in the graph, from ``item``, or from the recommended item if that is None.
        item: item of the user's history, or None.
        relations: relations of a meta-path in words; else empty.
        history: items that the user liked and that have the same entity by the same relation.
    """

    weight: float
    share: float | None
    steps: tuple[NamedStep, ...]
    item: Named | None
    relations: tuple[str, ...]
    history: tuple[Named, ...]

    @property
    def label(self) -> str:
        """The reason in a few words."""
        path = " → ".join(f"{step.reads} {step.entity.text}" for step in self.steps)
        start = self.item.text if self.item else ""
        return " → ".join(filter(None, [start, path, " or ".join(self.relations)])) or "popularity"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "reason": self.label,
            "item": self.item and self.item._asdict(),
            "steps": [
                {
                    "relation": step.relation, "relation_name": step.reads,
                    "entity": step.entity.id, "name": step.entity.name, "item": step.item,
                }
                for step in self.steps
            ],
            "relations": list(self.relations),
            "weight": self.weight,
            "share": self.share,
            "history": [named._asdict() for named in self.history],
        }  # fmt: skip


class Namer:
    """Names terms for one user.

    Args:
        data: ids, interactions and graph.
        history: (n,) items that the user liked.
    """

    def __init__(self, data: KeptData, history: Tensor) -> None:
        self.data, self.history = data, history
        self._triples: dict[int, Tensor] = {}  # by entity
        self._in_common: dict[int, dict[int, int]] = {}  # by item, see common

    def item(self, number: int) -> Named:
        """Raw id and name of an item."""
        row = self.data.ids.items.row(number, named=True)
        return Named(str(row["item"]), row["name"])

    def entity(self, number: int) -> Named:
        """Raw id and name of an entity."""
        row = self.data.ids.entities.row(number, named=True)
        return Named(str(row["entity"]), row["name"])

    def relation(self, number: int, backwards: bool = False) -> tuple[str, str]:
        """Raw id of a relation, and the relation in words."""
        row = self.data.ids.relations.row(number, named=True)
        raw = str(row["relation"])
        return raw, wording.readable_relation(row["name"] or raw, backwards)

    def attributes(self, item: int, most: int) -> list[NamedStep]:
        """The first ``most`` neighbours of an item."""
        relations, neighbors = (column[:most].tolist() for column in self._neighbors(item))
        steps = map(Step, relations, neighbors)
        return [self._step(item, step) for step in steps]

    def named(self, term: Term, item: int) -> Contribution:
        """A term with names and with the items of the history that share its entities."""
        if term.neighbor is not None:
            graph = self.data.neighborhood
            edge = int(graph.indptr[item]) + term.neighbor
            steps: tuple[Step, ...] = (
                Step(int(graph.relations[edge]), int(graph.neighbors[edge])),
            )
        else:
            steps = term.steps
        start = item if term.item is None else term.item
        named, node = [], start
        for step in steps:
            named.append(self._step(node, step))
            node = step.entity
        if term.relations:
            history = self._like(item, term.relations)
        elif term.item is None or (len(steps) == 1 and self._has_edge(item, steps[0])):
            history = self._sharing(item, steps)
            if term.item in history:  # the model reads the entity from this item
                history = [term.item, *(i for i in history if i != term.item)]
        else:  # the path starts at the history and leads elsewhere
            history = []
        return Contribution(
            weight=term.weight,
            share=term.share,
            steps=tuple(named),
            item=None if term.item is None else self.item(term.item),
            relations=tuple(self.relation(r)[1] for r in term.relations),
            history=tuple(self.item(i) for i in history),
        )

    def _step(self, node: int, step: Step) -> NamedStep:
        raw, reads = self.relation(step.relation, self._backwards(node, step))
        is_item = step.entity < self.data.ids.items.height
        item = self.item(step.entity) if is_item else None
        entity = self.entity(step.entity)
        if item is not None and entity.name is None:
            entity = entity._replace(name=item.name)
        return NamedStep(raw, reads, entity, None if item is None else item.id)

    def _backwards(self, node: int, step: Step) -> bool:
        """Whether the graph has the step's triple only from the entity to the node."""
        if node not in self._triples:
            triples = self.data.triples
            self._triples[node] = triples[(triples[:, 0] == node) | (triples[:, 2] == node)]
        there = torch.tensor([node, step.relation, step.entity])
        same = self._triples[node] == there
        back = self._triples[node] == there.flip(0)
        return not bool(same.all(1).any()) and bool(back.all(1).any())

    def _neighbors(self, entity: int) -> tuple[Tensor, Tensor]:
        """Relations and neighbours of an entity."""
        graph = self.data.neighborhood
        place = slice(int(graph.indptr[entity]), int(graph.indptr[entity + 1]))
        return graph.relations[place], graph.neighbors[place]

    def _has_edge(self, item: int, step: Step) -> bool:
        relations, neighbors = self._neighbors(item)
        return bool(((relations == step.relation) & (neighbors == step.entity)).any())

    def _sharing(self, item: int, steps: Sequence[Step]) -> list[int]:
        """The end of the path, if it is in the history; else items that share its first entity."""
        if not steps:
            return []
        first, last = steps[0], steps[-1]
        if last.entity != item and bool((self.history == last.entity).any()):
            return [last.entity]
        relations, neighbors = self._neighbors(first.entity)
        found = neighbors[relations == first.relation]
        return self._ranked(item, found[torch.isin(found, self.history)])

    def _like(self, item: int, relations: Sequence[int]) -> list[int]:
        """Items of the history that have an entity in common with the item by some relations."""
        kinds, neighbors = self._neighbors(item)
        shared = []
        for entity in neighbors[torch.isin(kinds, torch.tensor(relations))].tolist():
            back, others = self._neighbors(entity)
            shared.append(others[torch.isin(back, torch.tensor(relations))])
        found = torch.cat(shared) if shared else torch.empty(0, dtype=torch.int64)
        return self._ranked(item, found[torch.isin(found, self.history)])

    def _ranked(self, item: int, items: Tensor) -> list[int]:
        """Distinct items of the history without ``item``, those that share most with it first."""
        items, common = torch.unique(items[items != item]), self.common(item)
        return sorted(items.tolist(), key=lambda i: (-common[i], i))

    def common(self, item: int) -> dict[int, int]:
        """Number of (relation, entity) that the item shares with each item of the history."""
        if item not in self._in_common:
            graph, history = self.data.neighborhood, torch.unique(self.history)
            lengths = graph.degrees[history]
            owner = torch.repeat_interleave(lengths)
            rank = torch.arange(len(owner)) - (lengths.cumsum(0) - lengths)[owner]
            edge = graph.indptr[history][owner] + rank
            size = len(graph.degrees)
            mine, theirs = (
                relations * size + neighbors
                for relations, neighbors in (
                    self._neighbors(item),
                    (graph.relations[edge], graph.neighbors[edge]),
                )
            )
            counts = torch.bincount(owner[torch.isin(theirs, mine)], minlength=len(history))
            self._in_common[item] = dict(zip(history.tolist(), counts.tolist(), strict=True))
        return self._in_common[item]

    def relations(self, scores: Tensor | None) -> pl.DataFrame | None:
        """``relation``, ``name`` and ``score`` of every relation, from scores (R,)."""
        if scores is None:
            return None
        frame = named_relations(self.data).with_columns(score=scores.cpu().double().numpy())
        return frame.sort("score", descending=True, maintain_order=True)


def named_relations(data: KeptData) -> pl.DataFrame:
    """``relation`` (raw id) and ``name`` (in words) of every relation, by number.

    A relation that leads from items is read forwards, one that leads to items backwards.
    """
    ids, num_items = data.ids.relations, data.ids.items.height
    heads, kinds, tails = data.triples.unbind(dim=1)
    towards = torch.zeros(ids.height).index_add_(
        0, kinds, ((tails < num_items).float() - (heads < num_items).float())
    )
    namer = Namer(data, torch.empty(0, dtype=torch.int64))
    names = [namer.relation(r, bool(towards[r] > 0))[1] for r in range(ids.height)]
    return ids.select("relation").with_columns(name=pl.Series(names, dtype=pl.String))
