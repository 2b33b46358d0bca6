from dataclasses import replace
from functools import cache

import pytest
import torch
from reference_kgcn import dot, softmax
from torch.nn.functional import binary_cross_entropy

from kgrec.data.batches import PointwiseBatch
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.errors import ConfigError
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgnn_ls import KGNNLS


@pytest.fixture
def between_items(dataset):
    """The same data with triples between items too, and entity 5 without any."""
    graph, n = dataset.graph, dataset.num_items
    draw = torch.Generator().manual_seed(0)
    heads = torch.cat([graph.heads, torch.randint(n, (150,), generator=draw)])
    tails = torch.cat([graph.tails, torch.randint(n, (150,), generator=draw)])
    relations = torch.cat([graph.relations, torch.zeros(150, dtype=torch.int64)])
    kept = (heads != 5) & (tails != 5)
    triples = heads[kept], relations[kept], tails[kept]
    return replace(dataset, graph=KnowledgeGraph(*triples, graph.num_entities, graph.num_relations))


def make(dataset, **settings) -> KGNNLS:
    torch.manual_seed(0)
    model = KGNNLS.from_dataset(dataset, d=4, **settings).double()
    with torch.no_grad():
        model.relation_embedding.mul_(3)  # attention that is far from even
    return model


def literal(model: KGNNLS, dataset, user: int, item: int) -> torch.Tensor:
    """l_u(v) by recursion, one node at a time."""
    known = dict.fromkeys(zip(*(x.tolist() for x in dataset.static_negatives), strict=True), 0.0)
    pairs = zip(dataset.train.users.tolist(), dataset.train.items.tolist(), strict=True)
    known |= dict.fromkeys(pairs, 1.0)
    known.pop((user, item), None)
    u = model.user_embedding.weight[user]

    @cache
    def label(entity: int, below: int) -> torch.Tensor:
        if (user, entity) in known:
            return torch.tensor(known[user, entity], dtype=torch.float64)
        edges = range(int(model.indptr[entity]), int(model.indptr[entity + 1]))
        if below == 0 or not edges:
            return torch.tensor(0.5, dtype=torch.float64)
        scores = [dot(u, model.relation_embedding[model.relations[e]]) for e in edges]
        if model.scaling == "released":
            scores = [s / model.d for s in scores]
        weights = softmax(scores)
        return sum(
            w * label(int(model.neighbors[e]), below - 1)
            for w, e in zip(weights, edges, strict=True)
        )

    return label(item, model.H)


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize(("K", "H"), [(3, 1), (4, 2), ("all", 1), ("all", 2), (2, 3)])
def test_labels_and_gradients_equal_a_recursion(K, H, scaling, between_items):
    model = make(between_items, K=K, H=H, scaling=scaling)
    train = between_items.train
    users, items = train.users[:40:3], train.items[:40:3]
    users, items = torch.cat([users, users[:1]]), torch.cat([items, torch.tensor([5])])
    pairs = zip(users.tolist(), items.tolist(), strict=True)
    expected = torch.stack([literal(model, between_items, *pair) for pair in pairs])
    found = model.propagate(users, items)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert expected.detach().unique().numel() > 2  # labels were met
    assert float(found[-1].detach()) == 0.5  # item 5 has no neighbours
    tables = [model.user_embedding.weight, model.relation_embedding]
    weights = torch.arange(1.0, len(found) + 1, dtype=torch.float64)
    ours = torch.autograd.grad((found * weights).sum(), tables)
    theirs = torch.autograd.grad((expected * weights).sum(), tables)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
        assert a.any()


def test_the_loss_is_that_of_kgcn_and_of_the_labels(between_items):
    model = make(between_items, H=2, ls_weight=0.3)
    rows = between_items.train
    batch = PointwiseBatch(rows.users, rows.items, torch.ones(len(rows), dtype=torch.float64))
    labels = model.propagate(rows.users, rows.items).detach().clamp(1e-3, 1 - 1e-3)
    expected = KGCN.loss(model, batch) + 0.3 * binary_cross_entropy(labels, batch.labels)
    torch.testing.assert_close(model.loss(batch), expected)


def test_label_smoothness_is_learned(between_items):
    rows, negatives = between_items.train, between_items.static_negatives
    users, items = torch.cat([rows.users, negatives[0]]), torch.cat([rows.items, negatives[1]])
    labels = torch.zeros(len(users), dtype=torch.float64)
    labels[: len(rows)] = 1
    batch = PointwiseBatch(users, items, labels)
    smooth = {}
    for ls_weight in (0.0, 1.0):
        model = make(between_items, H=2, ls_weight=ls_weight)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(40):
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
        found = model.propagate(users, items).detach().clamp(1e-3, 1 - 1e-3)
        smooth[ls_weight] = float(binary_cross_entropy(found, labels))
    assert smooth[1.0] < 0.97 * smooth[0.0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ls_weight": -1}, "ls_weight: found -1, expected a finite number >= 0"),
        ({"aggregator": "avg"}, "aggregator: found 'avg', expected an aggregator with attention"),
    ],
)
def test_settings_that_cannot_work(settings, message, dataset):
    with pytest.raises(ConfigError, match=message):
        KGNNLS.from_dataset(dataset, **settings)
