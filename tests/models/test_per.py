from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import torch

from kgrec.data.batches import PointwiseBatch
from kgrec.errors import ConfigError
from kgrec.models.per import PER, factorise, path_similarity


def named(dataset):
    """The data set with relations called a, b, c and so on."""
    names = [chr(97 + k) for k in range(dataset.num_relations)]
    ids = replace(dataset.ids, relations=pl.DataFrame({"relation": names}))
    return replace(dataset, ids=ids)


def test_path_similarity_counts_paths():
    links = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=float)
    found = path_similarity(sp.csr_array(links)).toarray()
    for i in range(4):
        for j in range(4):
            paths = sum(links[i, a] * links[j, a] for a in range(3))
            own = sum(links[i, a] ** 2 + links[j, a] ** 2 for a in range(3))
            assert found[i, j] == (pytest.approx(2 * paths / own) if paths else 0)


def test_the_factorisation_is_that_of_the_full_matrix():
    """Multiplicative updates as printed, on R S formed whole."""
    draw = np.random.default_rng(0)
    R = (draw.random((7, 5)) < 0.4).astype(float)
    S = draw.random((5, 5)) * (draw.random((5, 5)) < 0.6)
    S = S + S.T
    whole = R @ S
    seeded = torch.Generator().manual_seed(3)
    W, H = factorise(sp.csr_array(R), sp.csr_array(S), 3, 1, seeded.clone_state())
    start = torch.rand(12, 3, generator=seeded, dtype=torch.float64).numpy()
    w, h = np.split(2 * np.sqrt(whole.mean() / 3) * start, [7])
    w = w * (whole @ h) / (w @ h.T @ h)
    h = h * (whole.T @ w) / (h @ w.T @ w)
    np.testing.assert_allclose(W, w, rtol=1e-9)
    np.testing.assert_allclose(H, h, rtol=1e-9)
    errors = []
    for iterations in (1, 10, 200):
        W, H = factorise(
            sp.csr_array(R), sp.csr_array(S), 3, iterations, torch.Generator().manual_seed(3)
        )
        assert min(W.min(), H.min()) >= 0
        errors.append(float(np.square(whole - W @ H.T).sum()))
    best = np.square(np.linalg.svd(whole)[1][3:]).sum()  # no factors of rank 3 are nearer
    assert errors[0] > errors[1] > errors[2] > best


def test_scores_are_weighted_products(dataset):
    torch.manual_seed(0)
    model = PER.from_dataset(dataset, d=3, iterations=5).double()
    model.precompute(dataset)
    assert model.precompute_metrics == {
        "paths": len(model.paths),
        "items_on_paths": dataset.num_items,
    }
    assert len(model.paths) > 1
    with torch.no_grad():
        model.weights.copy_(torch.arange(1.0, len(model.paths) + 1))
        model.bias.fill_(0.25)
    users, items = torch.tensor([0, 3, 59]), torch.tensor([39, 3, 7])
    expected = []
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        w, h = model.user_features[user].tolist(), model.item_features[item].tolist()
        paths = range(len(model.paths))
        features = [sum(w[3 * q + k] * h[3 * q + k] for k in range(3)) for q in paths]
        expected.append(0.25 + sum((q + 1) * x for q, x in enumerate(features)))
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(model.score(users, items).detach(), expected, rtol=1e-9, atol=0)
    batch = PointwiseBatch(users, items, torch.ones(3, dtype=torch.float64))
    loss = -torch.nn.functional.logsigmoid(expected).mean()
    torch.testing.assert_close(model.loss(batch).detach(), loss)
    train = dataset.train
    products = model.user_features[train.users] * model.item_features[train.items]
    means = products.view(len(train), -1, 3).sum(-1).mean(0)
    torch.testing.assert_close(means, torch.ones_like(means))


def test_paths_are_relations_by_name(dataset):
    dataset = named(dataset)
    made = PER.from_dataset(dataset, paths=["b", ["c", "a"]])
    assert made.paths == [[1], [2, 0]]
    assert PER.from_dataset(dataset, paths="b").paths == [[1]]
    made.precompute(dataset)
    assert torch.isfinite(made.item_features).all()
    assert made.item_features.any(dim=0).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": ["z"]}, "paths: found 'z', expected relations of the graph, such as a, b"),
        ({"paths": []}, r"paths: found \[\], expected at least one relation, or null"),
        ({"paths": ["a", []]}, "paths: found a path of no relation"),
        ({"paths": "z"}, "paths: found 'z', expected relations of the graph, such as a, b"),
        ({"paths": 3}, "paths: found 3, expected a list of relations, or null"),
        ({"paths": [3]}, "paths: found '3', expected relations of the graph"),
        ({"paths": {"a": "b"}}, "paths: found {'a': 'b'}, expected a list of relations"),
        ({"d": 0}, "d: found 0, expected an integer >= 1"),
        ({"iterations": 0}, "iterations: found 0, expected an integer >= 1"),
    ],
)
def test_settings_that_cannot_work(settings, message, dataset):
    with pytest.raises(ConfigError, match=message):
        PER.from_dataset(named(dataset), **settings)


def test_items_that_share_nothing(dataset):
    """A relation that leads each item to something of its own is no path."""
    n, graph = dataset.num_items, dataset.graph
    lonely = replace(
        graph,
        heads=torch.arange(n),
        relations=torch.zeros(n, dtype=torch.int64),
        tails=torch.arange(n) + n,
        num_entities=2 * n,
    )
    alone = named(replace(dataset, graph=lonely))
    with pytest.raises(ConfigError, match=r"paths: found no relation by which items share"):
        PER.from_dataset(alone)
    with pytest.raises(ConfigError, match=r"paths: found 'a', by which no two items share"):
        PER.from_dataset(alone, paths=["a"])
