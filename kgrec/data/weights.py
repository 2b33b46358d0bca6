"""Weights of positives: how often a positive is trained on, beside the others.

The weight of a user-item pair is the sum over its interactions. In every epoch the training
positives are drawn in proportion to their weights, as many as there are. Evaluation knows no
weights: a test positive counts once.

Shapes: n positives.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.draws import generator
from kgrec.data.rows import Rows
from kgrec.errors import DataError

WEIGHTS = ("ignore", "use", "repeats")


def weigh(rows: Rows, weights: str, account: Account, place: str) -> Rows:
    """The interactions with the column ``weight`` that ``dataset.weights`` asks for, or none.

    Args:
        rows: interactions, with or without a column ``weight``.
        weights: "ignore", "use" (the column) or "repeats" (1 for each interaction).
        account: account to which ignored weights are added.
        place: source of the tables, for messages.

    Raises:
        DataError: the column is wanted and missing, or has a value that is not above 0.
    """
    if weights == "use":
        if "weight" not in rows.columns:
            raise DataError(
                f"{place}: found interactions without weights, expected a column weight, because "
                "dataset.weights=use (dataset.columns.weight=NAME names another column, "
                "dataset.weights=repeats counts the interactions of a pair)"
            )
        before = 0
        for piece in rows.pieces():
            values = piece["weight"]
            wrong = ~(np.isfinite(values) & (values > 0))
            if wrong.any():
                at = int(wrong.argmax())
                raise DataError(
                    f"{place}: found the weight {values[at]} in interaction {before + at + 1}, "
                    "expected a number above 0"
                )
            before += len(values)
        return rows
    if "weight" in rows.columns:
        line = "weights of interactions in the files, not used (dataset.weights=use uses them)"
        account.add("interactions", line, rows.height, changes=weights == "ignore")
        rows = rows.without("weight")
    return rows.with_ones("weight") if weights == "repeats" else rows


def sum_weights(rows: pl.DataFrame) -> NDArray[np.float64]:
    """(n,) float64, the sum of the weights of each pair, in the order of the pairs.

    Weights of rows in later given parts are not added: a training positive must not know how
    often the pair is in the test rows.

    Args:
        rows: ``pair`` (a number), ``weight`` and, where the files have it, ``part``.
    """
    if "part" in rows.columns:
        rows = rows.filter(pl.col("part") == pl.col("part").min().over("pair"))
    # Sorted by weight too, so that rounding does not depend on the order of the rows.
    rows = rows.sort("pair", "weight")
    changed = (pl.col("pair") != pl.col("pair").shift()).fill_null(True)
    starts = rows.select(changed.arg_true()).to_series().to_numpy()
    return np.add.reduceat(rows["weight"].to_numpy(), starts)


def count_weights(weights: Tensor, account: Account) -> None:
    """Adds to the account how far the weights (n,) differ.

    The effective number of positives is (Σw)²/Σw² (Kish, 1965): equal weights have n, and one
    weight far above the others has 1.
    """
    low, high = float(weights.min()), float(weights.max())
    count = int((weights != 1).sum())
    line = f"positives with a weight other than 1 (weights from {low:g} to {high:g})"
    account.add("interactions", line, count, changes=True)
    scaled = weights / high  # squares of large weights would overflow
    effective = float(scaled.sum() ** 2 / (scaled**2).sum())
    account.add("interactions", "effective number of positives, (Σw)²/Σw²", round(effective))


class WeightedDraw:
    """Positions of the positives of an epoch, drawn in proportion to weights.

    Systematic sampling: with u uniform in [0, 1), position i is drawn once for each of the points
    u, u + 1, …, u + n - 1 that lies in its share of [0, n), which is n w_i / Σw long. So it is
    drawn floor or ceil of n w_i / Σw times, and n w_i / Σw times on average. With equal weights
    every position is drawn once.

    Args:
        weights: (n,) float64, above 0.
        groups: (n,) bool; each of the two groups gets as many draws as it has positions. None:
            one group.
        seed: seed of the run.
    """

    def __init__(self, weights: Tensor, groups: Tensor | None, seed: int) -> None:
        self.seed = seed
        self._size = len(weights)
        masks = [torch.ones_like(weights, dtype=torch.bool)]
        if groups is not None:
            masks = [groups, ~groups]
        self._groups = [torch.nonzero(mask).squeeze(1) for mask in masks if mask.any()]
        # On the CPU in float64: sums of millions of weights, and every device draws the same.
        self._limits = [_limits(weights[group]) for group in self._groups]

    def __call__(self, epoch: int, device: torch.device) -> Tensor:
        """(n,) int64 positions, ascending, on a device."""
        draw = generator(self.seed, "weights", epoch)
        counts = torch.empty(self._size, dtype=torch.int64)
        for group, limits in zip(self._groups, self._limits, strict=True):
            u = torch.rand((), generator=draw, dtype=torch.float64)
            # Number of points below each limit; rounding must not add a point beyond the last.
            below = (limits - u).ceil().long().clamp(0, len(limits))
            counts[group] = below.diff(prepend=below.new_zeros(1))
        return torch.repeat_interleave(counts).to(device)


def _limits(weights: Tensor) -> Tensor:
    """(n,) upper limits of the shares of [0, n)."""
    limits = (weights / weights.max()).cumsum(0)
    limits *= len(weights) / limits[-1].item()
    limits[-1] = len(weights)
    return limits
