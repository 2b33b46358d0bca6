"""Reasons of a recommendation with the user's own ids and names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.errors import DataError
from kgrec.inference import wording
from kgrec.inference.kept_data import KeptData
from kgrec.inference.naming import Contribution, Named, Namer
from kgrec.inference.receptive_field import field_tree
from kgrec.models.reasons import (
    EXACT,
    LEAVE_ONE_OUT,
    NONE,
    POPULARITY,
    SIMILAR,
    Reasons,
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


@dataclass(frozen=True)
class Explanation:
    """Why an item is recommended to a user, as far as the model can say.

    Attributes:
        user: raw id, or name of a new user.
        item: recommended item.
        model: name of the model.
        source: "model"; "fold-in (…)" for a user whose parameters were inferred; "popularity"
            if the model knows nothing of the user.
        reasons: score, method and terms as numbers.
        contributions: the best reasons, the largest share first.
        left_out: number of further reasons.
        relations: ``relation``, ``name`` and ``score``: π(u, r) of every relation (with weights of
            relations: π + ln w), the highest first; None for models without it.
        namer: names further terms.
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
    namer: Namer
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
            "receptive_field": self.receptive_field(),
        }

    def frame(self) -> pl.DataFrame:
        """``rank``, ``reason``, ``weight``, ``share`` (or null), ``history`` (list of ids)."""
        rows = [
            (rank, each.label, each.weight, each.share, [named.id for named in each.history])
            for rank, each in enumerate(self.contributions, 1)
        ]
        schema: dict[str, Any] = {
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

        terms = self._paths()
        if not terms:
            raise DataError(
                f"picture: found {self.model} without neighbours of {self.item.text} that it "
                "weighs, expected a model of the KGCN family and an item of the graph"
            )
        title = f"user {self.user}: {self.item.text}"
        draw(self.namer, self.number, terms, self.reasons.left_out, title, Path(path).expanduser())

    def receptive_field(self) -> dict[str, Any] | None:
        """The item's receptive field with this user's weights, as the picture shows it.

        Returns:
            The item as a nested dictionary: ``entity`` (raw id: of the item, if it is one),
            ``name``, ``item`` and ``liked`` (booleans), ``relation`` and ``relation_name`` of the
            edge to it (None for the item itself), ``weight`` (attention of the edge) and
            ``children``. None for models without a receptive field.
        """
        terms = self._paths()
        return field_tree(self.namer, self.number, terms).to_dict() if terms else None

    def _paths(self) -> list[Term]:
        """Paths from the item, of models that weigh relations; else none."""
        if self.reasons.relation_scores is None:
            return []
        return [t for t in self.reasons.terms if t.steps and t.item is None]

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
    if not reason.steps and reason.item is not None:
        return f"you liked {reason.item.text}"
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
        self.model, self.model_name = model, model_name
        self.user, self.number, self.source = user, number, source
        self.history, self.namer = history, Namer(data, history)

    def explain(self, item: int, top: int) -> Explanation:
        """Explains one item by its ``top`` most important reasons."""
        history = self.history[self.history != item]
        device = next((t.device for t in [*self.model.parameters(), *self.model.buffers()]), None)
        with torch.no_grad():
            reasons = self.model.explain(self.number, item, history.to(device))
        contributions = tuple(self.namer.named(term, item) for term in reasons.terms[:top])
        return Explanation(
            user=self.user,
            item=self.namer.item(item),
            model=self.model_name,
            source=self.source,
            reasons=reasons,
            contributions=contributions,
            left_out=reasons.left_out + len(reasons.terms) - len(contributions),
            relations=self.namer.relations(reasons.relation_scores),
            namer=self.namer,
            number=item,
        )
