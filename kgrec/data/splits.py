"""Splits: which rows train, which validate, which test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized

import torch
from torch import Tensor

from kgrec.errors import ConfigError

TRAIN, VAL, TEST = 0, 1, 2

Split = Callable[[Sized, torch.Generator], Tensor]
"""From rows and a generator to (n,) int64 parts: TRAIN, VAL or TEST for each row."""


class RandomSplit:
    """Every row falls into a part at random, whatever its user (KGCN, section 4.3).

    Args:
        ratios: shares of train, val and test; they sum to 1.

    Raises:
        ConfigError: three positive shares that sum to 1 were not given.
    """

    def __init__(self, ratios: Sequence[float] = (0.6, 0.2, 0.2)) -> None:
        if len(ratios) != 3 or min(ratios) <= 0 or not math.isclose(sum(ratios), 1):
            raise ConfigError(
                f"split.ratios: found {list(ratios)}, expected three positive shares that sum to 1"
            )
        self.ratios = tuple(ratios)

    def __call__(self, rows: Sized, generator: torch.Generator) -> Tensor:
        """(n,) the part of each row; val and test are rounded down, train takes the rest."""
        n = len(rows)
        num_val, num_test = int(n * self.ratios[1]), int(n * self.ratios[2])
        order = torch.randperm(n, generator=generator)
        parts = torch.full((n,), TRAIN)
        parts[order[:num_val]] = VAL
        parts[order[num_val : num_val + num_test]] = TEST
        return parts
