"""The sizes and shapes of the public data sets, for synthetic twins of them.

Sizes are those of Table 1 of the KGCN paper; for movie also those of MovieLens-20M's own files
(Harper and Konstan, 2015), of which the paper uses what its graph knows. Shapes are quantiles of
a distribution: for music and book measured on the public files, for movie from the statistics
of MovieLens-20M, and for the graph, which is not at hand, from those of MovieLens-100K's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

PROBABILITIES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 1.0)

Quantiles = tuple[float, ...]
"""The values at PROBABILITIES."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """A data set without its content.

    Attributes:
        rows: ratings in the file.
        raw_users: users in the file.
        raw_items: items in the file.
        users: users with a positive.
        items: items that the graph knows.
        positives: pairs that count as positive.
        entities: of the graph, items among them.
        relations: of the graph.
        triples: of the graph.
        per_user: rows of a user (movie) or its positives (the others), as quantiles.
        per_item: rows of an item, as quantiles.
        item_degree: triples of an item, as quantiles.
        relation_exponent: the r-th relation has about r^-exponent of the triples.
        min_rating: ratings from it are positive; None: all are.
        ratings: the ratings file of the raw format.
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
        """The same with a share of the users, items, rows and triples."""
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
    # Table 1 says nothing on rows without an entity; a few more than there are positives.
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
    """``n`` whole numbers of a given shape and an exact sum, ascending.

    Between the quantiles the logarithm is linear. What is above ``least`` is stretched until
    the sum fits.

    Args:
        quantiles: the shape.
        n: how many.
        total: their sum.
        least: none is smaller.
        most: none is larger.

    Raises:
        ValueError: no such numbers exist.
    """
    if not n * least <= total <= n * most:
        raise ValueError(f"no {n} numbers from {least} to {most} sum to {total}")
    at = (np.arange(n) + 0.5) / n
    curve = np.expm1(np.interp(at, PROBABILITIES, np.log1p(np.asarray(quantiles)))) - least
    curve = np.maximum(curve, 0) + 1e-9

    def stretched(factor: float) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.minimum(curve * factor, most - least)
        return found

    low, high = 0.0, 1.0
    while stretched(high).sum() < total - n * least:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if stretched(middle).sum() < total - n * least else (low, middle)
    # Rounding the running sum, not the numbers, keeps the total.
    running = np.rint(np.cumsum(stretched(high)))
    running[-1] = total - n * least
    counts = np.diff(running, prepend=0).astype(np.int64) + least
    spill = int((counts - most).clip(min=0).sum())
    counts = np.minimum(counts, most)
    while spill > 0:  # the last numbers may have been rounded over the top
        room = np.flatnonzero(counts < most)[-spill:]
        counts[room] += 1
        spill -= len(room)
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
        able = np.flatnonzero(counts < most if step > 0 else counts > least)[: abs(missing)]
        counts[able] += step
        missing -= step * len(able)
    return counts
