"""Base class of ItemKNN and EASE: scores from a user's training positives; chooses settings.

Shapes: B rows, n training positives.
"""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.errors import SettingError
from kgrec.evaluation.candidates import Candidates, full_candidates
from kgrec.evaluation.ctr import auc
from kgrec.evaluation.full_ranking import rank
from kgrec.evaluation.ranking import METRICS
from kgrec.models.folding import check_history, frozen
from kgrec.models.recommender import LARGEST_NUMBER, Recommender

N = TypeVar("N", int, float)

log = logging.getLogger(__name__)

PROGRESS_LINES = 8
BLOCK = 1024  # users whose scores of all items are in memory at once


class ItemBased(Recommender):
    """Scores by the user's training positives; nothing is trained.

    Args:
        num_users: number of users.
        num_items: number of items.
        users: (n,) int64, users of the training positives.
        items: (n,) int64, items of the training positives.
        choose_by: validation metric by which settings are chosen.

    Raises:
        SettingError: ``choose_by`` is not a metric that can choose.
    """

    logits: ClassVar[bool] = False
    fold_in_method: ClassVar[str | None] = "exact"

    def __init__(
        self, num_users: int, num_items: int, users: Tensor, items: Tensor, choose_by: str
    ) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items
        self.choose_by = choose_by
        _parse(choose_by, num_items)
        self.users: Tensor
        self.items: Tensor
        self.register_buffer("users", users)
        self.register_buffer("items", items)

    @property
    def history(self) -> Interactions:
        """Training positives."""
        return Interactions(self.users, self.items, self.num_users, self.num_items)

    def positives_matrix(self) -> sp.csr_array:
        """X, (num_users, num_items) float64: 1 for a training positive."""
        ones = np.ones(len(self.users))
        ends = (self.users.cpu().numpy(), self.items.cpu().numpy())
        return sp.csr_array((ones, ends), shape=(self.num_users, self.num_items))

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) scores, from users (B,) and items (B,); all items of each user are scored."""
        distinct, rows = torch.unique(users, return_inverse=True)
        scores = torch.empty(len(users), device=users.device)
        for begin in range(0, len(distinct), BLOCK):
            block = self.score_all(distinct[begin : begin + BLOCK], encoded)
            in_block = torch.nonzero((rows >= begin) & (rows < begin + BLOCK)).squeeze(1)
            scores[in_block] = block[rows[in_block] - begin, items[in_block]].to(scores.dtype)
        return scores

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) scores of items (n,); every item is scored."""
        encoded = self.encode()
        return lambda users: self.score_all(users, encoded)[:, items]

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The model with the history in place of the training positives."""
        check_history(history, self.num_items)
        model, history = frozen(self), history.to(self.items.device)
        model.users, model.items = history.users, history.items
        model.num_users = history.num_users
        arguments = {"users": model.users, "items": model.items, "num_users": model.num_users}
        model.arguments = {**self.arguments, **arguments}
        return model

    def choose(
        self, dataset: RecDataset, grid: Mapping[str, Sequence[float]], apply: Callable[..., None]
    ) -> None:
        """Applies every combination of settings in turn, then the best on validation again.

        Args:
            dataset: split data.
            grid: values to choose from, by name; the first name changes last. Of equally good
                combinations the first is taken.
            apply: function that sets the model to a combination, one value of each name.
        """
        combinations = list(itertools.product(*grid.values()))
        values, begin, count = [], time.perf_counter(), len(combinations)
        if count > 1:
            candidates = self._candidates(dataset)
            for number, combination in enumerate(combinations, 1):
                apply(*combination)
                values.append(self.validate(dataset, candidates))
                if number * PROGRESS_LINES // count > (number - 1) * PROGRESS_LINES // count:
                    pairs = zip(grid, combination, strict=True)
                    settings = " ".join(f"{name}={value:g}" for name, value in pairs)
                    seconds = time.perf_counter() - begin
                    args = number, count, settings, self.choose_by, values[-1], seconds
                    log.info("setting %d of %d, %s: %s %.4f, %.0f s", *args)
        best = combinations[values.index(max(values))] if values else combinations[0]
        apply(*best)
        chosen = {name: float(value) for name, value in zip(grid, best, strict=True)}
        self.precompute_metrics |= chosen

    def validate(self, dataset: RecDataset, candidates: Candidates | None = None) -> float:
        """The validation metric by which settings are chosen.

        Args:
            dataset: split data.
            candidates: users and exclusions of a ranking metric; None: build them.
        """
        encoded = self.encode()
        metric, k = _parse(self.choose_by, dataset.num_candidates)
        if metric == "auc":
            val = dataset.val
            return auc(self.score(val.users, val.items, encoded), val.labels)
        candidates = candidates or self._candidates(dataset)
        assert candidates is not None
        ranking = rank(lambda users: self.score_all(users, encoded), candidates, k)
        return float(METRICS[metric](ranking.hits, ranking.relevant, k).mean())

    def _candidates(self, dataset: RecDataset) -> Candidates | None:
        """Users and exclusions of the validation metric; None for AUC, which ranks nothing."""
        if self.choose_by == "val/auc":
            return None
        return full_candidates(dataset, "val", torch.initial_seed())


def _parse(choose_by: str, num_items: int) -> tuple[str, int]:
    """The metric and its cut-off k; 0 for a metric without a cut-off.

    Raises:
        SettingError: higher is not better, the metric needs logits, or k exceeds the catalogue.
    """
    metric, _, k = str(choose_by).removeprefix("val/").partition("@")
    if choose_by == "val/auc":
        return metric, 0
    if metric not in METRICS or not k.isdecimal() or int(k) == 0:
        raise SettingError(
            f"choose_by: found {choose_by!r}, expected val/auc or a ranking metric, such as "
            "val/recall@20"
        )
    if int(k) > num_items:
        raise SettingError(
            f"choose_by: found {choose_by!r}, expected a cut-off of at most {num_items}, the "
            "number of items"
        )
    return metric, int(k)


def grid_of(name: str, values: Any, minimum: float, kind: type[N]) -> list[N]:
    """Values to choose from, as a plain list.

    Args:
        name: name of the setting.
        values: a list of numbers, or a single number.
        minimum: least number allowed.
        kind: int: only whole numbers; float: any finite numbers.

    Raises:
        SettingError: another kind of value, or no value.
    """
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    grid, kinds = list(values) if is_list else [values], (int, kind)
    if not grid or not all(type(v) in kinds and minimum <= v < math.inf for v in grid):
        expected = "integers" if kind is int else "finite numbers"
        shown = grid if is_list else values
        raise SettingError(f"{name}: found {shown!r}, expected {expected} >= {minimum}")
    if max(grid) >= LARGEST_NUMBER:
        raise SettingError(f"{name}: found {max(grid)}, expected less than {LARGEST_NUMBER:.2g}")
    return grid
