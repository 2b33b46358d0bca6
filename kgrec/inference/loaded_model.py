"""A trained model with the raw ids of its users and items, as ``kgrec.load`` returns it.

Every method takes raw ids and returns a polars frame; ``.to_pandas()`` converts a frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.frames import is_frame
from kgrec.errors import DataError
from kgrec.inference.explanation import Explainer, Explanation
from kgrec.inference.histories import NEW_USER, History, read_history, renumbered
from kgrec.inference.kept_data import KeptData
from kgrec.inference.naming import named_relations
from kgrec.inference.ranker import MODEL, POPULARITY, Ranker, no_recommendations
from kgrec.inference.raw_ids import Ids, RawIds, as_list
from kgrec.inference.relation_weights import KEY, RelationWeights, multipliers
from kgrec.inference.similar import similar_items
from kgrec.models.controls import Popularity
from kgrec.models.recommender import Recommender

BLOCK = 4096  # users whose recommendations are made at once


class LoadedModel:
    """A trained model that speaks the user's own ids.

    Attributes:
        model: the model, a torch module, at its best epoch on validation.
        data: ids, interactions and graph of the run.
        folder: run folder.
        reason: why this run was taken, if there were several; else empty.
        notes: what a reader should know, such as triples that were left out.
        user_ids: raw ids of users.
        item_ids: raw ids and titles of items.
        ranker: ranks items, with the numbers of the model.
    """

    def __init__(
        self,
        model: Recommender,
        data: KeptData,
        folder: Path,
        reason: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        self.model, self.data, self.folder, self.reason = model.eval(), data, folder, reason
        ids, self.ranker = data.ids, Ranker(self.model, data)
        self.user_ids = RawIds("user", ids.users["user"])
        self.notes = list(notes)
        self.item_ids = RawIds("item", ids.items["item"], ids.items["name"])

    def __repr__(self) -> str:
        sizes = f"{len(self.user_ids)} users, {len(self.item_ids)} items"
        return f"<{self.name} of {self.folder}: {sizes}>"

    # ------------------------------------------------------------ facts

    @property
    def name(self) -> str:
        """Name of the model, as in ``model=``."""
        return str(self.data.about["model"])

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics of the run, as in metrics.json."""
        from kgrec.runs.folder import RunFolder

        return RunFolder(self.folder).metrics()

    @property
    def users(self) -> pl.DataFrame:
        """One row per user: ``user``, ``positives`` (number of training positives)."""
        counts = self.data.train.user_degrees().numpy()
        return self.data.ids.users.select("user").with_columns(positives=counts)

    @property
    def items(self) -> pl.DataFrame:
        """One row per item: ``item``, ``name`` (or null), ``positives``, ``triples``.

        ``positives`` is the number of training positives, ``triples`` the number of neighbours in
        the knowledge graph.
        """
        degrees = self.data.neighborhood.degrees[: len(self.item_ids)]
        return self.data.ids.items.select("item", "name").with_columns(
            positives=self.data.popularity.numpy(), triples=degrees.numpy()
        )

    @cached_property
    def relations(self) -> pl.DataFrame:
        """One row per relation of the graph: ``relation`` (raw id), ``name`` (in words)."""
        return named_relations(self.data)

    def history(self, user: str | int) -> pl.DataFrame:
        """What a user liked: ``item``, ``name``, from all parts of the data.

        Raises:
            DataError: the user is unknown.
        """
        _, items = self.data.positives.of_users(self.user_ids.numbers(user))
        return self.data.ids.items.select("item", "name")[items.numpy()]

    # ------------------------------------------------------------ recommendations

    def recommend(
        self,
        users: Ids | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Ids | None = None,
        history: History | None = None,
        relation_weights: RelationWeights | None = None,
    ) -> pl.DataFrame:
        """The best items of each user, best first.

        Args:
            users: raw ids of users; None: every user of the run, or only the new users of
                ``history``.
            k: number of items for each user.
            exclude_seen: whether to leave out the items of the user's interactions, of all parts
                of the data and of any rating.
            candidates: items to choose from, as ids or titles; None: the whole catalogue.
            history: items that new users like, as ids or titles: a list for one user; lists by
                name, or a frame with columns ``user`` and ``item``, for several.
            relation_weights: how many times as much the model's attention counts neighbours by a
                relation: multipliers above 0, by raw id or name (:attr:`relations`). It needs a
                model with attention to relations, such as KGCN.

        Returns:
            ``user``, ``rank`` (from 1), ``item``, ``name`` (or null), ``score`` and ``source``.
            The source is "model"; "fold-in (exact)", "fold-in (propagation)" or "fold-in
            (steps)" for a user whose parameters were inferred from their history; or
            "popularity" for a user without a history, or if the model cannot infer parameters.
            A user has fewer than k rows if fewer items are left.

        Raises:
            DataError: an id is unknown, a history is empty, k exceeds the catalogue, or relations
                cannot be weighed so.
        """
        arguments = users, k, exclude_seen, candidates, history
        blocks = list(self.recommend_blocks(*arguments, relation_weights=relation_weights))
        return pl.concat(blocks) if blocks else no_recommendations()

    def recommend_blocks(
        self,
        users: Ids | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Ids | None = None,
        history: History | None = None,
        block: int = BLOCK,
        relation_weights: RelationWeights | None = None,
    ) -> Iterator[pl.DataFrame]:
        """As :meth:`recommend`, in frames of at most ``block`` users, for bounded memory."""
        self._check_k(k)
        ranker = self.ranker_for(relation_weights)
        allowed = None if candidates is None else self._candidates(candidates)
        if users is not None or history is None:
            numbers = (
                torch.arange(len(self.user_ids)) if users is None else self.user_ids.numbers(users)
            )
            for part in torch.split(numbers, block):
                yield from ranker.known_users(part, k, exclude_seen, allowed)
        if history is not None:
            names, pairs = read_history(history, self.item_ids)
            for start in range(0, len(names), block):
                part = torch.arange(start, min(start + block, len(names)))
                yield from ranker.new_users(
                    names[start : start + block], renumbered(pairs, part), k, exclude_seen, allowed
                )

    def score(self, users: Ids, items: Ids, history: History | None = None) -> pl.DataFrame:
        """Scores of pairs; a higher score is better.

        Scores are comparable for one user. For most models they are log-odds, not probabilities.
        A user of the run without a training positive is folded in by the positives of the other
        parts, as in :meth:`recommend`; without any, the score is the popularity of the item.

        Args:
            users: raw ids of users, one per pair; a single user is paired with every item.
            items: ids or titles of items, one per pair; a single item is paired with every user.
            history: items of new users, by name, whom ``users`` names; None: users of the run.

        Returns:
            ``user``, ``item``, ``name``, ``score``, one row per pair.

        Raises:
            DataError: an id is unknown, the lists have different lengths, or the model cannot infer
                the parameters of new users.
        """
        users, items = as_list(users), as_list(items)
        if len(users) == 1:
            users *= len(items)
        elif len(items) == 1:
            items *= len(users)
        if len(users) != len(items):
            raise DataError(
                f"found {len(users)} users and {len(items)} items, expected pairs: lists of one "
                "length, or a single user or item"
            )
        item_numbers = self.item_ids.numbers(items)
        if history is None:
            scores = self.ranker.score(self.user_ids.numbers(users), item_numbers)
        else:
            names, pairs = read_history(history, self.item_ids)
            user_numbers = RawIds("new user", pl.Series(names)).numbers(users)
            scores = self.ranker.score_new(pairs, user_numbers, item_numbers)
        frame = self.data.ids.items.select("item", "name")[item_numbers.numpy()]
        return frame.with_columns(score=scores.numpy()).select(
            pl.Series("user", users, dtype=pl.String), "item", "name", "score"
        )

    # ------------------------------------------------------------ reasons

    def explain(
        self,
        user: str | int | None,
        item: str | int,
        history: History | None = None,
        top: int = 5,
        relation_weights: RelationWeights | None = None,
    ) -> Explanation:
        """Why an item is recommended to a user, as far as the model can say.

        Args:
            user: raw id; with ``history`` the name of a new user, or None.
            item: id or title.
            history: items that a new user likes; None: a user of the run.
            top: number of reasons.
            relation_weights: see :meth:`recommend`.

        Raises:
            DataError: an id is unknown, or relations cannot be weighed so.
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise DataError(f"top: found {top!r}, expected an integer >= 1")
        number = self._one(self.item_ids, item)
        return self.explainer(user, history, relation_weights).explain(number, top)

    def similar_items(
        self, item: str | int, k: int = 10, candidates: Ids | None = None
    ) -> pl.DataFrame:
        """The items that the model holds for the most similar, without the item itself.

        Args:
            item: id or title.
            k: number of items.
            candidates: items to choose from, as ids or titles; None: the whole catalogue.

        Returns:
            ``rank``, ``item``, ``name`` (or null), ``similarity`` (cosine of vectors; for EASE and
            ItemKNN their weights) and ``shared``, the number of entities that are neighbours of
            both items in the knowledge graph.

        Raises:
            DataError: an id is unknown, k is no possible number, or the model compares no items.
        """
        self._check_k(k)
        allowed = None if candidates is None else self._candidates(candidates).cpu()
        number = self._one(self.item_ids, item)
        return similar_items(
            self.model, self.data, self.name, number, k, allowed, self.ranker.tie_order
        )

    def explainer(
        self,
        user: str | int | None,
        history: History | None = None,
        relation_weights: RelationWeights | None = None,
    ) -> Explainer:
        """Explains items to one user; arguments and errors as in :meth:`explain`."""
        ranker, number = self.ranker_for(relation_weights), 0
        model, source = ranker.model, MODEL
        if history is not None:
            if not isinstance(history, Mapping) and not is_frame(history):
                history = {NEW_USER if user is None else str(user): history}
            names, pairs = read_history(history, self.item_ids)
            if user is None and len(names) > 1:
                raise DataError(f"user: found none for {len(names)} histories, expected a name")
            name = names[0] if user is None else str(user)
            place = self._one(RawIds("new user", pl.Series(names)), name)
            pairs = renumbered(pairs, torch.tensor([place]))
            known = False
        elif user is None:
            raise DataError("user: found none, expected an id, or a history of a new user")
        else:
            number = self._one(self.user_ids, user)
            name, numbers = self.user_ids.ids[number], torch.tensor([number])
            pairs = renumbered(self.data.positives, numbers)
            known = len(self.data.train.of_users(numbers)[1]) > 0
        if not known:  # the user has no trained parameters
            number = 0
            if self.model.fold_in_method is not None and len(pairs):
                model = ranker.folded(pairs)
                source = ranker.fold_in_source
            else:
                model, source = Popularity(len(self.item_ids)), POPULARITY
                model.counts.copy_(self.data.popularity)
        return Explainer(model, self.data, self.name, name, number, pairs.items, source)

    # ------------------------------------------------------------ parts

    def ranker_for(self, relation_weights: RelationWeights | None) -> Ranker:
        """The ranker, or one with other weights of relations, as in :meth:`recommend`.

        Raises:
            DataError: a relation is unknown, a multiplier is no finite number above 0, or the model
                has no attention to relations.
        """
        if not relation_weights:
            return self.ranker
        if not self.model.weighs_relations:
            raise DataError(
                f"{KEY}: found the model {self.name}, expected a model with attention to "
                "relations: lightckg, or kgcn or kgnn_ls with an aggregator other than avg"
            )
        return self.ranker.reweighed(multipliers(relation_weights, self.relations))

    @staticmethod
    def _one(ids: RawIds, wanted: str | int) -> int:
        """The number of one id or name."""
        if not isinstance(wanted, str | Integral):
            raise DataError(f"{ids.kind}: found {wanted!r}, expected one id")
        return int(ids.numbers(str(wanted))[0])

    def _check_k(self, k: Any) -> None:  # numpy's integers are numbers too
        whole = isinstance(k, Integral) and not isinstance(k, bool)
        if not whole or not 1 <= int(k) <= len(self.item_ids):
            raise DataError(
                f"k: found {k!r}, expected an integer from 1 to {len(self.item_ids)}, the number "
                "of items"
            )

    def _candidates(self, candidates: Ids) -> Tensor:
        """(num_items,) bool: whether each item may be recommended."""
        numbers = self.item_ids.numbers(candidates)
        if not len(numbers):
            raise DataError("candidates: found no item, expected at least one")
        allowed = torch.zeros(len(self.item_ids), dtype=torch.bool)
        allowed[numbers] = True
        return allowed.to(self.ranker.device)
