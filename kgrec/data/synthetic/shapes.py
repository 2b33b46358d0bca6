"""Sizes and shapes of the public data sets, for their synthetic twins.

Sizes are from Table 1 of the KGCN paper; for movie also from the files of MovieLens-20M
(Harper and Konstan, 2015), of which the paper uses the items in its graph. Shapes are quantiles of
a distribution: for music and book measured on the public files, for movie from the statistics of
MovieLens-20M. The graph of movie has the shape of the graph of MovieLens-100K.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

PROBABILITIES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)

Quantiles = tuple[float, ...]
"""Values of a distribution at PROBABILITIES."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """Size and shape of a data set.

    Attributes:
        rows: number of ratings in the file.
        raw_users: number of users in the file.
        raw_items: number of items in the file.
        users: number of users with a positive.
        items: number of items in the graph.
        positives: number of positive pairs.
        entities: number of entities of the graph, including items.
        relations: number of relations of the graph.
        triples: number of triples of the graph.
        per_user: quantiles of the rows (movie) or positives (book, music) per user.
        per_item: quantiles of the rows per item.
        item_degree: quantiles of the triples per item.
        relation_exponent: exponent e; the r-th relation has a share of about r^-e of the triples.
        min_rating: lowest rating of a positive; None: every row is a positive.
        ratings: name of the ratings file in the raw format.
    """

    rows: int
    raw_users: int
    raw_items: int
    users: int
    items: int
    positives: int
    entities: int
    relations: int
    triples: int
    per_user: Quantiles
    per_item: Quantiles
    item_degree: Quantiles
    relation_exponent: float
    min_rating: float | None
    ratings: str

    def scaled(self, scale: float) -> Shape:
        """The shape with a share of the users, items, rows and triples."""
        if scale == 1:
            return self
        names = ("rows", "raw_users", "raw_items", "users", "items", "positives", "triples")
        sizes = {name: max(1, round(getattr(self, name) * scale)) for name in names}
        others = max(self.relations, round((self.entities - self.items) * scale))
        return replace(self, **sizes, entities=sizes["items"] + others)


SHAPES = {
    "movie": Shape(
        rows=20_000_263, raw_users=138_493, raw_items=26_744,
        users=138_159, items=16_954, positives=6_750_811,
        entities=102_569, relations=32, triples=499_474,
        per_user=(20, 24, 35, 68, 155, 334, 1114, 2200, 9254),
        per_item=(1, 1, 3, 18, 205, 1300, 15_000, 40_000, 67_310),
        item_degree=(1, 12, 17, 24, 36, 51, 83, 122, 265), relation_exponent=1.2,
        min_rating=4, ratings="ratings.csv",
    ),
    # Table 1 does not count rows without an entity; we assume a few more rows than positives.
    "book": Shape(
        rows=90_602, raw_users=20_660, raw_items=21_003,
        users=19_676, items=20_003, positives=86_288,
        entities=25_787, relations=18, triples=60_787,
        per_user=(1, 1, 1, 1, 2, 6, 50, 170, 739),
        per_item=(0, 1, 1, 2, 4, 9, 41, 126, 2502),
        item_degree=(1, 2, 2, 2, 3, 4, 7, 12, 30), relation_exponent=1.6,
        min_rating=None, ratings="BX-Book-Ratings.csv",
    ),
    "music": Shape(
        rows=22_232, raw_users=1_892, raw_items=4_038,
        users=1_872, items=3_846, positives=21_173,
        entities=9_366, relations=60, triples=15_518,
        per_user=(1, 7, 9, 11, 14, 16, 21, 26, 28),
        per_item=(1, 1, 1, 2, 4, 10, 70, 233, 280),
        item_degree=(1, 1, 1, 1, 3, 8, 42, 133, 943), relation_exponent=1.6,
        min_rating=None, ratings="user_artists.dat",
    ),
}  # fmt: skip


def draw_counts(quantiles: Quantiles, n: int, total: int, least: int, most: int) -> Counts:
    """``n`` whole numbers with given quantiles and an exact sum, ascending.

    Between the quantiles the logarithm is linear. Values above ``least`` are scaled by one factor
    so that they sum to ``total``.

    Args:
        quantiles: quantiles of the numbers.
        n: how many numbers to return.
        total: sum of the numbers.
        least: smallest possible number.
        most: largest possible number.

    Raises:
        ValueError: no such numbers exist.
    """
    if not n * least <= total <= n * most:
        raise ValueError(f"no {n} numbers from {least} to {most} sum to {total}")
    at = (np.arange(n) + 0.5) / n
    curve = np.expm1(np.interp(at, PROBABILITIES, np.log1p(np.asarray(quantiles)))) - least
    curve = np.maximum(curve, 0) + 1e-9

    def scaled(factor: float) -> NDArray[np.float64]:
        above: NDArray[np.float64] = np.minimum(curve * factor, most - least)
        return above

    low, high = 0.0, 1.0
    while scaled(high).sum() < total - n * least:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if scaled(middle).sum() < total - n * least else (low, middle)
    # Rounding the running sum instead of the numbers keeps the total.
    running = np.rint(np.cumsum(scaled(high)))
    running[-1] = total - n * least
    counts = np.diff(running, prepend=0).astype(np.int64) + least
    excess = int((counts - most).clip(min=0).sum())
    counts = np.minimum(counts, most)
    while excess > 0:  # the last numbers may have been rounded above the limit
        below_limit = np.flatnonzero(counts < most)[-excess:]
        counts[below_limit] += 1
        excess -= len(below_limit)
    return counts


def fit_counts(ideal: Floats, total: int, least: int, most: Counts) -> Counts:
    """Whole numbers near ``ideal``, each from ``least`` to its ``most``, with an exact sum."""
    low, high = 0.0, 1.0
    while np.clip(ideal * high, least, most).sum() < total:
        high *= 2
        if high > 1e9:
            raise ValueError(f"no numbers up to {most.sum()} in all sum to {total}")
    for _ in range(100):
        middle = (low + high) / 2
        small = np.clip(ideal * middle, least, most).sum() < total
        low, high = (middle, high) if small else (low, middle)
    counts = np.clip(np.floor(ideal * high), least, most).astype(np.int64)
    missing = total - int(counts.sum())
    while missing:
        step = np.sign(missing)
        adjustable = np.flatnonzero(counts < most if step > 0 else counts > least)[: abs(missing)]
        counts[adjustable] += step
        missing -= step * len(adjustable)
    return counts
