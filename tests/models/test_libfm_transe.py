import itertools

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from kgrec.data.batches import PointwiseBatch
from kgrec.errors import ConfigError
from kgrec.models.libfm_transe import LibFMTransE
from kgrec.models.transe_pretraining import train_transe


def model(**settings) -> LibFMTransE:
    torch.manual_seed(0)
    made = LibFMTransE(3, 4, d=3, transe_d=5, **settings).double().requires_grad_(False)
    for tensor in (*made.parameters(), made.transe):
        torch.nn.init.normal_(tensor)
    return made


def literal(made: LibFMTransE, user: int, item: int) -> float:
    """Eq. 1 of LibFM over all pairs of features: weight, vector and value of each."""
    none = torch.zeros(9, 1)
    w_user = none if made.user_weights is None else made.user_weights.weight
    w_item = none if made.item_weights is None else made.item_weights.weight
    w_transe = none[:, 0] if made.transe_weights is None else made.transe_weights
    features = [
        (float(w_user[user, 0]), made.user_embedding.weight[user].tolist(), 1.0),
        (float(w_item[item, 0]), made.item_embedding.weight[item].tolist(), 1.0),
    ]
    for f, x in enumerate(made.transe[item].tolist()):
        features.append((float(w_transe[f]), made.transe_factors[f].tolist(), x))
    score = 0.0 if made.bias is None else float(made.bias)
    score += sum(w * x for w, _, x in features)
    for (_, v, x), (_, other, y) in itertools.combinations(features, 2):
        score += sum(a * b for a, b in zip(v, other, strict=True)) * x * y
    return score


@pytest.mark.parametrize("first_order", [False, True])
def test_scores_and_loss_are_those_of_a_loop(first_order):
    made = model(bias=first_order, linear=first_order)
    pairs = [(user, item) for user in range(3) for item in range(4)]
    users, items = torch.tensor(pairs).T
    expected = torch.tensor([literal(made, *pair) for pair in pairs], dtype=torch.float64)
    close = {"rtol": 1e-9, "atol": 1e-12}
    torch.testing.assert_close(made.score(users, items), expected, **close)
    torch.testing.assert_close(made.score_all(torch.arange(3)).flatten(), expected, **close)
    labels = torch.tensor([1.0, 0, 0] * 4, dtype=torch.float64)
    loss = binary_cross_entropy(torch.sigmoid(expected), labels)
    torch.testing.assert_close(made.loss(PointwiseBatch(users, items, labels)), loss)


def test_the_vectors_are_those_of_transe_and_are_kept(dataset, tmp_path):
    torch.manual_seed(3)
    settings = {"transe_d": 6, "transe_epochs": 2, "held_out": 0.1, "cache": str(tmp_path)}
    made = LibFMTransE.from_dataset(dataset, **settings)
    made.precompute(dataset)
    trained = train_transe(dataset.graph, d=6, epochs=2, held_out=0.1, seed=3)
    assert torch.equal(made.transe, trained.entities[: dataset.num_items])
    assert made.precompute_metrics == {
        f"transe/{name}": value for name, value in trained.metrics.items()
    }
    assert {"transe/hits@10", "transe/mean_rank", "transe/loss"} <= set(made.precompute_metrics)
    scaled = LibFMTransE.from_dataset(dataset, **settings, transe_scale=0.1)
    scaled.precompute(dataset)
    torch.testing.assert_close(scaled.transe, 0.1 * made.transe)
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1
    again = LibFMTransE.from_dataset(dataset, **settings)
    again.precompute(dataset)
    assert torch.equal(again.transe, made.transe)
    assert again.precompute_metrics == made.precompute_metrics


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, r"d: found 0, expected an integer >= 1"),
        ({"transe_d": 0}, r"transe_d: found 0, expected an integer >= 1"),
        ({"transe_scale": 0}, r"transe_scale: found 0, expected a finite number >= 1e-06"),
        ({"transe_epochs": 0}, r"transe_epochs: found 0, expected an integer >= 1"),
        ({"held_out": 1}, r"held_out: found 1, expected a finite number >= 0 and < 1"),
        ({"held_out": "x"}, r"held_out: found 'x', expected a finite number"),
    ],
)
def test_settings_that_cannot_work(change, message, dataset):
    with pytest.raises(ConfigError, match=message):
        LibFMTransE.from_dataset(dataset, **change)
