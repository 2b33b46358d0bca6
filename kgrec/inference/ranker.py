"""Ranks items for users of a run and for new users.

Shapes: n users, k items each.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import polars as pl
import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import DataError
from kgrec.evaluation.ties import tie_order
from kgrec.evaluation.topk import top_k
from kgrec.inference.histories import renumbered
from kgrec.inference.index import ItemIndex
from kgrec.inference.kept_data import KeptData
from kgrec.models.inner_product import InnerProduct
from kgrec.models.recommender import Recommender

ScoreAll = Callable[[Tensor], Tensor]
"""A function from users (B,) to (B, num_items) scores."""

FEW_USERS = 4  # users before values are computed that speed up further users
MODEL, POPULARITY = "model", "popularity"  # values of the column ``source``
SCHEMA = {
    "user": pl.String, "rank": pl.Int32, "item": pl.String, "name": pl.String,
    "score": pl.Float32, "source": pl.String,
}  # fmt: skip


class Ranked(NamedTuple):
    """The best items of n users, best first.

    Attributes:
        scores: (n, k) float, on the CPU; -inf where a user has fewer than k items left.
        items: (n, k) int64, on the CPU; -1 where a user has fewer than k items left.
        sources: values of the column ``source``, one for each user.
    """

    scores: Tensor
    items: Tensor
    sources: list[str]


class Ranker:
    """The best items of users; who has no trained parameters is folded in, or gets popularity.

    Args:
        model: trained model.
        data: data of its run.

    Attributes:
        index: approximate index of the items, or None to rank all items.
    """

    def __init__(self, model: Recommender, data: KeptData) -> None:
        self.model, self.data = model, data
        self.index: ItemIndex | None = None
        self._num_scored = 0

    @cached_property
    def device(self) -> torch.device:
        """Device that computes."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        return tensors[0].device if tensors else torch.device("cpu")

    @cached_property
    def encoded(self) -> Any:
        """Values of the model that depend only on its parameters."""
        with torch.no_grad():
            return self.model.encode()

    @cached_property
    def tie_order(self) -> Tensor:
        """Items in the order of equal scores, as in the evaluation of the run."""
        return tie_order(self.data.ids.items["item"].to_list(), int(self.data.about["seed"]))

    def reweighed(self, weights: Tensor) -> Ranker:
        """A ranker by the model with multipliers (R,) of relations; it shares what is encoded.

        Raises:
            SettingError: the model has no attention to relations.
        """
        self._num_scored += 1  # several such rankers are worth encoding the items once
        twin = copy.copy(self)
        twin.model = self.model.reweighed(weights)
        twin.encoded = self.encoded
        return twin

    @property
    def fold_in_source(self) -> str:
        """The value of ``source`` for users who are folded in."""
        return f"fold-in ({self.model.fold_in_method})"

    def folded(self, pairs: Interactions) -> Recommender:
        """A model whose users are new users.

        Raises:
            SettingError: the model cannot fold in users.
        """
        return self.model.fold_in(pairs.to(self.device), int(self.data.about["seed"]))

    @torch.no_grad()
    def score(self, users: Tensor, items: Tensor) -> Tensor:
        """(n,) scores of pairs of known users (n,) and items (n,), on the CPU.

        Parameters of a user without a training positive were never trained; such a user is folded
        in, where the model can and the user has a positive in another part; else the score is the
        item's popularity, as in :meth:`best_of_known`.
        """
        scores = self._pairs(self.model, users, items)
        unknown = ~(self._trained | self._has_history)[users]
        scores[unknown] = self.data.popularity[items[unknown]].to(scores.dtype)
        distinct = torch.unique(users)
        untrained = distinct[self._has_history[distinct] & ~self._trained[distinct]]
        if len(untrained):
            model = self.folded(renumbered(self.data.positives, untrained))
            rows = torch.nonzero(torch.isin(users, untrained)).squeeze(1)
            numbers = torch.searchsorted(untrained, users[rows])
            scores[rows] = self._pairs(model, numbers, items[rows])
        return scores

    @torch.no_grad()
    def score_new(self, pairs: Interactions, users: Tensor, items: Tensor) -> Tensor:
        """(n,) scores of pairs of new users (n,), numbered as in ``pairs``, and items (n,).

        Raises:
            DataError: the model cannot infer the parameters of new users.
        """
        if self.model.fold_in_method is None:
            raise DataError(
                f"history: found new users, expected users of the run, because "
                f"{self.data.about['model']} cannot infer the parameters of new users"
            )
        return self._pairs(self.folded(pairs), users, items)

    def _pairs(self, model: Recommender, users: Tensor, items: Tensor) -> Tensor:
        if not len(users):
            return torch.empty(0)
        return model.score(users.to(self.device), items.to(self.device)).cpu()

    def known_users(
        self, users: Tensor, k: int, exclude_seen: bool, allowed: Tensor | None
    ) -> Iterator[pl.DataFrame]:
        """Recommendations to users of the run, in the order of ``users``."""
        if len(users):
            exclude = renumbered(self.data.seen, users) if exclude_seen else None
            names = self.data.ids.users["user"].gather(users.numpy())
            yield self._frame(names, self.best_of_known(users, k, exclude, allowed))

    def new_users(
        self, names: list[str], pairs: Interactions, k: int, exclude_seen: bool,
        allowed: Tensor | None,
    ) -> Iterator[pl.DataFrame]:  # fmt: skip
        """Recommendations to new users."""
        ranked = self.best_of_new(pairs, k, pairs if exclude_seen else None, allowed)
        yield self._frame(pl.Series(names, dtype=pl.String), ranked)

    def best_of_known(
        self, users: Tensor, k: int, exclude: Interactions | None, allowed: Tensor | None = None
    ) -> Ranked:
        """The best items of users of the run, without frames.

        A user without a training positive has parameters that were never trained. Positives of
        other parts are then a history to fold in; without one, popularity answers.

        Args:
            users: (n,) users of the run; a user may occur more than once.
            k: number of items for each user.
            exclude: items to leave out, for users 0 … n - 1 in the order of ``users``.
            allowed: (num_items,) bool, items to choose from, on the device; None: all.
        """
        trained = self._trained[users]
        if bool(trained.all()):
            on_device = users.to(self.device)
            vectors = self._vectors(self.model, on_device, allowed)
            best = self._best(
                lambda rows: self._score_all(on_device[rows]),
                len(users), k, exclude, allowed, vectors,
            )  # fmt: skip
            return Ranked(*best, [MODEL] * len(users))
        has_history = self._has_history[users] & ~trained
        scores = torch.empty(len(users), k)
        items = torch.empty(len(users), k, dtype=torch.int64)
        sources = [""] * len(users)
        for chosen in (trained, has_history, ~(trained | has_history)):
            rows = torch.nonzero(chosen).squeeze(1)
            if not len(rows):
                continue
            own = None if exclude is None else renumbered(exclude, rows)
            if chosen is trained:
                part = self.best_of_known(users[rows], k, own, allowed)
            elif chosen is has_history:
                part = self.best_of_new(
                    renumbered(self.data.positives, users[rows]), k, own, allowed
                )
            else:
                best = self._best(self._popularity, len(rows), k, own, allowed)
                part = Ranked(*best, [POPULARITY] * len(rows))
            scores[rows], items[rows] = part.scores, part.items
            for row, source in zip(rows.tolist(), part.sources, strict=True):
                sources[row] = source
        return Ranked(scores, items, sources)

    def best_of_new(
        self,
        pairs: Interactions,
        k: int,
        exclude: Interactions | None,
        allowed: Tensor | None = None,
    ) -> Ranked:
        """The best items of n new users, without frames.

        Args:
            pairs: items that the new users like.
            k: number of items for each user.
            exclude: items to leave out.
            allowed: (num_items,) bool, items to choose from, on the device; None: all.
        """
        scorer: ScoreAll = self._popularity
        source, vectors, n = POPULARITY, None, pairs.num_users
        if self.model.fold_in_method is not None:
            model = self.folded(pairs)
            scorer, source = model.score_all, self.fold_in_source
            vectors = self._vectors(model, torch.arange(n, device=self.device), allowed)
        best = self._best(scorer, n, k, exclude, allowed, vectors)
        return Ranked(*best, [source] * n)

    def warm(self) -> None:
        """Computes what later rankings share, so that the first of them takes no longer."""
        self._num_scored = max(self._num_scored, FEW_USERS)
        first = torch.zeros(1, dtype=torch.int64)
        self.best_of_known(first, 1, None)
        sizes = 1, self.data.ids.items.height
        self.best_of_new(Interactions.from_pairs(first, first, *sizes), 1, None)

    @cached_property
    def _trained(self) -> Tensor:
        """(num_users,) whether each user has a training positive."""
        return self.data.train.user_degrees() > 0

    @cached_property
    def _has_history(self) -> Tensor:
        """(num_users,) whether each user has a positive to fold in, if the model folds in."""
        if self.model.fold_in_method is None:
            return torch.zeros(self.data.positives.num_users, dtype=torch.bool)
        return self.data.positives.user_degrees() > 0

    def _vectors(self, model: Recommender, users: Tensor, allowed: Tensor | None) -> Tensor | None:
        """(n, D) vectors of users with which to ask the index; None: it cannot answer."""
        if self.index is None or allowed is not None or not isinstance(model, InnerProduct):
            return None
        with torch.no_grad():
            return model.user_factors(users, self.encoded if model is self.model else None)

    def _score_all(self, users: Tensor) -> Tensor:
        """(B, num_items) scores; what is worth computing once for many users is kept."""
        self._num_scored += len(users)
        few = self._num_scored <= FEW_USERS
        return self.model.score_all(users, None if few else self.encoded)

    def _popularity(self, users: Tensor) -> Tensor:
        """(B, num_items) training positives of each item, the same for all users."""
        counts = self.data.popularity.to(self.device, torch.float32)
        return counts.expand(len(users), -1).clone()

    def _best(
        self,
        score_all: ScoreAll,
        num_users: int,
        k: int,
        exclude: Interactions | None,
        allowed: Tensor | None,
        vectors: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(n, k) scores and items of the best items of users 0 … n - 1, on the CPU.

        Args:
            score_all: scores of all items for some of the users.
            num_users: n.
            k: number of items for each user.
            exclude: pairs to leave out.
            allowed: (num_items,) bool, items to choose from; None: all.
            vectors: (n, D) vectors of the users, with which to ask the index first.
        """
        if vectors is None or self.index is None:
            return self._best_of_all(score_all, num_users, k, exclude, allowed)
        scores, items, complete = self.index.best(vectors, k, exclude)
        rows = torch.nonzero(~complete).squeeze(1)
        if len(rows):
            own = None if exclude is None else renumbered(exclude, rows)
            on_device = rows.to(self.device)
            scores[rows], items[rows] = self._best_of_all(
                lambda part: score_all(on_device[part]), len(rows), k, own, allowed
            )
        return scores, items

    def _best_of_all(
        self,
        score_all: ScoreAll,
        num_users: int,
        k: int,
        exclude: Interactions | None,
        allowed: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`_best`, by the scores of all items."""
        excluded = None if exclude is None else exclude.to(self.device)
        users = torch.arange(num_users, device=self.device)

        def scores(part: Tensor) -> Tensor:
            every = score_all(part)  # (b, num_items)
            return every if allowed is None else every.masked_fill_(~allowed, -torch.inf)

        with torch.no_grad():
            values, items = top_k(
                scores, users, k, self.data.ids.items.height, excluded, order=self.tie_order
            )
        return values.cpu(), items.cpu()

    def _frame(self, names: pl.Series, ranked: Ranked) -> pl.DataFrame:
        """Recommendations to users with the given names as a frame."""
        n, k = ranked.items.shape
        user = torch.arange(n).repeat_interleave(k).numpy()
        flat = ranked.items.flatten().numpy()
        ids = self.data.ids.items
        frame = pl.DataFrame(
            {
                "user": names.gather(user),
                "rank": torch.arange(1, k + 1, dtype=torch.int32).repeat(n).numpy(),
                "item": ids["item"].gather(flat.clip(min=0)),
                "name": ids["name"].gather(flat.clip(min=0)),
                "score": ranked.scores.flatten().numpy(),
                "source": pl.Series(ranked.sources, dtype=pl.String).gather(user),
            }
        )
        return frame.filter(pl.Series(flat >= 0))


def no_recommendations() -> pl.DataFrame:
    """A frame of recommendations without rows."""
    return pl.DataFrame(schema=SCHEMA)
