"""A trained model with the raw ids of its users and items, as ``kgrec.load`` returns it.

Every method takes raw ids and returns a polars frame; ``.to_pandas()`` converts a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import DataError
from kgrec.evaluation.ties import tie_order
from kgrec.evaluation.topk import top_k
from kgrec.inference.explanation import Explainer, Explanation
from kgrec.inference.kept_data import KeptData
from kgrec.inference.raw_ids import Ids, RawIds, as_list
from kgrec.inference.similar import similar_items
from kgrec.models.controls import Popularity
from kgrec.models.recommender import Recommender

History = Ids | Mapping[str, Ids] | pl.DataFrame
"""Items that new users like: of one user; of several users, by name; or ``user, item``."""

ScoreAll = Callable[[Tensor], Tensor]
"""A function from users (B,) to (B, num_items) scores."""

NEW_USER = "new"  # name of a new user without a name
FEW_USERS = 4  # users before values are computed that speed up further users
BLOCK = 4096  # users whose recommendations are made at once
MODEL, POPULARITY = "model", "popularity"  # values of the column ``source``


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
        ids = data.ids
        self.user_ids = RawIds("user", ids.users["user"])
        self.notes = list(notes)
        self._num_scored = 0
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

        Returns:
            ``user``, ``rank`` (from 1), ``item``, ``name`` (or null), ``score`` and ``source``.
            The source is "model"; "fold-in (exact)", "fold-in (propagation)" or "fold-in
            (steps)" for a user whose parameters were inferred from their history; or
            "popularity" for a user without a history, or if the model cannot infer parameters.
            A user for whom fewer than k items are left has fewer rows.

        Raises:
            DataError: an id is unknown, a history is empty, or k exceeds the catalogue.
        """
        blocks = list(self.recommend_blocks(users, k, exclude_seen, candidates, history))
        return pl.concat(blocks) if blocks else _no_recommendations()

    def recommend_blocks(
        self,
        users: Ids | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        candidates: Ids | None = None,
        history: History | None = None,
        block: int = BLOCK,
    ) -> Iterator[pl.DataFrame]:
        """As :meth:`recommend`, in frames of at most ``block`` users, for bounded memory."""
        self._check_k(k)
        allowed = None if candidates is None else self._candidates(candidates)
        if users is not None or history is None:
            numbers = (
                torch.arange(len(self.user_ids)) if users is None else self.user_ids.numbers(users)
            )
            for part in torch.split(numbers, block):
                yield from self._for_known(part, k, exclude_seen, allowed)
        if history is not None:
            names, pairs = self._read_history(history)
            for start in range(0, len(names), block):
                part = torch.arange(start, min(start + block, len(names)))
                yield from self._for_new(
                    names[start : start + block], _renumbered(pairs, part), k, exclude_seen, allowed
                )

    def score(self, users: Ids, items: Ids, history: History | None = None) -> pl.DataFrame:
        """Scores of pairs; a higher score is better.

        Scores are comparable for one user. For most models they are log-odds, not probabilities.

        Args:
            users: raw ids of users, one per pair; a single user is paired with every item.
            items: ids or titles of items, one per pair; a single item is paired with every user.
            history: items of new users, by name, whom ``users`` names; None: users of the run.

        Returns:
            ``user``, ``item``, ``name``, ``score``, one row per pair.

        Raises:
            DataError: an id is unknown, or the lists have different lengths.
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
            model, user_numbers = self.model, self.user_ids.numbers(users)
        else:
            names, pairs = self._read_history(history)
            model = self._folded(pairs)
            user_numbers = RawIds("new user", pl.Series(names)).numbers(users)
        with torch.no_grad():
            scores = (
                model.score(user_numbers.to(self.device), item_numbers.to(self.device)).cpu()
                if users
                else torch.empty(0)
            )
        frame = self.data.ids.items.select("item", "name")[item_numbers.numpy()]
        return frame.with_columns(score=scores.numpy()).select(
            pl.Series("user", users, dtype=pl.String), "item", "name", "score"
        )

    # ------------------------------------------------------------ reasons

    def explain(
        self,
        user: str | int | None,
        item: str | int,
        history: Ids | Mapping[str, Ids] | pl.DataFrame | None = None,
        top: int = 5,
    ) -> Explanation:
        """Why an item is recommended to a user, as far as the model can say.

        Args:
            user: raw id; with ``history`` the name of a new user, or None.
            item: id or title.
            history: items that a new user likes; None: a user of the run.
            top: number of reasons.

        Raises:
            DataError: an id is unknown, or the model cannot infer the parameters of a new user.
        """
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise DataError(f"top: found {top!r}, expected an integer >= 1")
        number = self._one(self.item_ids, item)
        return self.explainer(user, history).explain(number, top)

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
        return similar_items(self.model, self.data, self.name, number, k, allowed, self._tie_order)

    def explainer(self, user: str | int | None, history: History | None = None) -> Explainer:
        """Explains items to one user; arguments and errors as in :meth:`explain`."""
        model, source, number = self.model, MODEL, 0
        if history is not None:
            if not isinstance(history, Mapping | pl.DataFrame):
                history = {NEW_USER if user is None else str(user): history}
            names, pairs = self._read_history(history)
            if user is None and len(names) > 1:
                raise DataError(f"user: found none for {len(names)} histories, expected a name")
            name = names[0] if user is None else str(user)
            place = self._one(RawIds("new user", pl.Series(names)), name)
            pairs = _renumbered(pairs, torch.tensor([place]))
            if self.model.fold_in_method is None:
                raise DataError(
                    f"history: found a new user, expected a user of the run, because {self.name} "
                    "cannot infer the parameters of a new user"
                )
            known = False
        elif user is None:
            raise DataError("user: found none, expected an id, or a history of a new user")
        else:
            number = self._one(self.user_ids, user)
            name, numbers = self.user_ids.ids[number], torch.tensor([number])
            pairs = _renumbered(self.data.positives, numbers)
            known = len(self.data.train.of_users(numbers)[1]) > 0
        if not known:  # the user has no trained parameters
            number = 0
            if self.model.fold_in_method is not None and len(pairs):
                model = self._folded(pairs)
                source = f"fold-in ({self.model.fold_in_method})"
            else:
                model, source = Popularity(len(self.item_ids)), POPULARITY
                model.counts.copy_(self.data.popularity)
        return Explainer(model, self.data, self.name, name, number, pairs.items, source)

    # ------------------------------------------------------------ how

    @property
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
    def _tie_order(self) -> Tensor:
        """Items in the order of equal scores, as in the evaluation of the run."""
        return tie_order(self.item_ids.ids.to_list(), int(self.data.about["seed"]))

    def _for_known(
        self, users: Tensor, k: int, exclude_seen: bool, allowed: Tensor | None
    ) -> Iterator[pl.DataFrame]:
        """Recommendations to users of the run, in the order of ``users``.

        A user without a training positive has parameters that were never trained.
        """
        trained = self.data.train.user_degrees()[users] > 0
        exclude = self.data.seen if exclude_seen else None
        names = self.user_ids.ids
        frames = []
        if bool(trained.any()):
            rows = torch.nonzero(trained).squeeze(1)
            device = users[rows].to(self.device)

            best = self._best(self._score_all, device, k, exclude, allowed)
            frames.append(self._frame(names.gather(users[rows].numpy()), *best, MODEL, rows))
        if not bool(trained.all()):
            rows = torch.nonzero(~trained).squeeze(1)
            frames += self._for_untrained(rows, users[rows], k, exclude, allowed)
        if frames:
            yield pl.concat(frames).sort("row", maintain_order=True).drop("row")

    def _for_untrained(
        self, rows: Tensor, users: Tensor, k: int, exclude: Interactions | None,
        allowed: Tensor | None,
    ) -> list[pl.DataFrame]:  # fmt: skip
        """As :meth:`_for_known`, for users of the run without a training positive.

        Their held-out positives are a history to fold in; without one, popularity answers.
        """
        frames = []
        has_history = self.data.positives.user_degrees()[users] > 0
        if self.model.fold_in_method is None:
            has_history = torch.zeros_like(has_history)
        for chosen, by_model in ((has_history, True), (~has_history, False)):
            if not bool(chosen.any()):
                continue
            part = users[chosen]
            scorer: ScoreAll = self._popularity
            source = POPULARITY
            if by_model:
                scorer = self._folded(_renumbered(self.data.positives, part)).score_all
                source = f"fold-in ({self.model.fold_in_method})"
            own = None if exclude is None else _renumbered(exclude, part)
            numbers = torch.arange(len(part))
            best = self._best(scorer, numbers.to(self.device), k, own, allowed)
            names = self.user_ids.ids.gather(part.numpy())
            frames.append(self._frame(names, *best, source, rows[chosen]))
        return frames

    def _for_new(
        self, names: list[str], pairs: Interactions, k: int, exclude_seen: bool,
        allowed: Tensor | None,
    ) -> Iterator[pl.DataFrame]:  # fmt: skip
        """Recommendations to new users."""
        scorer: ScoreAll = self._popularity
        source = POPULARITY
        if self.model.fold_in_method is not None:
            scorer = self._folded(pairs).score_all
            source = f"fold-in ({self.model.fold_in_method})"
        users = torch.arange(len(names), device=self.device)
        best = self._best(scorer, users, k, pairs if exclude_seen else None, allowed)
        yield self._frame(pl.Series(names, dtype=pl.String), *best, source).drop("row")

    def _folded(self, pairs: Interactions) -> Recommender:
        """A model whose users are new users.

        Raises:
            SettingError: the model cannot fold in users.
        """
        return self.model.fold_in(pairs.to(self.device), int(self.data.about["seed"]))

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
        users: Tensor,
        k: int,
        exclude: Interactions | None,
        allowed: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """(n, k) scores and items of the best items, on the CPU."""
        excluded = None if exclude is None else exclude.to(self.device)

        def scores(part: Tensor) -> Tensor:
            found = score_all(part)
            return found if allowed is None else found.masked_fill_(~allowed, -torch.inf)

        with torch.no_grad():
            values, items = top_k(
                scores, users, k, len(self.item_ids), excluded, order=self._tie_order
            )
        return values.cpu(), items.cpu()

    def _frame(
        self, names: pl.Series, scores: Tensor, items: Tensor, source: str,
        rows: Tensor | None = None,
    ) -> pl.DataFrame:  # fmt: skip
        """Recommendations as a frame; ``row`` is the place of the user in the request."""
        n, k = items.shape
        rows = torch.arange(n) if rows is None else rows
        flat = items.flatten().numpy()
        ids = self.data.ids.items
        frame = pl.DataFrame(
            {
                "user": names.gather((torch.arange(n)).repeat_interleave(k).numpy()),
                "rank": torch.arange(1, k + 1, dtype=torch.int32).repeat(n).numpy(),
                "item": ids["item"].gather(flat.clip(min=0)),
                "name": ids["name"].gather(flat.clip(min=0)),
                "score": scores.flatten().numpy(),
                "source": pl.repeat(source, n * k, dtype=pl.String, eager=True),
                "row": rows.repeat_interleave(k).numpy(),
            }
        )
        return frame.filter(pl.Series(flat >= 0))

    @staticmethod
    def _one(ids: RawIds, wanted: str | int) -> int:
        """The number of one id or name."""
        if not isinstance(wanted, str | int):
            raise DataError(f"{ids.kind}: found {wanted!r}, expected one id")
        return int(ids.numbers(wanted)[0])

    def _check_k(self, k: int) -> None:
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= len(self.item_ids):
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
        return allowed.to(self.device)

    def _read_history(self, history: History) -> tuple[list[str], Interactions]:
        """Names of new users, and their items.

        Raises:
            DataError: an item is unknown, or a user has no item.
        """
        if isinstance(history, pl.DataFrame):
            if missing := [c for c in ("user", "item") if c not in history.columns]:
                raise DataError(
                    f"history: found no column {missing[0]}, expected columns user and item"
                )
            grouped = history.group_by("user", maintain_order=True).agg("item")
            lists: Mapping[str, Ids] = {
                str(user): [i for i in items if i is not None] for user, items in grouped.rows()
            }
        elif isinstance(history, Mapping):
            lists = history
        else:
            lists = {NEW_USER: history}
        users, items = [], []
        for number, (name, own) in enumerate(lists.items()):
            numbers = self.item_ids.numbers(own)
            if not len(numbers):
                raise DataError(f"history of {name}: found no item, expected at least one")
            users.append(torch.full_like(numbers, number))
            items.append(numbers)
        if not users:
            raise DataError("history: found no user, expected at least one")
        pairs = torch.cat(users), torch.cat(items)
        return list(lists), Interactions.from_pairs(*pairs, len(lists), len(self.item_ids))


def _renumbered(pairs: Interactions, users: Tensor) -> Interactions:
    """The pairs of some users, who get the numbers 0 … n - 1 in the given order."""
    rows, items = pairs.of_users(users)
    return Interactions.from_pairs(rows, items, len(users), pairs.num_items)


def _no_recommendations() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "user": pl.String, "rank": pl.Int32, "item": pl.String, "name": pl.String,
            "score": pl.Float32, "source": pl.String,
        }
    )  # fmt: skip
