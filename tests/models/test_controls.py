import math

import pytest
import torch
from conftest import small

from kgrec.data.protocols import clean, paper
from kgrec.data.splits import RandomSplit
from kgrec.evaluation.ctr import auc, f1
from kgrec.models.controls import (
    AllPositive,
    Popularity,
    PopularityBalance,
    PopularityPrior,
    UnseenItem,
)
from kgrec.training.testing import controls


def made(kind, dataset):
    model = kind.from_dataset(dataset)
    model.precompute(dataset)
    return model


def test_popularity_counts_training_positives_alone():
    dataset = paper(small(), RandomSplit())
    scores = made(Popularity, dataset).score_all(torch.tensor([0, 5]))
    expected = torch.bincount(dataset.train.items, minlength=40).float()
    assert torch.equal(scores, expected.repeat(2, 1))


def test_an_item_without_a_positive_counts_as_the_average_trained_item():
    dataset = paper(small(), RandomSplit())
    counts = torch.bincount(dataset.train.items, minlength=40).tolist()
    assert 0 in counts
    trained = [n for n in counts if n]
    mean = math.prod(trained) ** (1 / len(trained))
    scores = made(PopularityPrior, dataset).score_all(torch.tensor([0]))[0].tolist()
    assert scores == pytest.approx([n or mean for n in counts], rel=1e-5)
    assert "popularity_prior" in controls(dataset, "shared", "trained")
    assert "popularity_prior" not in controls(dataset, "resampled")


def test_unseen_item():
    dataset = clean(small(), RandomSplit())
    model = made(UnseenItem, dataset)
    seen = set(dataset.train.items.tolist())
    scores = model.score_all(torch.tensor([0]))[0]
    assert scores.tolist() == [float(i in seen) for i in range(40)]


def test_all_positive_has_f1_of_two_thirds_on_balanced_rows():
    rows = clean(small(), RandomSplit()).test
    scores = AllPositive(40).score(rows.users, rows.items)
    assert f1(scores, rows.labels, 0.0) == pytest.approx(2 / 3)
    assert auc(scores, rows.labels) == 0.5


def test_the_balance_of_a_user_leaks_under_paper_and_not_under_clean():
    gains = {}
    for protocol in (paper, clean):
        dataset = protocol(small(), RandomSplit())
        both, alone = made(PopularityBalance, dataset), made(Popularity, dataset)
        rows = dataset.test
        gains[protocol] = auc(both.score(rows.users, rows.items), rows.labels) - auc(
            alone.score(rows.users, rows.items), rows.labels
        )
    assert gains[paper] > 0.01
    assert abs(gains[clean]) < 1e-3
