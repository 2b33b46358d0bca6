import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.evaluation.candidates import full_candidates
from kgrec.models.ease import EASE, inverse
from kgrec.models.itemknn import ItemKNN

PAIRS = [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 2), (2, 3), (3, 0), (3, 2)]
NUM_USERS, NUM_ITEMS = 6, 5  # users 4 and 5 and item 4 have no training positive


@pytest.fixture
def tiny(dataset):
    """A data set of which only the training positives count."""
    pairs = torch.tensor(PAIRS).T
    ids = replace(dataset.ids, items=dataset.ids.items.head(NUM_ITEMS))
    train = Interactions.from_pairs(*pairs, NUM_USERS, NUM_ITEMS)
    return replace(dataset, train=train, ids=ids)


def liked(user: int) -> list[int]:
    return [item for u, item in PAIRS if u == user]


def test_ease_solves_its_least_squares(tiny):
    """Eq. 3 of the paper column by column: ridge regression on the other items."""
    model = EASE.from_dataset(tiny, l2=[0.7]).double()
    model.precompute(tiny)
    X = np.zeros((NUM_USERS, NUM_ITEMS))
    for user, item in PAIRS:
        X[user, item] = 1
    expected = np.zeros((NUM_ITEMS, NUM_ITEMS))
    for j in range(NUM_ITEMS):
        others = [i for i in range(NUM_ITEMS) if i != j]
        A = X[:, others]
        expected[others, j] = np.linalg.solve(A.T @ A + 0.7 * np.eye(len(others)), A.T @ X[:, j])
    np.testing.assert_allclose(model.weights.numpy(), expected, rtol=1e-9, atol=1e-12)
    scores = model.score_all(torch.arange(NUM_USERS)).numpy()
    np.testing.assert_allclose(scores, X @ expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("users", "items"), [(30, 8), (6, 40)])
def test_the_inverse_is_the_same_by_users_and_by_items(users, items):
    draw = np.random.default_rng(0)
    X = (draw.random((users, items)) < 0.1).astype(float)
    X[0], X[1], X[2] = 0, np.eye(items)[3], 1  # users with no, one and every item
    expected = np.linalg.inv(X.T @ X + 0.7 * np.eye(items))
    np.testing.assert_allclose(inverse(sp.csr_array(X), 0.7).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("k", [1, 2, 9])
@pytest.mark.parametrize("shrinkage", [0, 3])
def test_itemknn_is_a_loop_over_neighbours(tiny, k, shrinkage):
    model = ItemKNN.from_dataset(tiny, k=[k], shrinkage=[shrinkage]).double()
    model.precompute(tiny)
    fans = [{u for u, i in PAIRS if i == item} for item in range(NUM_ITEMS)]

    def similarity(i: int, j: int) -> float:
        both = len(fans[i] & fans[j])
        return both and both / (math.sqrt(len(fans[i]) * len(fans[j])) + shrinkage)

    scores = model.score_all(torch.arange(NUM_USERS))
    for j in range(NUM_ITEMS):
        others = [(similarity(i, j), i) for i in range(NUM_ITEMS) if i != j]
        nearest = [i for _, i in sorted(others, reverse=True)[:k]]
        # Which of equally similar ones are kept is not said: then only what is beyond doubt.
        cut = sorted((s for s, _ in others), reverse=True)[min(k, len(others)) - 1]
        if sum(s == cut for s, _ in others) > 1 and cut > 0 and k < len(others):
            continue
        for user in range(NUM_USERS):
            expected = sum(similarity(i, j) for i in nearest if i in liked(user))
            assert float(scores[user, j]) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("cls", [EASE, ItemKNN])
def test_pairs_are_scored_in_blocks(cls, dataset, monkeypatch):
    model = cls.from_dataset(dataset)
    model.precompute(dataset)
    users, items = dataset.val.users, dataset.val.items
    whole = model.score(users, items)
    monkeypatch.setattr("kgrec.models.item_based.BLOCK", 7)
    assert torch.equal(model.score(users, items), whole)
    assert whole.unique().numel() > 10


@pytest.mark.parametrize("by", ["val/auc", "val/recall@10"])
@pytest.mark.parametrize(
    ("cls", "grid"),
    [(EASE, {"l2": [0.01, 1e5, 30.0]}), (ItemKNN, {"k": [1, 40], "shrinkage": [0, 50]})],
)
def test_validation_chooses(cls, grid, by, dataset):
    model = cls.from_dataset(dataset, **grid, choose_by=by)
    model.precompute(dataset)
    figures = {}
    for values in itertools.product(*grid.values()):
        one = {key: [value] for key, value in zip(grid, values, strict=True)}
        alone = cls.from_dataset(dataset, **one, choose_by=by)
        alone.precompute(dataset)
        figures[values] = alone.validate(dataset)
    chosen = tuple(model.precompute_metrics[key] for key in grid)
    assert figures[chosen] == max(figures.values()) > min(figures.values())
    assert model.validate(dataset) == figures[chosen]


def test_one_number_is_a_grid_of_one(dataset):
    assert EASE.from_dataset(dataset, l2=100).recipe()["arguments"]["l2"] == [100]
    knn = ItemKNN.from_dataset(dataset, k=10, shrinkage=0.5)
    assert (knn.k, knn.shrinkage) == ([10], [0.5])


def test_all_settings_are_validated_on_candidates_that_are_built_once(dataset, monkeypatch):
    built = []

    def counted(*arguments):
        built.append(arguments)
        return full_candidates(*arguments)

    monkeypatch.setattr("kgrec.models.item_based.full_candidates", counted)
    EASE.from_dataset(dataset, [1, 10, 100], "val/ndcg@10").precompute(dataset)
    assert len(built) == 1
    EASE.from_dataset(dataset, [1, 10, 100], "val/auc").precompute(dataset)
    assert len(built) == 1


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (EASE, {"l2": []}, r"l2: found \[\], expected finite numbers >= 1e-06"),
        (EASE, {"l2": [0]}, r"l2: found \[0\], expected finite numbers >= 1e-06"),
        (EASE, {"l2": "10"}, r"l2: found '10', expected finite numbers >= 1e-06"),
        (EASE, {"choose_by": 3}, "choose_by: found 3, expected val/auc or"),
        (ItemKNN, {"k": [0]}, r"k: found \[0\], expected integers >= 1"),
        (ItemKNN, {"k": [10, 2.5]}, r"k: found \[10, 2.5\], expected integers >= 1"),
        (ItemKNN, {"k": None}, r"k: found None, expected integers >= 1"),
        (ItemKNN, {"shrinkage": [-1]}, r"shrinkage: found \[-1\], expected finite numbers >= 0"),
        (EASE, {"choose_by": "val/f1"}, "choose_by: found 'val/f1', expected val/auc or"),
        (ItemKNN, {"choose_by": "val/recall@x"}, "choose_by: found 'val/recall@x'"),
        (ItemKNN, {"choose_by": "val/recall@0"}, "choose_by: found 'val/recall@0'"),
        (EASE, {"choose_by": "val/recall@41"}, "expected a cut-off of at most 40, the number of"),
        (EASE, {"l2": ["x"]}, r"l2: found \['x'\], expected finite numbers >= 1e-06"),
    ],
)
def test_settings_that_cannot_work(cls, settings, message, dataset):
    with pytest.raises(ConfigError, match=message):
        cls.from_dataset(dataset, **settings)
