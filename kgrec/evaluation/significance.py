"""Significance of differences between two systems: bootstrap and Wilcoxon over users, t over seeds.

The unit of the tests over users is the user, not the pair of user and seed. A user of several seeds
gives several values, and they depend on each other: one system suits the user better than the
other, whatever the seed, even where a random split gives the user other test items. Users are
therefore resampled as clusters: a drawn user brings its rows of all seeds. Wilcoxon's test takes
each user's mean over seeds.

Tests over users answer whether other users would show the same difference with these trained
models. Whether other seeds would show it is answered by the t-test over seeds.

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
# Floats in one block of bootstrap samples.
BLOCK_FLOATS = 2**23
# Smaller differences are rounding errors.
ROUNDING = 1e-12

# A metric of weighted rows: from weights (B, n) to (B,) values.
WeightedMetric = Callable[[Tensor], Tensor]


class Difference(NamedTuple):
    """The difference of two systems, second - first.

    Attributes:
        first: metric of the first system, mean over seeds.
        second: metric of the second system, mean over seeds.
        low: lower end of the 95 % percentile interval of the difference.
        high: upper end of the 95 % percentile interval of the difference.
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


class SeedRows(NamedTuple):
    """Rows of one seed, on which both systems were tested.

    Attributes:
        first: metric of the first system from weights of the rows.
        second: metric of the second system from weights of the rows.
        users: (n,) user of each row; a user has the same number in all seeds.
    """

    first: WeightedMetric
    second: WeightedMetric
    users: Tensor


def resampled_users(num_users: int, samples: int, seed: int, block: int) -> Iterator[Tensor]:
    """(b, num_users) float64 blocks of how often each user is drawn, with replacement."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, samples, block):
        size = min(block, samples - start)
        drawn = torch.randint(num_users, (size, num_users), generator=generator)
        counts = torch.zeros(size, num_users, dtype=torch.float64)
        yield counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def weighted_auc(scores: Tensor, labels: Tensor) -> WeightedMetric:
    """AUC of weighted rows; rows are sorted once for many weightings.

    ``Σ w⁺·(W⁻ below + W⁻ tied / 2) / (W⁺·W⁻)``: with whole weights, the AUC of rows repeated that
    many times.

    Args:
        scores: (n,).
        labels: (n,) 0 or 1.

    Returns:
        From weights (B, n) to (B,) AUC; nan where a class has no weight.
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


def weighted_f1(scores: Tensor, labels: Tensor, threshold: float) -> WeightedMetric:
    """F1 of weighted rows at a threshold; arguments as in :func:`weighted_auc`."""
    check_numbers(scores)
    called, positive = (scores >= threshold).double(), (labels > 0.5).double()

    def compute(weights: Tensor) -> Tensor:
        hits = weights @ (called * positive)
        return 2 * hits / (weights @ called + weights @ positive)

    return compute


def weighted_mean(values: Tensor) -> WeightedMetric:
    """Mean of weighted values (n,), one of each user; nan where no user has weight."""
    values = values.double()

    def compute(weights: Tensor) -> Tensor:
        return (weights @ values) / weights.sum(dim=1)

    return compute


def paired_bootstrap(
    seeds: Sequence[SeedRows], samples: int = SAMPLES, seed: int = 0
) -> Difference:
    """Paired bootstrap over users of a difference that is averaged over seeds.

    A drawn user brings all its rows, in both systems and in all seeds, so that the dependence of
    these rows is kept. The metric is computed within each seed and then averaged over seeds. A
    sample in which a metric is undefined, such as AUC without a positive, is left out.

    Args:
        seeds: rows of each seed.
        samples: number of bootstrap samples.
        seed: seed of the draws.
    """
    metrics = [(rows.first, rows.second) for rows in seeds]
    whole = _over_seeds(metrics, [torch.ones(1, len(s.users), dtype=torch.float64) for s in seeds])
    num_users = 1 + max(int(rows.users.max()) for rows in seeds)
    longest = max(num_users, *(len(rows.users) for rows in seeds))
    block = max(1, BLOCK_FLOATS // (4 * longest))
    means = torch.cat(
        [
            _over_seeds(metrics, [counts[:, rows.users] for rows in seeds])
            for counts in resampled_users(num_users, samples, seed, block)
        ],
        dim=1,
    )
    return _difference(whole[:, 0], means[1] - means[0])


def _over_seeds(
    metrics: Sequence[tuple[WeightedMetric, WeightedMetric]], weights: Sequence[Tensor]
) -> Tensor:
    """(2, B) metrics of both systems, means over seeds."""
    values = [
        torch.stack([first(w), second(w)])
        for (first, second), w in zip(metrics, weights, strict=True)
    ]
    return torch.stack(values).mean(dim=0)


def _difference(means: Tensor, drawn: Tensor) -> Difference:
    drawn = drawn[drawn.isfinite()]
    if len(drawn) == 0:
        low = high = p = math.nan
    else:
        quantiles = torch.tensor([0.025, 0.975], dtype=torch.float64)
        low, high = torch.quantile(drawn, quantiles).tolist()
        # The usual correction: the observed sample counts as a bootstrap sample.
        below, above = int((drawn <= 0).sum()), int((drawn >= 0).sum())
        p = min(1.0, 2 * (min(below, above) + 1) / (len(drawn) + 1))
    return Difference(float(means[0]), float(means[1]), low, high, p)


def user_means(values: Sequence[Tensor], users: Sequence[Tensor]) -> Tensor:
    """Each user's mean over the seeds in which the user was tested.

    Args:
        values: per seed, (n,) values.
        users: per seed, (n,) user of each value; a user has the same number in all seeds.

    Returns:
        Means of all users that have a value, by user number.
    """
    owners = torch.cat(list(users))
    sums = torch.zeros(int(owners.max()) + 1, dtype=torch.float64)
    sums.index_add_(0, owners, torch.cat(list(values)).double())
    counts = torch.bincount(owners)
    return (sums / counts)[counts > 0]


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
    """Signed-rank test on paired values (n,), one pair of each user; equal pairs are left out."""
    from scipy import stats

    gaps = (second - first).double().numpy()
    gaps = gaps[np.abs(gaps) > ROUNDING]
    if len(gaps) == 0:
        return Wilcoxon(1.0, 0.0, 0)
    ranks = stats.rankdata(np.abs(gaps))
    effect = float((ranks * np.sign(gaps)).sum() / ranks.sum())
    return Wilcoxon(float(stats.wilcoxon(gaps).pvalue), effect, len(gaps))


class TTest(NamedTuple):
    """Student's t-test over seeds.

    Attributes:
        p: two-sided p-value; nan where a system has fewer than two seeds.
        low: lower end of the 95 % interval of the difference of means.
        high: upper end of the 95 % interval of the difference of means.
    """

    p: float
    low: float
    high: float


def t_test(first: Sequence[float], second: Sequence[float]) -> TTest:
    """Unpaired t-test with equal variances, as in the KGCN paper (Table 2: at p = 0.1).

    A system may have the same value for all seeds, as popularity has on a pinned split.
    """
    from scipy import stats

    n, m = len(first), len(second)
    if min(n, m) < 2:
        return TTest(float("nan"), float("nan"), float("nan"))
    gap = float(np.mean(second) - np.mean(first))
    squares = (n - 1) * np.var(first, ddof=1) + (m - 1) * np.var(second, ddof=1)
    error = math.sqrt(squares / (n + m - 2) * (1 / n + 1 / m))
    if error < ROUNDING:  # no variance to test against
        return TTest(1.0 if abs(gap) < ROUNDING else 0.0, gap, gap)
    p = 2 * float(stats.t.sf(abs(gap) / error, n + m - 2))
    margin = float(stats.t.ppf(0.975, n + m - 2)) * error
    return TTest(p, gap - margin, gap + margin)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's correction (1979) of the p-values of several comparisons.

    ``max_{j≤i} (m - j + 1)·p_(j)``, at most 1; nan stays nan and does not count.
    """
    corrected = [float("nan")] * len(ps)
    order = sorted((p, i) for i, p in enumerate(ps) if not math.isnan(p))
    highest = 0.0
    for rank, (p, i) in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p))
        corrected[i] = highest
    return corrected
