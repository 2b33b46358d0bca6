"""Draws of items without replacement, in proportion to weights."""

from __future__ import annotations

import numpy as np
import torch

from kgrec.data.synthetic.shapes import Counts, Floats


def fit_weights(popularity: Floats, draws: Counts) -> Floats:
    """Weights w with which each item is drawn ``popularity`` times in total.

    A user who draws n items without replacement, each in proportion to w, gets item v with a
    probability of about 1 - exp(-w_v τ). τ is chosen so that these probabilities sum to n.
    """
    target = popularity * (draws.sum() / popularity.sum())
    sizes = np.quantile(draws, (np.arange(64) + 0.5) / 64)  # users in 64 bins by activity
    sizes *= draws.sum() / (sizes.sum() * len(draws) / 64)
    appeal: Floats = target / target.sum()
    tau = sizes.copy()
    for _ in range(30):
        for _ in range(8):  # Newton
            missed = np.exp(-np.outer(tau, appeal))
            slope = (missed * appeal).sum(axis=1)
            tau = np.maximum(
                tau - ((1 - missed).sum(axis=1) - sizes) / np.maximum(slope, 1e-12), 1e-6
            )
        expected = (1 - np.exp(-np.outer(tau, appeal))).sum(axis=0) * len(draws) / 64
        appeal = appeal * np.clip(target / np.maximum(expected, 1e-12), 0.25, 4)
        appeal /= appeal.sum()
    return appeal


def draw_distinct(
    counts: Counts,
    weights: Floats,
    taken: tuple[Counts, Counts],
    rng: np.random.Generator,
) -> tuple[Counts, Counts]:
    """Draws ``counts[u]`` distinct items for each user, one after the other by weight.

    Each item gets a time Exp(1) / weight; the items with the smallest times are drawn.

    Args:
        counts: (U,) number of items; at most as many as can be drawn.
        weights: (I,) positive where an item can be drawn.
        taken: (users, items) that must not be drawn.
        rng: random generator.

    Returns:
        (users, items).
    """
    users, items = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    undrawable = weights <= 0
    inverse_weight = (1 / np.where(undrawable, 1, weights)).astype(np.float32)
    by_count = np.argsort(counts, kind="stable")
    by_count = by_count[counts[by_count] > 0]
    for start in range(0, len(by_count), 32):  # users with similar numbers of items
        block = by_count[start : start + 32]
        times = rng.standard_exponential((len(block), len(weights)), dtype=np.float32)
        times *= inverse_weight
        times[:, undrawable] = np.inf
        row = np.full(len(counts), -1)
        row[block] = np.arange(len(block))
        in_block = row[taken[0]] >= 0
        times[row[taken[0][in_block]], taken[1][in_block]] = np.inf
        max_count = int(counts[block].max())
        fastest = torch.from_numpy(times).topk(max_count, largest=False).indices.numpy()
        drawn = np.arange(max_count) < counts[block, None]
        users.append(np.repeat(block, counts[block]))
        items.append(fastest[drawn])
    return np.concatenate(users), np.concatenate(items)
