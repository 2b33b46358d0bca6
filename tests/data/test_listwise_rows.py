"""Rows with lists of negatives: sampled, and those of the batch."""

import math
from functools import partial

import pytest
import torch
from conftest import small

from kgrec.data.batches import Epochs, ListwiseBatch, PairwiseBatch, PointwiseBatch
from kgrec.data.datamodule import KGDataModule
from kgrec.data.listwise_rows import InBatchRows, ListwiseRows, SharedRows
from kgrec.data.popularity_sampler import PopularitySampler
from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.data.training_rows import PairwiseRows, PointwiseRows
from kgrec.errors import ConfigError


@pytest.fixture
def dataset():
    return paper(small(), RandomSplit())


def pairs(users: torch.Tensor, items: torch.Tensor) -> list[tuple[int, int]]:
    return list(zip(users.tolist(), items.tolist(), strict=True))


@pytest.mark.parametrize("sampler", [None, partial(PopularitySampler, power=0.7)])
def test_each_positive_has_its_own_list(dataset, sampler):
    train = dataset.train
    rows = ListwiseRows(train, 5, 0, **({} if sampler is None else {"sampler": sampler}))
    batches = list(rows.batches(0, 32))
    users, positives, negatives, log_q = (torch.cat(c) for c in zip(*batches, strict=True))
    assert sorted(pairs(users, positives)) == pairs(train.users, train.items)
    assert negatives.shape == log_q.shape == (len(train), 5)
    assert not train.contains(users.repeat_interleave(5), negatives.flatten()).any()
    row, item = 7, int(negatives[7, 2])
    own = set(train.items[train.users == users[row]].tolist())
    free = [i for i in range(40) if i not in own]
    weights = dict.fromkeys(free, 1.0)
    if sampler is not None:
        weights = {i: float(train.item_degrees()[i]) ** 0.7 for i in free}
    q = weights[item] / sum(weights.values())
    assert float(log_q[row, 2]) == pytest.approx(math.log(5 * q), abs=1e-5)
    assert all(batch.shared() is None for batch in batches)


def test_lists_are_drawn_again_in_each_epoch_and_alike_when_repeated(dataset):
    def negatives(epoch: int) -> torch.Tensor:
        rows = ListwiseRows(dataset.train, 3, 0)
        return torch.cat([batch.negatives for batch in rows.batches(epoch, 50)])

    assert torch.equal(negatives(1), negatives(1))
    assert not torch.equal(negatives(0), negatives(1))


@pytest.mark.parametrize("weighted", [False, True])
def test_negatives_in_the_batch(dataset, weighted):
    train = dataset.train
    weights = torch.arange(1, len(train) + 1).double() if weighted else None
    batch = next(InBatchRows(train, 1, 0, weights).batches(0, 40))
    shared = batch.shared()
    assert torch.equal(shared, batch.positives)
    assert batch.negatives.shape == batch.log_q.shape == (40, 40)
    counts = torch.ones(len(train)).double() if weights is None else weights
    share = torch.zeros(40).double().index_add_(0, train.items, counts) / counts.sum()
    for row in range(40):
        for column in range(40):
            user, i, j = (int(c) for c in (batch.users[row], shared[row], shared[column]))
            correction = float(batch.log_q[row, column])
            if (user, j) in pairs(train.users, train.items):
                assert correction == math.inf
            else:
                expected = math.log(share[j]) - math.log(share[i])
                assert correction == pytest.approx(expected, abs=1e-5)
    assert batch.log_q.isinf().sum() > 40  # more than the diagonal


def test_processes_and_pieces_get_rows_of_the_whole_list(dataset):
    whole = next(iter(Epochs([InBatchRows(dataset.train)], 40, lambda: 0)))[0].batches[0]
    parts = [
        next(iter(Epochs([InBatchRows(dataset.train)], 40, lambda: 0, 1, lambda r=r: (r, 2))))[0]
        for r in (0, 1)
    ]
    for name in ListwiseBatch._fields:
        both = torch.cat([getattr(part.batches[0], name) for part in parts])
        assert torch.equal(both, getattr(whole, name))
    for part in parts:
        assert part.weight == 1
        assert torch.equal(part.batches[0].shared(), whole.shared())


@pytest.mark.parametrize("kind", [PointwiseRows, PairwiseRows])
def test_pairs_and_points_take_popular_negatives(dataset, kind):
    train = dataset.train
    rows = kind(train, ratio=3, sampler=partial(PopularitySampler, power=3.0))
    columns = rows.draw(0)
    if kind is PointwiseRows:
        users, items, labels = columns
        users, items = users[labels == 0], items[labels == 0]
    else:
        users, _, items = columns
    assert len(users) == 3 * len(train)
    assert not train.contains(users, items).any()
    degrees = train.item_degrees().float()
    assert degrees[items].mean() > 1.3 * degrees.mean()


def module(dataset, **settings) -> KGDataModule:
    return KGDataModule(dataset, 64, 64, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"negatives": "near"}, "negatives.name: found 'near', expected one of in_batch, pop"),
        ({"negatives": "in_batch", "kinds": (PairwiseBatch,)}, "only loss=softmax takes"),
        ({"negatives": "in_batch", "kinds": (PointwiseBatch,)}, "only loss=softmax takes"),
        (
            {"negatives": "static", "kinds": (ListwiseBatch,)},
            "expected resampled, popularity, in_batch",
        ),
        ({"negatives": "in_batch", "ratio": 2, "kinds": (ListwiseBatch,)}, "expected 1"),
        ({"negatives": "popularity", "power": -1}, "negatives.power: found -1, expected a number"),
    ],
)
def test_negatives_that_cannot_work_are_refused(dataset, settings, message):
    with pytest.raises(ConfigError, match=message):
        module(dataset, **settings)


def test_the_data_module_makes_lists(dataset):
    kinds = (ListwiseBatch,)
    in_batch = module(dataset, negatives="in_batch", kinds=kinds).train_batches.sources[0]
    popular = module(dataset, negatives="popularity", ratio=4, kinds=kinds, power=0.5)
    assert isinstance(in_batch, InBatchRows)
    batch = next(iter(popular.train_batches))[0].batches[0]
    assert batch.negatives.shape == (64, 4)


@pytest.mark.parametrize("among", [None, torch.tensor([1, 3, 4, 9, 20])])
def test_shared_negatives_are_uniform_and_leave_out_positives(dataset, among):
    rows = SharedRows(dataset.train, 4000, 0, among=among)
    users, positives, negatives, log_q = next(rows.batches(0, 30))
    pool = torch.arange(dataset.num_items) if among is None else among
    shared = ListwiseBatch(users, positives, negatives, log_q).shared()
    assert shared is not None
    assert negatives.shape == (30, 4000)
    drawn, counts = torch.unique(shared, return_counts=True)
    assert torch.equal(drawn, pool)
    expected = 4000 / len(pool)
    assert float(((counts - expected) ** 2 / expected).sum()) < 2 * len(pool) + 20  # chi-square
    is_positive = dataset.train.contains(
        users[:, None].expand_as(negatives).flatten(), negatives.flatten()
    ).view(negatives.shape)
    assert is_positive.any()
    assert torch.equal(log_q.isinf(), is_positive)
    torch.testing.assert_close(
        log_q[~is_positive], torch.full_like(log_q[~is_positive], math.log(4000 / len(pool)))
    )
    again = next(rows.batches(1, 30)).negatives[0]
    assert not torch.equal(again, shared)
    assert torch.equal(next(rows.batches(0, 30)).negatives[0], shared)


def test_negatives_of_trained_items_alone(dataset):
    trained = set(dataset.train.items.tolist())
    assert len(trained) < dataset.num_items
    for settings in ({"negatives": "resampled"}, {"negatives": "shared", "ratio": 300}):
        kinds = (ListwiseBatch,) if settings["negatives"] == "shared" else (PointwiseBatch,)
        drawn = {}
        for items in ("catalogue", "trained"):
            data = KGDataModule(dataset, 50, 50, kinds=kinds, items=items, **settings)
            batches = [step.batches[0] for call in data.train_batches for step in call]
            columns = [
                batch.negatives.flatten() if len(kinds[0]._fields) == 4
                else batch.items[batch.labels == 0]
                for batch in batches
            ]  # fmt: skip
            drawn[items] = set(torch.cat(columns).tolist())
        assert drawn["trained"] <= trained
        assert not drawn["catalogue"] <= trained
    with pytest.raises(ConfigError, match=r"negatives.items: found 'all', expected one of catal"):
        KGDataModule(dataset, 50, 50, items="all")
    with pytest.raises(ConfigError, match="found 'shared', expected resampled"):
        KGDataModule(dataset, 50, 50, negatives="shared", ratio=3)
