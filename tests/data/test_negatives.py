import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.negatives import NegativeSampler, draw_popularity_matched

USERS, ITEMS = 5, 7
pairs = st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), max_size=35)


def interactions(found) -> Interactions:
    users = torch.tensor([u for u, _ in found], dtype=torch.int64)
    items = torch.tensor([i for _, i in found], dtype=torch.int64)
    return Interactions.from_pairs(users, items, USERS, ITEMS)


@settings(deadline=None)
@given(pairs)
def test_nth_drawable_lists_the_complement_in_order(found):
    sampler = NegativeSampler(interactions(found))
    for user in range(USERS):
        free = [i for i in range(ITEMS) if (user, i) not in found]
        assert sampler.num_drawable[user] == len(free)
        k = torch.arange(len(free))
        assert sampler.nth_drawable(torch.full_like(k, user), k).tolist() == free


@settings(deadline=None)
@given(pairs, st.sets(st.integers(0, ITEMS - 1), min_size=1), st.integers(0, 5))
def test_draws_among_some_items_are_draws_of_a_smaller_catalogue(found, among, seed):
    items = sorted(among)
    sampler = NegativeSampler(interactions(found), torch.tensor(items))
    small = NegativeSampler(interactions({(u, i) for u, i in found if i in among}))
    assert sampler.num_drawable.tolist() == (small.num_drawable - (ITEMS - len(items))).tolist()
    for user in range(USERS):
        free = [i for i in items if (user, i) not in found]
        k = torch.arange(len(free))
        assert sampler.nth_drawable(torch.full_like(k, user), k).tolist() == free
    users, drawn = sampler.draw(torch.arange(USERS).repeat(9), generator(seed, "test"))
    assert set(drawn.tolist()) <= among
    every = torch.full((USERS,), ITEMS)
    users, drawn = sampler.draw_distinct(every, generator(seed, "test"))
    free = [(u, i) for u in range(USERS) for i in items if (u, i) not in found]
    assert list(zip(users.tolist(), drawn.tolist(), strict=True)) == free


@given(pairs, st.integers(0, 5))
def test_draws_are_items_that_are_not_excluded(found, seed):
    sampler = NegativeSampler(interactions(found))
    asked = torch.arange(USERS).repeat(20)
    users, items = sampler.draw(asked, generator(seed, "test"))
    assert len(users) == 20 * int((sampler.num_drawable > 0).sum())
    assert all((u, i) not in found for u, i in zip(users.tolist(), items.tolist(), strict=True))
    assert ((items >= 0) & (items < ITEMS)).all()


@settings(deadline=None)
@given(pairs, st.lists(st.integers(0, ITEMS), min_size=USERS, max_size=USERS), st.integers(0, 5))
def test_distinct_draws_give_as_many_items_as_possible(found, counts, seed):
    sampler = NegativeSampler(interactions(found))
    users, items = sampler.draw_distinct(torch.tensor(counts), generator(seed, "test"))
    drawn = list(zip(users.tolist(), items.tolist(), strict=True))
    assert len(set(drawn)) == len(drawn)
    assert not set(drawn) & found
    assert all(0 <= i < ITEMS for i in items.tolist())
    for user, wanted in enumerate(counts):
        assert sum(u == user for u in users.tolist()) == min(
            wanted, int(sampler.num_drawable[user])
        )


@pytest.mark.parametrize("count", [2, 5])  # drawn and redrawn, and shuffled
def test_distinct_draws_are_uniform(count):
    # 4,000 users of 6 free items each: every item comes up count/6 of the time.
    n = 4000
    excluded = Interactions.from_pairs(torch.arange(n), torch.zeros(n, dtype=torch.int64), n, 7)
    sampler = NegativeSampler(excluded)
    _, items = sampler.draw_distinct(torch.full((n,), count), generator(0, "test"))
    share = torch.bincount(items, minlength=7) / n
    assert share[0] == 0
    # Four standard deviations of a share.
    assert (share[1:] - count / 6).abs().max() < 4 * (count / 6 * (1 - count / 6) / n) ** 0.5


def test_uniform_draws_are_uniform():
    sampler = NegativeSampler(interactions({(0, 2), (0, 3)}))
    _, items = sampler.draw(torch.zeros(50_000, dtype=torch.int64), generator(0, "test"))
    share = torch.bincount(items, minlength=ITEMS) / 50_000
    assert share[[2, 3]].sum() == 0
    assert (share[[0, 1, 4, 5, 6]] - 0.2).abs().max() < 4 * (0.2 * 0.8 / 50_000) ** 0.5


def test_draws_repeat_with_their_seed_and_differ_by_epoch():
    sampler = NegativeSampler(interactions({(0, 2)}))
    users = torch.zeros(100, dtype=torch.int64)
    first, again, other = (
        sampler.draw(users, generator(0, "negatives", epoch))[1] for epoch in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_popularity_matched_negatives_follow_the_positives():
    n = 3000
    g = generator(0, "test")
    items = (torch.rand(n, generator=g) ** 2 * 50).long()  # the first items are the popular ones
    positives = Interactions.from_pairs(torch.arange(n), items, n, 50)
    users, drawn = draw_popularity_matched(positives, positives, g)
    assert len(users) == n
    assert not positives.contains(users, drawn).any()
    expected = positives.item_degrees() / n
    # Excluding a user's own item shifts shares a little; uniform draws would be off by 0.1.
    assert (torch.bincount(drawn, minlength=50) / n - expected).abs().max() < 0.03


def test_users_with_every_item_get_no_popularity_matched_negative():
    positives = interactions({(0, i) for i in range(ITEMS)} | {(1, 0)})
    users, items = draw_popularity_matched(positives, positives, generator(0, "test"))
    assert users.tolist() == [1]
    assert items.tolist() != [0]
