"""Sums of table rows and their gradients against PyTorch's own, and against a loop."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from kgrec.models.lookup import Bags, rows_and_sums, weighted_sums

N, D = 11, 3


def bags(ragged: bool, weighted: bool, bag: int = 5) -> Bags:
    """Bags with repeated rows, an empty one among the ragged."""
    draw = torch.Generator().manual_seed(1)
    if ragged:
        sizes = torch.tensor([3, 0, 4, 1, 2])[:bag]
        rows = torch.randint(N, (int(sizes.sum()),), generator=draw)
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    else:
        rows, offsets = torch.randint(N, (bag, 4), generator=draw), None
    weights = torch.rand(rows.shape, generator=draw, dtype=torch.float64) if weighted else None
    return Bags(rows, offsets, weights)


def by_hand(table: torch.Tensor, found: Bags) -> torch.Tensor:
    """One read at a time."""
    if found.offsets is None:
        n, L = found.rows.shape
        ends = list(range(0, n * L + 1, L))
    else:
        ends = found.offsets.tolist()
    rows = found.rows.flatten()
    weights = torch.ones(len(rows)) if found.weights is None else found.weights.flatten()
    out = []
    for start, stop in itertools.pairwise(ends):
        total = torch.zeros(D, dtype=table.dtype)
        for j in range(start, stop):
            total = total + weights[j] * table[rows[j]]
        out.append(total)
    return torch.stack(out)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("num_rows", [N, 500])  # more reads than rows, and fewer
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("singles", [False, True])
@pytest.mark.parametrize("small", [0, 2**18])
def test_values_and_gradients_equal_a_loop(
    sparse, num_rows, ragged, weighted, singles, small, monkeypatch
):
    monkeypatch.setattr("kgrec.models.lookup.SMALL_TABLE", small)
    torch.manual_seed(0)
    table = torch.randn(num_rows, D, dtype=torch.float64, requires_grad=True)
    found = bags(ragged, weighted)
    rows = torch.tensor([4, 4, 0, N - 1]) if singles else None
    if weighted:
        found = found._replace(weights=found.weights.requires_grad_())
    single, sums = rows_and_sums(table, rows, found, sparse)
    expected = by_hand(table, found)
    torch.testing.assert_close(sums, expected)
    upstream = torch.randn_like(sums)
    loss, wanted = (sums * upstream).sum(), (expected * upstream).sum()
    if singles:
        torch.testing.assert_close(single, table[rows])
        g = torch.randn_like(single)
        loss, wanted = loss + (single * g).sum(), wanted + (table[rows] * g).sum()
    inputs = [table, found.weights] if weighted else [table]
    grads = torch.autograd.grad(loss, inputs)
    expected_grads = torch.autograd.grad(wanted, inputs)
    assert grads[0].is_sparse == sparse
    if sparse:
        assert grads[0].is_coalesced()
        touched = grads[0].indices()[0]
        assert (touched.diff() > 0).all()
        read_rows = (
            found.rows.flatten() if rows is None else torch.cat([rows, found.rows.flatten()])
        )
        assert set(touched.tolist()) == set(read_rows.tolist())
    for a, b in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(a.to_dense(), b)


@pytest.mark.parametrize("small", [0, 2**18])
def test_a_part_that_the_loss_leaves_out_gets_no_gradient(small, monkeypatch):
    monkeypatch.setattr("kgrec.models.lookup.SMALL_TABLE", small)
    table = torch.randn(N, D, requires_grad=True)
    single, _ = rows_and_sums(table, torch.tensor([1]), bags(False, False))
    single.sum().backward()
    assert torch.equal(table.grad.nonzero()[:, 0].unique(), torch.tensor([1]))
    table.grad = None
    rows_and_sums(table, torch.tensor([1]), bags(False, False))[1].sum().backward()
    assert table.grad.abs().sum() > 0


def test_without_gradients_it_is_embedding_bag():
    table, found = torch.randn(N, D), bags(True, False)
    expected = F.embedding_bag(
        found.rows, table, found.offsets, mode="sum", include_last_offset=True
    )
    assert torch.equal(weighted_sums(table, found), expected)
    with torch.no_grad():
        assert torch.equal(weighted_sums(table.requires_grad_(), found), expected)


def test_spread_repeats_the_value_of_a_bag_for_every_read():
    values = torch.tensor([10, 11, 12, 13, 14])
    assert bags(True, False).spread(values).tolist() == [10] * 3 + [12] * 4 + [13] + [14] * 2
    assert torch.equal(bags(False, False).spread(values), values[:, None].expand(5, 4))
