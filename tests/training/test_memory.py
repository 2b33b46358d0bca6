import pytest
import torch
from conftest import small

from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.errors import ConfigError
from kgrec.models.controls import Popularity
from kgrec.models.kgcn import KGCN
from kgrec.training.memory import check_memory, evaluation_batch_size, training_bytes


@pytest.fixture
def dataset():
    return paper(small(), RandomSplit())


def test_more_hops_and_neighbours_need_more(dataset):
    items = dataset.train.items
    needs = [
        training_bytes(KGCN.from_dataset(dataset, K=K, H=H), items, 100)
        for K, H in ((2, 1), (4, 1), (4, 2), (8, 3))
    ]
    assert needs == sorted(needs)
    assert needs[-1] > 10 * needs[0]


def test_a_batch_that_cannot_fit_says_what_to_lower(dataset, monkeypatch):
    model = KGCN.from_dataset(dataset, K=8, H=2)
    device = torch.device("cpu")
    check_memory(model, dataset.train.items, 100, device)
    monkeypatch.setattr("kgrec.training.memory.available_bytes", lambda _: 2**20)
    with pytest.raises(
        ConfigError, match=r"batch_size: found 100, .* lower batch_size, or .*model\.K"
    ):
        check_memory(model, dataset.train.items, 100, device)


def test_evaluation_takes_as_many_rows_as_fit(dataset):
    items = dataset.train.items
    model = KGCN.from_dataset(dataset, K=8, H=2)
    rows = evaluation_batch_size(model, items, budget=2**24)
    assert rows == pytest.approx(2**24 / float(model.bytes_per_row(items).mean()), abs=1)
    assert evaluation_batch_size(Popularity(40), items) == 65_536
    assert evaluation_batch_size(model, items, budget=1) == 64
