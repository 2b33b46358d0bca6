import itertools

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from kgrec.data.batches import PointwiseBatch
from kgrec.errors import ConfigError
from kgrec.models.libfm import LibFM

ATTRIBUTES = [[0, 2], [], [1, 2, 3], [2]]


def model(attributes: bool = False, **settings) -> LibFM:
    torch.manual_seed(0)
    described = {}
    if attributes:
        sizes = torch.tensor([0] + [len(found) for found in ATTRIBUTES])
        numbers = torch.tensor(list(itertools.chain(*ATTRIBUTES)))
        described = {"offsets": sizes.cumsum(0), "attributes": numbers, "num_attributes": 4}
    made = LibFM(3, 4, **described, d=3, **settings).double().requires_grad_(False)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def literal(made: LibFM, user: int, item: int) -> float:
    """Eq. 1 over all pairs of features."""
    features = [(made.user_weights, made.user_embedding, user, 1.0)]
    features.append((made.item_weights, made.item_embedding, item, 1.0))
    if made.attributes is not None:
        for found in ATTRIBUTES[item]:
            share = 1 / len(ATTRIBUTES[item])
            features.append((made.attribute_weights, made.attribute_embedding, found, share))
    score = 0.0 if made.bias is None else float(made.bias)
    for weights, _, number, x in features:
        score += 0.0 if weights is None else float(weights.weight[number]) * x
    for (_, a, i, x), (_, b, j, y) in itertools.combinations(features, 2):
        score += sum(float(a.weight[i, k] * b.weight[j, k]) for k in range(3)) * x * y
    return score


@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("first_order", [False, True])
def test_scores_and_loss_are_those_of_a_loop(attributes, first_order):
    made = model(attributes, bias=first_order, linear=first_order)
    pairs = [(user, item) for user in range(3) for item in range(4)]
    users, items = torch.tensor(pairs).T
    expected = torch.tensor([literal(made, *pair) for pair in pairs], dtype=torch.float64)
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(made.score(users, items), expected, **close)
    torch.testing.assert_close(made.score(users, items, made.encode()), expected, **close)
    torch.testing.assert_close(made.score_all(torch.arange(3)).flatten(), expected, **close)
    labels = torch.tensor([1.0, 0, 0] * 4, dtype=torch.float64)
    loss = binary_cross_entropy(torch.sigmoid(expected), labels)
    torch.testing.assert_close(made.loss(PointwiseBatch(users, items, labels)), loss)


def test_attributes_are_pairs_of_relation_and_neighbour(dataset):
    made = LibFM.from_dataset(dataset, attributes=True)
    found = dataset.graph.neighborhood()
    pairs = {}
    for item in (0, 5, dataset.num_items - 1):
        entries = range(int(found.indptr[item]), int(found.indptr[item + 1]))
        own = made.attributes[made.offsets[item] : made.offsets[item + 1]].tolist()
        assert len(own) == len(entries) > 0
        for number, entry in zip(own, entries, strict=True):
            pair = int(found.relations[entry]), int(found.neighbors[entry])
            assert pairs.setdefault(number, pair) == pair
    rows = PointwiseBatch(dataset.val.users, dataset.val.items, dataset.val.labels)
    made.loss(rows).backward()
    assert all(parameter.grad.any() for parameter in made.parameters())


def test_settings_that_cannot_work():
    with pytest.raises(ConfigError, match=r"d: found 0, expected an integer >= 1"):
        LibFM(3, 4, d=0)
