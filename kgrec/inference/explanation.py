"""Reasons of a recommendation with the user's own ids and names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from kgrec.errors import DataError
from kgrec.inference import wording
from kgrec.inference.kept_data import KeptData
from kgrec.models.reasons import (
    EXACT,
    LEAVE_ONE_OUT,
    NONE,
    POPULARITY,
    SIMILAR,
    Reasons,
    Step,
    Term,
)
from kgrec.models.recommender import Recommender

MOST_CLAUSES = 3  # reasons in the text
NO_REASON = "the model gives no reason"
NO_POSITIVE_REASON = "no single reason raises its score"
NOTHING_LIKED = "there is no liked item to compare it with"

NOTES = {
    EXACT: "A share is the score minus the score without the reason. The shares of all reasons "
    "and the further parts add up to the score.",
    LEAVE_ONE_OUT: "A share is the score minus the score without the reason, all other attention "
    "weights unchanged. It is exact for one reason; shares of several reasons need not add up, "
    "and a path's share includes the longer paths through it.",
    SIMILAR: "The model does not score by these items. They are the items of the history whose "
    "vectors are most similar, which is no cause of the score.",
    POPULARITY: "The score depends on the number of training positives alone.",
    NONE: "The model scores without the item's neighbours and the user's history, so there is no "
    "reason to give.",
}


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


@dataclass(frozen=True)
class Explanation:
    """Why an item is recommended to a user, as far as the model can say.

    Attributes:
        user: raw id, or name of a new user.
        item: recommended item.
        model: name of the model.
        source: "model"; "fold-in (…)" for a user whose parameters were inferred; "popularity"
            for a user about whom the model knows nothing.
        reasons: score, method and terms as numbers.
        contributions: the best reasons, the largest share first.
        left_out: number of further reasons.
        relations: ``relation``, ``name`` and ``score``: π(u, r) of every relation, the highest
            first; None for models without it.
        explainer: names further terms.
        number: number of the item.
    """

    user: str
    item: Named
    model: str
    source: str
    reasons: Reasons
    contributions: tuple[Contribution, ...]
    left_out: int
    relations: pl.DataFrame | None
    explainer: Explainer
    number: int

    @property
    def score(self) -> float:
        """Score of the pair."""
        return self.reasons.score

    @property
    def method(self) -> str:
        """What the shares are: see :data:`kgrec.models.reasons`."""
        return self.reasons.method

    @property
    def note(self) -> str:
        """What a share is, and whether shares add up."""
        return NOTES[self.method]

    def why(self) -> str:
        """The most important reason as one clause, such as "because you liked …"."""
        return self._clauses(1)

    def text(self) -> str:
        """The reasons in plain English, one sentence."""
        title = self.item.text
        clauses = self._clauses(MOST_CLAUSES)
        if clauses.startswith(("because", "similar")):
            comma = ", " if clauses.startswith("because") else " is "
            return f"{title}{comma}{clauses}."
        return f"{title}: {clauses}."

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = None if self.relations is None else self.relations.to_dicts()
        return {
            "user": self.user,
            "item": self.item.id,
            "name": self.item.name,
            "model": self.model,
            "source": self.source,
            "score": self.score,
            "method": self.method,
            "note": self.note,
            "text": self.text(),
            "contributions": [each.as_dict() for each in self.contributions],
            "left_out": self.left_out,
            "together": self.reasons.together,
            "parts": dict(self.reasons.parts),
            "relations": rows,
        }

    def frame(self) -> pl.DataFrame:
        """``rank``, ``reason``, ``weight``, ``share`` (or null), ``history`` (list of ids)."""
        rows = [
            (rank, each.label, each.weight, each.share, [named.id for named in each.history])
            for rank, each in enumerate(self.contributions, 1)
        ]
        schema = {
            "rank": pl.Int64, "reason": pl.String, "weight": pl.Float64, "share": pl.Float64,
            "history": pl.List(pl.String),
        }  # fmt: skip
        return pl.DataFrame(rows, schema=schema, orient="row")

    def picture(self, path: str | Path) -> None:
        """Draws the receptive field with this user's weights as widths of edges (SVG or PNG).

        Raises:
            DataError: the model has no receptive field, or the file name ends otherwise.
        """
        from kgrec.inference.picture import draw

        terms = [t for t in self.reasons.terms if t.steps and t.item is None]
        if self.reasons.relation_scores is None or not terms:
            raise DataError(
                f"picture: found {self.model} without neighbours of {self.item.text} that it "
                "weighs, expected a model of the KGCN family and an item of the graph"
            )
        draw(self, terms, Path(path).expanduser())

    def _clauses(self, most: int) -> str:
        """Up to ``most`` reasons, with "because" where they are causes."""
        if self.method == SIMILAR:
            names = [each.item.text for each in self.contributions if each.item]
            near = wording.listed(names[: max(2, most)]) if names else ""
            return f"similar to {near}, which you liked" if names else NOTHING_LIKED
        if self.method == POPULARITY:
            count = round(self.contributions[0].weight)
            return f"because {count:,} {'user likes' if count == 1 else 'users like'} it"
        causes = [each for each in self.contributions if (each.share or 0) > 0]
        if not causes:
            return NO_REASON if self.method == NONE else NO_POSITIVE_REASON
        if causes[0].item and not causes[0].steps:
            names = [each.item.text for each in causes if each.item]
            return f"because you liked {wording.listed(names[: max(2, most)])}"
        first = {each.steps[0].entity.id if each.steps else each.label: each
                 for each in reversed(causes)}  # fmt: skip
        chosen = [each for each in causes if each in first.values()][:most]
        return "; ".join(f"because {_clause(each)}" for each in chosen)


def _clause(reason: Contribution) -> str:
    """The reason after "because"."""
    liked = [named.text for named in reason.history]
    if reason.relations:
        return wording.alike(liked, " or ".join(reason.relations))
    steps = [f"{step.reads} {step.entity.text}" for step in reason.steps]
    first, last = reason.steps[0], reason.steps[-1]
    from_history = reason.item is not None
    to_history = bool(liked) and last.item == reason.history[0].id
    common = (
        wording.shared(liked, first.reads, first.entity.text)
        if liked
        else wording.own(first.reads, first.entity.text)
    )
    if from_history and not (liked and len(steps) == 1):
        clause = f"you liked {reason.item.text if reason.item else ''} ({', then '.join(steps)})"
    elif to_history and len(steps) == 1:
        clause = wording.linked(liked[0], first.reads)
    elif to_history and (len(steps) > 2 or first.relation != last.relation):
        over = ", then ".join(steps[:-1])
        clause = f"you liked {liked[0]}, which is linked over {over} ({last.reads})"
    elif len(steps) == 1 or to_history:
        clause = common
    else:
        clause = f"{common}, and beyond it {', then '.join(steps[1:])}"
    return clause


class Explainer:
    """Explains items to one user.

    Args:
        model: model that scores the user.
        data: ids, interactions and graph.
        model_name: name of the model.
        user: raw id, or name of a new user.
        number: number of the user in ``model``.
        history: (n,) items that the user liked.
        source: see :class:`Explanation`.
    """

    def __init__(
        self,
        model: Recommender,
        data: KeptData,
        model_name: str,
        user: str,
        number: int,
        history: Tensor,
        source: str,
    ) -> None:
        self.model, self.data, self.model_name = model, data, model_name
        self.user, self.number, self.source = user, number, source
        self.history = history

    def explain(self, item: int, top: int) -> Explanation:
        """Explains one item by its ``top`` most important reasons."""
        history = self.history[self.history != item]
        device = next((t.device for t in [*self.model.parameters(), *self.model.buffers()]), None)
        with torch.no_grad():
            reasons = self.model.explain(self.number, item, history.to(device))
        contributions = tuple(self.named(term, item) for term in reasons.terms[:top])
        return Explanation(
            user=self.user,
            item=self.item(item),
            model=self.model_name,
            source=self.source,
            reasons=reasons,
            contributions=contributions,
            left_out=reasons.left_out + len(reasons.terms) - len(contributions),
            relations=self._relations(reasons.relation_scores),
            explainer=self,
            number=item,
        )

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
        triples = self.data.triples
        there = torch.tensor([node, step.relation, step.entity])
        back = there.flip(0)
        same = triples[triples[:, 1] == step.relation]
        return not bool((same == there).all(1).any()) and bool((same == back).all(1).any())

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
        """Distinct items without ``item``, those that share most with it first."""
        items = torch.unique(items[items != item])
        return sorted(items.tolist(), key=lambda i: (-self._in_common(item, i), i))

    def _in_common(self, item: int, other: int) -> int:
        """Number of (relation, entity) that two items share."""
        size = len(self.data.neighborhood.degrees)
        mine, theirs = (r * size + n for r, n in map(self._neighbors, (item, other)))
        return int(torch.isin(mine, theirs).sum())

    def _relations(self, scores: Tensor | None) -> pl.DataFrame | None:
        if scores is None:
            return None
        ids = self.data.ids.relations
        # A relation that leads from items is read forwards, one that leads to items backwards.
        heads, kinds, tails = self.data.triples.unbind(dim=1)
        num_items = self.data.ids.items.height
        towards = torch.zeros(ids.height).index_add_(
            0, kinds, ((tails < num_items).float() - (heads < num_items).float())
        )
        names = [self.relation(r, bool(towards[r] > 0))[1] for r in range(ids.height)]
        return ids.select("relation").with_columns(
            name=pl.Series(names, dtype=pl.String), score=scores.cpu().double().numpy()
        ).sort("score", descending=True, maintain_order=True)  # fmt: skip
