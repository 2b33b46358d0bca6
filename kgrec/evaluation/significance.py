"""Whether two systems differ, and by how much: bootstrap over users, Wilcoxon, t-test over seeds.

AUC and F1 are pooled over rows, and many users have rows of one class only, so there is no
value per user to test: users are resampled, each with all its rows. Ranking metrics have one value
per user.

Shapes: n rows or users; B bootstrap samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kgrec.evaluation.ctr import check_numbers

SAMPLES = 2000
# Floats of a block of bootstrap samples.
BLOCK_FLOATS = 2**23


class Difference(NamedTuple):
    """The difference second − first of two systems.

    Attributes:
        first: value of the first system.
        second: value of the second system.
        low: lower end of the 95 % percentile interval of the difference.
        high: upper end.
        p: two-sided bootstrap p-value of no difference.
    """

    first: float
    second: float
    low: float
    high: float
    p: float

    @property
    def value(self) -> float:
        """The difference."""
        return self.second - self.first


def resampled_users(num_users: int, samples: int, seed: int, block: int) -> Iterator[Tensor]:
    """(b, num_users) float64 blocks: the number of times each user is drawn, with replacement."""
    draws = torch.Generator().manual_seed(seed)
    for start in range(0, samples, block):
        size = min(block, samples - start)
        drawn = torch.randint(num_users, (size, num_users), generator=draws)
        counts = torch.zeros(size, num_users, dtype=torch.float64)
        yield counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def weighted_auc(scores: Tensor, labels: Tensor) -> Callable[[Tensor], Tensor]:
    """AUC of weighted rows for many sets of weights, with one sort.

    ``Σ w⁺·(W⁻ below + W⁻ tied / 2) / (W⁺·W⁻)``: with integer weights, the AUC of rows repeated that
    often.

    Args:
        scores: (n,).
        labels: (n,) 0 or 1.

    Returns:
        Function from weights (B, n) to (B,) AUC; nan where a class has no weight.

    Raises:
        KgrecError: a score is NaN.
    """
    check_numbers(scores)
    values, order = scores.sort()
    positive = (labels > 0.5)[order].double()
    ends = torch.unique_consecutive(values, return_counts=True)[1].cumsum(0)
    group = torch.repeat_interleave(ends.diff(prepend=ends.new_zeros(1)))

    def compute(weights: Tensor) -> Tensor:
        weights = weights[:, order]
        above, below = weights * positive, weights * (1 - positive)
        total = torch.nn.functional.pad(below.cumsum(dim=1), (1, 0))
        starts = torch.nn.functional.pad(ends, (1, 0))
        edges = total[:, starts]  # weight of negatives before each group of ties
        middle = (edges[:, :-1] + edges[:, 1:]) / 2
        wins = (above * middle[:, group]).sum(dim=1)
        return wins / (above.sum(dim=1) * below.sum(dim=1))

    return compute


def weighted_f1(scores: Tensor, labels: Tensor, threshold: float) -> Callable[[Tensor], Tensor]:
    """F1 of weighted rows at a threshold; as :func:`weighted_auc`."""
    check_numbers(scores)
    called, positive = (scores >= threshold).double(), (labels > 0.5).double()

    def compute(weights: Tensor) -> Tensor:
        hits = weights @ (called * positive)
        return 2 * hits / (weights @ called + weights @ positive)

    return compute


def bootstrap_pooled(
    metrics: Sequence[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]],
    users: Sequence[Tensor],
    samples: int = SAMPLES,
    seed: int = 0,
) -> Difference:
    """Paired bootstrap over users of a pooled metric, averaged over splits.

    A user is drawn with all its rows, in both systems, which keeps the dependence of rows within
    a user. Of several splits (seeds) each is resampled on its own and the results are averaged.

    Args:
        metrics: for each split, functions from weights (B, n) to the metric of the first and of
            the second system.
        users: for each split, (n,) user of each row, in [0, number of users).
        samples: number of bootstrap samples.
        seed: seed of the draws.
    """
    whole = torch.zeros(2, dtype=torch.float64)
    drawn = torch.zeros(2, samples, dtype=torch.float64)
    for number, (pair, owners) in enumerate(zip(metrics, users, strict=True)):
        everything = torch.ones(1, len(owners), dtype=torch.float64)
        whole += torch.stack([metric(everything)[0] for metric in pair])
        num_users, start = int(owners.max()) + 1, 0
        block = max(1, BLOCK_FLOATS // (4 * len(owners)))
        for counts in resampled_users(num_users, samples, seed + number, block):
            weights = counts[:, owners]
            for row, metric in enumerate(pair):
                drawn[row, start : start + len(counts)] += metric(weights)
            start += len(counts)
    whole, drawn = whole / len(users), drawn / len(users)
    return _difference(whole, drawn[1] - drawn[0])


def bootstrap_paired(
    first: Tensor, second: Tensor, samples: int = SAMPLES, seed: int = 0
) -> Difference:
    """Paired bootstrap of the mean of paired values (n,), such as those of users."""
    gaps = (second - first).double()
    block = max(1, BLOCK_FLOATS // len(gaps))
    drawn = torch.cat(
        [counts @ gaps for counts in resampled_users(len(gaps), samples, seed, block)]
    )
    means = torch.stack([first.double().mean(), second.double().mean()])
    return _difference(means, drawn / len(gaps))


def _difference(means: Tensor, drawn: Tensor) -> Difference:
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    # The usual correction: the observed sample counts as one of the bootstrap samples.
    below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1))
    return Difference(float(means[0]), float(means[1]), low, high, p)


class Wilcoxon(NamedTuple):
    """Wilcoxon's signed-rank test.

    Attributes:
        p: two-sided p-value; 1 where no pair differs.
        effect: matched-pairs rank-biserial correlation, from -1 to 1: the share of the rank sum
            that favours the second minus the share that favours the first (Kerby 2014).
        differing: number of pairs that differ.
    """

    p: float
    effect: float
    differing: int


def wilcoxon(first: Tensor, second: Tensor) -> Wilcoxon:
    """Signed-rank test on paired values (n,); pairs without a difference are left out."""
    from scipy import stats

    gaps = (second - first).double().numpy()
    gaps = gaps[np.abs(gaps) > 1e-12]
    if len(gaps) == 0:
        return Wilcoxon(1.0, 0.0, 0)
    ranks = stats.rankdata(np.abs(gaps))
    effect = float((ranks * np.sign(gaps)).sum() / ranks.sum())
    return Wilcoxon(float(stats.wilcoxon(gaps).pvalue), effect, len(gaps))


class TTest(NamedTuple):
    """Student's t-test over runs.

    Attributes:
        p: two-sided p-value; nan where a system has fewer than two runs.
        low: lower end of the 95 % interval of the difference of means.
        high: upper end.
    """

    p: float
    low: float
    high: float


def t_test(first: Sequence[float], second: Sequence[float]) -> TTest:
    """Unpaired t-test with equal variances, as in the KGCN paper (Table 2: at p = 0.1)."""
    from scipy import stats

    if min(len(first), len(second)) < 2:
        return TTest(float("nan"), float("nan"), float("nan"))
    if np.ptp(first) == 0 and np.ptp(second) == 0:  # no variance to test against
        gap = float(np.mean(second) - np.mean(first))
        return TTest(1.0 if gap == 0 else 0.0, gap, gap)
    result = stats.ttest_ind(second, first)
    interval = result.confidence_interval()
    return TTest(float(result.pvalue), float(interval.low), float(interval.high))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of the p-values of several comparisons.

    ``max_{j≤i} (m - j + 1)·p_(j)``, at most 1; nan stays nan and is not counted.
    """
    corrected = [float("nan")] * len(ps)
    order = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[i] = highest
    return corrected
