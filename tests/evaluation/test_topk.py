import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from kgrec.data.interactions import Interactions
from kgrec.errors import KgrecError
from kgrec.evaluation.topk import top_k


def literal(
    scores: torch.Tensor,
    k: int,
    excluded: set[tuple[int, int]],
    users: list[int],
    place: list[int],
):
    """Sorts by score, then by place in the order of ties, one user at a time."""
    values, items = [], []
    for user in users:
        left = [
            (-float(score), place[item], item)
            for item, score in enumerate(scores[user])
            if (user, item) not in excluded
        ]
        best = sorted(left)[:k] + [(float("inf"), 0, -1)] * k
        values.append([-score for score, _, _ in best[:k]])
        items.append([item for _, _, item in best[:k]])
    return values, items


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_equals_a_loop_with_ties_and_exclusions(data):
    num_users, num_items = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, num_items))
    levels = data.draw(st.sampled_from([2, 4, 1000]))  # few levels, many ties
    seed = data.draw(st.integers(0, 2**20))
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(levels, (num_users, num_items), generator=draw).float()
    mask = torch.rand(num_users, num_items, generator=draw) < data.draw(
        st.sampled_from([0, 0.4, 1])
    )
    pairs = Interactions.from_pairs(*mask.nonzero().T, num_users, num_items)
    users = torch.randint(num_users, (data.draw(st.integers(1, 8)),), generator=draw)
    budget = data.draw(st.sampled_from([1, 200, 2**20]))  # one user per block, a few, all
    order = torch.randperm(num_items, generator=draw) if data.draw(st.booleans()) else None
    found = top_k(lambda u: scores[u].clone(), users, k, num_items, pairs, budget, order)
    excluded = set(map(tuple, mask.nonzero().tolist()))
    place = list(range(num_items)) if order is None else order.argsort().tolist()
    values, items = literal(scores, k, excluded, users.tolist(), place)
    assert found[1].tolist() == items
    assert found[0].tolist() == values


def test_no_block_is_larger_than_the_budget():
    seen = []

    def score_all(users):
        seen.append(len(users))
        return torch.rand(len(users), 100)

    top_k(score_all, torch.arange(50), 5, 100, memory_budget=8 * 100 * 4 * 3)
    assert max(seen) == 8
    assert sum(seen) == 50


def test_no_users():
    scores, items = top_k(lambda u: torch.rand(len(u), 4), torch.arange(0), 2, 4)
    assert scores.shape == items.shape == (0, 2)


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(KgrecError, match="found scores that are not numbers"):
        top_k(lambda u: torch.full((len(u), 4), torch.nan), torch.arange(2), 2, 4)


@pytest.mark.parametrize("place", [0, 3])
def test_a_single_score_that_is_nan_is_refused(place):
    scores = torch.arange(4.0)
    scores[place] = torch.nan
    with pytest.raises(KgrecError, match="found scores that are not numbers"):
        top_k(lambda u: scores.repeat(len(u), 1), torch.arange(2), 1, 4)


@pytest.mark.parametrize("k", [0, 5])
def test_k_must_be_possible(k):
    with pytest.raises(ValueError, match=rf"k: found {k}, expected 1 to 4"):
        top_k(lambda u: torch.rand(len(u), 4), torch.arange(2), k, 4)
