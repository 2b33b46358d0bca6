"""Ranking metrics: worked by hand, against a literal loop, and properties."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from kgrec.evaluation import catalogue
from kgrec.evaluation.ranking import METRICS

# Three users: hits at ranks 1 and 4 of 3 relevant; none of 1; at rank 2 of 7.
HITS = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
RELEVANT = torch.tensor([3, 1, 7])
LOG2_3 = math.log2(3)

BY_HAND = {
    ("recall", 1): [1 / 3, 0, 0],
    ("recall", 4): [2 / 3, 0, 1 / 7],
    ("precision", 2): [1 / 2, 0, 1 / 2],
    ("precision", 4): [1 / 2, 0, 1 / 4],
    ("hit", 1): [1, 0, 0],
    ("hit", 4): [1, 0, 1],
    ("mrr", 1): [1, 0, 0],
    ("mrr", 4): [1, 0, 1 / 2],
    # Precision at the hits: 1/1 and 2/4; divided by min(4, 3).
    ("map", 4): [(1 + 2 / 4) / 3, 0, (1 / 2) / 4],
    ("map", 2): [1 / 2, 0, (1 / 2) / 2],
    # Ideal with three hits in front: 1 + 1/log2(3) + 1/2.
    ("ndcg", 4): [
        (1 + 1 / math.log2(5)) / (1 + 1 / LOG2_3 + 1 / 2),
        0,
        (1 / LOG2_3) / (1 + 1 / LOG2_3 + 1 / 2 + 1 / math.log2(5)),
    ],
    ("ndcg", 1): [1, 0, 0],
}


@pytest.mark.parametrize(("name", "k"), BY_HAND)
def test_by_hand(name, k):
    found = METRICS[name](HITS, RELEVANT, k)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(BY_HAND[name, k], abs=1e-12)


def literal(name: str, hits: list[bool], relevant: int, k: int) -> float:
    """From the definition, one user."""
    top = hits[:k]
    if name == "recall":
        return sum(top) / relevant
    if name == "precision":
        return sum(top) / k
    if name == "hit":
        return float(any(top))
    if name == "mrr":
        return next((1 / (i + 1) for i, h in enumerate(top) if h), 0.0)
    if name == "map":
        total = sum(sum(top[: i + 1]) / (i + 1) for i, h in enumerate(top) if h)
        return total / min(k, relevant)
    dcg = sum(1 / math.log2(i + 2) for i, h in enumerate(top) if h)
    return dcg / sum(1 / math.log2(i + 2) for i in range(min(k, relevant)))


@st.composite
def rankings(draw):
    n, depth = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    hits = [[draw(st.booleans()) for _ in range(depth)] for _ in range(n)]
    relevant = [max(1, sum(row)) + draw(st.integers(0, 5)) for row in hits]
    return hits, relevant, draw(st.integers(1, depth))


@settings(max_examples=60, deadline=None)
@given(rankings())
def test_they_equal_a_literal_loop_and_keep_their_bounds(case):
    hits, relevant, k = case
    for name, metric in METRICS.items():
        found = metric(torch.tensor(hits), torch.tensor(relevant), k).tolist()
        expected = [literal(name, *row, k) for row in zip(hits, relevant, strict=True)]
        assert found == pytest.approx(expected, abs=1e-9)
        assert all(0 <= value <= 1 + 1e-12 for value in found)


@settings(max_examples=60, deadline=None)
@given(rankings())
def test_an_earlier_hit_is_never_worse(case):
    hits, relevant, k = case
    better = [sorted(row, reverse=True) for row in hits]
    for metric in METRICS.values():
        a, b = (metric(torch.tensor(h), torch.tensor(relevant), k) for h in (hits, better))
        assert bool((b >= a - 1e-12).all())


def test_a_perfect_ranking_has_ndcg_map_and_mrr_of_one():
    hits = torch.tensor([[1, 1, 1, 0]], dtype=torch.bool)
    for name in ("ndcg", "map", "mrr", "recall"):
        assert METRICS[name](hits, torch.tensor([3]), 4).item() == pytest.approx(1)


@pytest.mark.parametrize("k", [0, 5])
def test_a_cutoff_beyond_the_ranked_items_is_an_error(k):
    with pytest.raises(ValueError, match=f"k: found {k}, expected 1 to 4"):
        METRICS["recall"](HITS, RELEVANT, k)


# ------------------------------------------------------------------ catalogue


ITEMS = torch.tensor([[0, 1], [0, 2], [0, -1]])  # of 5 items; the last user had one left


def test_metrics_of_the_catalogue_by_hand():
    assert catalogue.exposure(ITEMS, 5).tolist() == [3, 1, 1, 0, 0]
    assert catalogue.coverage(ITEMS, 5) == pytest.approx(3 / 5)
    popularity = torch.tensor([10, 4, 1, 7, 7])
    assert catalogue.mean_popularity(ITEMS, popularity) == pytest.approx((30 + 4 + 1) / 5)
    # Ascending exposures 0 0 1 1 3: Σ (2i - 6) x_i = 0 + 2 + 12.
    assert catalogue.gini(ITEMS, 5) == pytest.approx((0 * 1 + 2 * 1 + 4 * 3) / (5 * 5))


def test_gini_is_zero_where_all_are_recommended_alike_and_the_mean_gap_elsewhere():
    assert catalogue.gini(torch.tensor([[0, 1], [2, 3]]), 4) == 0
    x = catalogue.exposure(ITEMS, 5).double()
    gaps = (x[:, None] - x[None]).abs().mean() / (2 * x.mean())  # the other definition
    assert catalogue.gini(ITEMS, 5) == pytest.approx(float(gaps))
