"""What ItemKNN and EASE share: scores from a user's training positives, and settings chosen.

Shapes: B rows, n training positives.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.ctr import auc
from kgrec.evaluation.full_ranking import rank
from kgrec.evaluation.ranking import METRICS
from kgrec.models.recommender import Recommender

log = logging.getLogger(__name__)

LINES = 8  # of progress
BLOCK = 1024  # users whose scores of all items are held at once


class ItemBased(Recommender):
    """Scores by the user's training positives; nothing is trained.

    Args:
        num_users: users.
        num_items: items.
        users: (n,) int64, of the training positives.
        items: (n,) int64, of the training positives.
        choose_by: the validation figure by which settings are chosen.
    """

    logits: ClassVar[bool] = False

    def __init__(
        self, num_users: int, num_items: int, users: Tensor, items: Tensor, choose_by: str
    ) -> None:
        super().__init__()
        self.num_users, self.num_items = num_users, num_items
        self.choose_by = choose_by
        _parse(choose_by)
        self.users: Tensor
        self.items: Tensor
        self.register_buffer("users", users)
        self.register_buffer("items", items)

    @property
    def history(self) -> Interactions:
        """Training positives."""
        return Interactions(self.users, self.items, self.num_users, self.num_items)

    def likes(self) -> sp.csr_array:
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
            here = torch.nonzero((rows >= begin) & (rows < begin + BLOCK)).squeeze(1)
            scores[here] = block[rows[here] - begin, items[here]].to(scores.dtype)
        return scores

    def choose(
        self, dataset: RecDataset, grid: Mapping[str, Sequence[float]], take: Callable[..., None]
    ) -> None:
        """Takes each setting in turn, then again the one that is best on validation.

        Args:
            dataset: split data.
            grid: values to choose from, by name, the slowest first; of equals the first wins.
            take: makes the model what a setting, one value of each, says.
        """
        listed = list(itertools.product(*grid.values()))
        figures, begin = [], time.perf_counter()
        if len(listed) > 1:
            for number, setting in enumerate(listed, 1):
                take(*setting)
                figures.append(self.figure(dataset))
                if number * LINES // len(listed) > (number - 1) * LINES // len(listed):
                    told = " ".join(f"{n}={v:g}" for n, v in zip(grid, setting, strict=True))
                    seconds = time.perf_counter() - begin
                    args = number, len(listed), told, self.choose_by, figures[-1], seconds
                    log.info("setting %d of %d, %s: %s %.4f, %.0f s", *args)
        best = listed[figures.index(max(figures))] if figures else listed[0]
        take(*best)
        self.found |= {name: float(value) for name, value in zip(grid, best, strict=True)}

    def figure(self, dataset: RecDataset) -> float:
        """The validation figure by which settings are chosen."""
        encoded = self.encode()
        metric, k = _parse(self.choose_by)
        if metric == "auc":
            val = dataset.val
            return auc(self.score(val.users, val.items, encoded), val.labels)
        ranked = rank(lambda u: self.score_all(u, encoded), full_candidates(dataset, "val"), k)
        return float(METRICS[metric](ranked.hits, ranked.relevant, k).mean())


def _parse(choose_by: str) -> tuple[str, int]:
    """The metric, and its cutoff where it has one.

    Raises:
        ConfigError: it is no figure that higher is better of and that needs no logits.
    """
    metric, _, k = choose_by.removeprefix("val/").partition("@")
    if choose_by == "val/auc" or (metric in METRICS and k.isdigit() and int(k) > 0):
        return metric, int(k or 0)
    raise ConfigError(
        f"model.choose_by: found {choose_by!r}, expected val/auc or a ranking figure, such as "
        "val/recall@20"
    )


def check_grid(name: str, values: Sequence[float], minimum: float) -> None:
    """Raises ConfigError unless there are values to choose from, none below the minimum."""
    if not values or any(isinstance(v, bool) or v < minimum for v in values):
        raise ConfigError(f"{name}: found {list(values)}, expected numbers >= {minimum}")
