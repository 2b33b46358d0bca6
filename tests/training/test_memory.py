import pytest
import torch
from conftest import Train, small

from kgrec.data.batches import PairwiseBatch, PointwiseBatch
from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.errors import ConfigError
from kgrec.models.bprmf import BPRMF
from kgrec.models.cke import CKE
from kgrec.models.controls import Popularity
from kgrec.models.kgcn.model import KGCN
from kgrec.models.lightgcn import LightGCN
from kgrec.training.memory import (
    RowBudget,
    check_memory,
    evaluation_batch_size,
    threads_for,
)


@pytest.fixture
def dataset():
    return paper(small(), RandomSplit())


def test_more_hops_and_neighbours_need_more_memory(dataset):
    items = dataset.train.items
    needs = [
        float(KGCN.from_dataset(dataset, K=K, H=H).bytes_per_row(items).mean())
        for K, H in ((2, 1), (4, 1), (4, 2), (8, 3))
    ]
    assert needs == sorted(needs)
    assert needs[-1] > 10 * needs[0]


def test_a_model_that_does_not_fit_even_in_pieces_is_refused(dataset, monkeypatch):
    model, items = KGCN.from_dataset(dataset, K=8, H=2), dataset.train.items
    device = torch.device("cpu")
    check_memory(model, items, 100, 1e9, device)
    monkeypatch.setattr("kgrec.training.memory.available_bytes", lambda _: 2**20)
    check_memory(model, items, 100, 2**16, device)  # in pieces it fits
    with pytest.raises(
        ConfigError, match=r"memory_budget: found .* lower memory_budget, batch_size, or .*model\.K"
    ):
        check_memory(model, items, 100, 1e9, device)


def batch(dataset, rows: int = 100) -> PointwiseBatch:
    draw = torch.Generator().manual_seed(0)
    users = torch.randint(dataset.num_users, (rows,), generator=draw)
    items = torch.randint(dataset.num_items, (rows,), generator=draw)
    return PointwiseBatch(users, items, torch.rand(rows, generator=draw).round())


def check_gradients(model, whole, pieces):
    """Checks that the gradients of the pieces add up to the gradient of the whole batch."""
    model.loss(whole).backward()
    expected = [p.grad for p in model.parameters()]
    model.zero_grad()
    for piece, share in pieces:
        (model.loss(*piece) * share).backward()
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("K", [3, "all"])
def test_pieces_are_within_the_budget_and_add_up(dataset, K):
    model = KGCN.from_dataset(dataset, K=K, H=2).double()
    whole = batch(dataset)
    needed = model.bytes_per_row(whole.items)
    budget = float(needed.sum()) / 7
    pieces = RowBudget(model, budget).cut((whole,))
    assert 7 <= len(pieces) <= 9
    assert sum(share for _, share in pieces) == pytest.approx(1)
    rows = [piece for (piece,), _ in pieces]
    for name in PointwiseBatch._fields:
        assert torch.equal(torch.cat([getattr(p, name) for p in rows]), getattr(whole, name))
    for piece in rows:
        assert model.bytes_per_row(piece.items).sum() <= budget + needed.max()
    check_gradients(model, whole, pieces)


@pytest.mark.parametrize("cls", [BPRMF, LightGCN])
def test_pairwise_batches_are_cut_too(dataset, cls):
    model = cls.from_dataset(dataset, d=8).double()
    users, items, _ = batch(dataset)
    whole = PairwiseBatch(users, items, items.flip(0))
    pieces = RowBudget(model, float(model.bytes_per_row(items).sum()) / 4).cut((whole,))
    assert len(pieces) in (4, 5)
    assert all(isinstance(piece, PairwiseBatch) for (piece,), _ in pieces)
    check_gradients(model, whole, pieces)


def test_batches_of_several_types_are_not_cut(dataset):
    model, whole = CKE.from_dataset(dataset, d=8), (batch(dataset), batch(dataset))
    budget = RowBudget(model, 1.0)
    assert budget.cut(whole) == [(whole, 1.0)]
    assert budget.pieces(dataset.train.items, 100) == 1


def test_a_propagation_counts_once_per_step(dataset):
    model, items = LightGCN.from_dataset(dataset, d=8), dataset.train.items
    whole, piece = RowBudget(model, 1.0).step_bytes(items, 100)
    rows = 100 * float(model.bytes_per_row(items)[0])
    assert whole == pytest.approx(model.fixed_bytes() + rows)
    assert model.fixed_bytes() < piece < whole
    large = LightGCN(138_159, 16_954, torch.arange(1), torch.arange(1), d=64)
    assert threads_for(large, items, 1024, cores=16) == 16


def test_a_step_within_the_budget_is_one_piece(dataset):
    whole = (batch(dataset),)
    assert RowBudget(KGCN.from_dataset(dataset), 1e12).cut(whole) == [(whole, 1.0)]


def test_the_smallest_budget_takes_rows_one_by_one(dataset):
    pieces = RowBudget(KGCN.from_dataset(dataset), 1.0).cut((batch(dataset),))
    assert [len(piece.items) for (piece,), _ in pieces] == [1] * 100


@pytest.mark.parametrize("optimizer", ["adam", "lazy_adam"])
def test_training_in_pieces_gives_the_same_metrics(optimizer, train: Train):
    whole = train(f"optimizer={optimizer}", folder="whole")
    pieces = train(f"optimizer={optimizer}", "memory_budget=200KB", folder="pieces")
    assert (whole.code, pieces.code) == (0, 0), pieces.out
    assert "pieces" in pieces.out
    assert pieces.metrics["test/auc"] == pytest.approx(whole.metrics["test/auc"], abs=2e-3)
    assert pieces.metrics["test/auc"] != 0.5


def test_small_steps_run_on_one_thread_and_large_ones_on_all(dataset, monkeypatch):
    monkeypatch.setattr("kgrec.training.memory.CORES", 6)
    model = KGCN.from_dataset(dataset, K=8, H=2)
    items = dataset.train.items.repeat(50)
    assert threads_for(model, items, 100) == 1
    assert threads_for(model, items, 10_000) == 6


def test_evaluation_takes_as_many_rows_as_fit(dataset):
    items = dataset.train.items
    model = KGCN.from_dataset(dataset, K=8, H=2)
    rows = evaluation_batch_size(model, items, budget=2**24)
    assert rows == pytest.approx(2**24 / float(model.bytes_per_row(items).mean()), abs=1)
    assert evaluation_batch_size(Popularity(40), items) == 65_536
    assert evaluation_batch_size(model, items, budget=1) == 64
