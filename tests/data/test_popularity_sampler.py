"""Draws in proportion to popularity: exact, and never an excluded item."""

import math

import pytest
import torch

from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.popularity_sampler import TICKETS, PopularitySampler

# Users by item; items 0 to 5, of which 5 has no positive. User 3 has all of the others.
OWN = {0: [0, 1], 1: [1, 2, 4], 2: [1], 3: [0, 1, 2, 3, 4], 4: []}
POPULARITY = [2, 4, 2, 1, 2, 0]


def positives() -> Interactions:
    pairs = [(user, item) for user, items in OWN.items() for item in items]
    return Interactions.from_pairs(*torch.tensor(pairs).T, 5, 6)


def expected(user: int, power: float) -> list[float]:
    weights = [
        0.0 if item in OWN[user] else float(count) ** power for item, count in enumerate(POPULARITY)
    ]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("power", [1.0, 0.5, 2.0, 0.0])
def test_draws_have_the_stated_distribution(power):
    sampler, n = PopularitySampler(positives(), power), 20_000
    for user in (0, 1, 2, 4):
        users, items = sampler.draw(torch.full((n,), user), generator(1, "test"))
        assert (users == user).all()
        counts, q = torch.bincount(items, minlength=6).tolist(), expected(user, power)
        chi_square = sum(
            (count - n * p) ** 2 / (n * p) for count, p in zip(counts, q, strict=True) if p
        )
        assert chi_square < 20.5, (user, counts)  # p = 0.001 with 5 degrees of freedom
        assert all(count == 0 for count, p in zip(counts, q, strict=True) if p == 0)
        logs = sampler.log_probability(users, items)
        for item in set(items.tolist()):
            assert float(logs[items == item][0]) == pytest.approx(math.log(q[item]), abs=1e-5)


def test_users_without_an_item_to_draw_are_dropped():
    sampler = PopularitySampler(positives())
    assert sampler.num_drawable.tolist()[3] == 0
    users, items = sampler.draw(torch.tensor([3, 0, 3]), generator(1, "test"))
    assert users.tolist() == [0]
    assert len(items) == 1
    assert int(PopularitySampler(positives(), 0.0).num_drawable[3]) > 0  # item 5


def test_every_popular_item_has_a_ticket():
    users = torch.cat([torch.arange(100_000), torch.tensor([0])])
    items = torch.cat([torch.zeros(100_000, dtype=torch.int64), torch.tensor([1])])
    sampler = PopularitySampler(Interactions.from_pairs(users, items, 100_000, 3), power=4)
    assert sampler.tickets.tolist()[1:] == [1, 0]
    assert int(sampler.tickets.sum()) == pytest.approx(TICKETS, rel=1e-6)
    drawn = sampler.draw(torch.arange(1, 100_000), generator(0, "test"))[1]
    assert (drawn == 1).all()  # all have item 0
