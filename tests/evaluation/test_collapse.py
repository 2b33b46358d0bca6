"""Signs that a trained model has collapsed."""

import math

import pytest
import torch

from kgrec.data.interactions import LabelledRows
from kgrec.evaluation.collapse import at_chance, collapsed, constant, mark, signs_of
from kgrec.evaluation.ctr import auc


def test_scores_without_a_signal_are_at_chance_and_weak_scores_are_not():
    generator = torch.Generator().manual_seed(0)
    labels = (torch.arange(4000) % 2).float()
    noise = torch.randn(200, 4000, generator=generator)
    aucs = [auc(scores, labels) for scores in noise]
    assert sum(at_chance(value, 2000, 2000) for value in aucs) >= 199
    assert at_chance(max(aucs[:50]), 2000, 2000)  # the best of 50 epochs that learn nothing
    assert not at_chance(auc(noise[0] + 0.2 * labels, labels), 2000, 2000)


def test_the_tolerance_is_three_standard_errors():
    error = math.sqrt((30 + 20 + 1) / (12 * 30 * 20))
    assert at_chance(0.5 + 2.99 * error, 30, 20)
    assert not at_chance(0.5 + 3.01 * error, 30, 20)
    assert at_chance(0.1, 30, 20)
    assert not at_chance(math.nan, 30, 0)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0, 1.0, 2.0, 2.0, 7.0], True),  # a bias of the user alone
        ([0.0, 0.0, 0.0, 0.0, 0.0], True),
        ([1.0, 1.0 + 1e-7, 2.0, 2.0, 7.0], True),  # rounding
        ([1e-9, 2e-9, 1e-9, 1e-9, 0.0], False),  # small scores that rank
        ([1.0, 1.0, 2.0, 2.1, 7.0], False),
    ],
)
def test_constant_scores_are_those_of_each_user(scores, expected):
    users = torch.tensor([0, 0, 5, 5, 9])
    assert constant(users, torch.tensor(scores)) is expected


def test_users_with_one_row_say_nothing():
    assert not constant(torch.arange(3), torch.ones(3))
    assert not constant(torch.arange(0), torch.ones(0))


def test_signs_become_metrics_and_words():
    rows = LabelledRows(torch.arange(200) % 20, torch.arange(200), (torch.arange(200) % 2).float())
    good = torch.randn(200, generator=torch.Generator().manual_seed(0))
    assert collapsed(0.8, rows, rows, good) == {}
    assert collapsed(0.8, rows, rows, 1e6 * good) == {"collapsed/exploded": 1.0}
    metrics = collapsed(0.5, rows, rows, torch.zeros(200))
    assert metrics == {"collapsed/constant": 1.0, "collapsed/chance": 1.0}
    assert mark({"test/auc": 0.5, **metrics}) == "constant scores, at chance"
    assert [sign.short for sign in signs_of(metrics)] == ["constant scores", "at chance"]
    assert mark({"test/auc": 0.5}) == ""
