import pytest
import torch

from kgrec.data.batches import Epochs, PairwiseBatch, PointwiseBatch, TripleBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.training_rows import PairwiseRows, PointwiseRows, TripleRows, training_rows


def pointwise(dataset: RecDataset, static: bool = False, ratio: int = 1) -> PointwiseRows:
    return PointwiseRows(dataset.train, dataset.static_negatives if static else None, ratio, seed=7)


def pairwise(dataset: RecDataset, static: bool = False, ratio: int = 1) -> PairwiseRows:
    return PairwiseRows(dataset.train, dataset.static_negatives if static else None, ratio, seed=7)


def pairs(users: torch.Tensor, items: torch.Tensor) -> list[tuple[int, int]]:
    return list(zip(users.tolist(), items.tolist(), strict=True))


def liked(dataset: RecDataset) -> dict[str, set[tuple[int, int]]]:
    held_out = {name: getattr(dataset, name) for name in ("val", "test")}
    found = {n: rows.take(rows.labels == 1) for n, rows in held_out.items()}
    return {n: set(pairs(rows.users, rows.items)) for n, rows in found.items()} | {
        "train": set(pairs(dataset.train.users, dataset.train.items))
    }


def disliked(rows: LabelledRows) -> list[tuple[int, int]]:
    kept = rows.take(rows.labels == 0)
    return pairs(kept.users, kept.items)


def test_length_and_rows(dataset):
    epochs = Epochs([pointwise(dataset, ratio=2)], 32, lambda: 3)
    batches = [batch for [((batch,), _)] in epochs]
    assert len(batches) == len(epochs)
    assert sum(len(b.users) for b in batches) == epochs.num_rows == 3 * len(dataset.train)
    assert sum(int(b.labels.sum()) for b in batches) == len(dataset.train)


def test_negatives_are_all_items_but_the_training_positives(dataset):
    source = pointwise(dataset)
    held_out = liked(dataset)["val"] | liked(dataset)["test"]
    drawn: set[tuple[int, int]] = set()
    for epoch in range(60):
        drawn |= set(disliked(source.rows(epoch)))
    assert not drawn & liked(dataset)["train"]
    assert drawn & held_out  # training does not know them
    assert max(item for _, item in drawn) < dataset.num_items


def test_epochs_differ_and_are_reproducible(dataset):
    source = pointwise(dataset)
    assert sorted(disliked(source.rows(1))) != sorted(disliked(source.rows(2)))
    assert torch.equal(source.rows(1).items, pointwise(dataset).rows(1).items)


def test_static_negatives_stay_and_only_the_order_changes(dataset):
    source = pointwise(dataset, static=True)
    first, second = source.rows(1), source.rows(2)
    assert sorted(disliked(first)) == sorted(disliked(second))
    static = zip(*(t.tolist() for t in dataset.static_negatives), strict=True)
    assert sorted(disliked(first)) == sorted(static)
    assert not torch.equal(first.items, second.items)


def test_the_epoch_is_read_with_the_first_batch(dataset):
    source = pointwise(dataset)
    epochs = Epochs([source], 32, lambda: 3)
    iterator = iter(epochs)
    epochs.epoch = lambda: 9
    [((batch,), _)] = next(iterator)
    assert torch.equal(batch.items, source.rows(9).items[:32])


def test_a_user_with_every_item_gets_no_negative():
    full = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), 2, 2)
    source = PointwiseRows(full)
    assert (source.undrawable, source.num_rows) == (2, 4)
    source = PairwiseRows(full)
    assert (source.undrawable, source.num_rows) == (2, 1)
    assert [column.tolist() for column in source.draw(0)] == [[1], [0], [1]]


@pytest.mark.parametrize("static", [False, True])
def test_every_positive_is_paired_with_a_negative_of_its_user(static, dataset):
    source = pairwise(dataset, static, ratio=2)
    users, positives, negatives = source.draw(0)
    own = set(dataset.static_negatives[0].tolist()) if static else set(range(dataset.num_users))
    expected = [pair for pair in liked(dataset)["train"] if pair[0] in own]
    assert sorted(pairs(users, positives)) == sorted(expected * 2)
    assert source.num_rows == len(users)
    assert source.undrawable == 2 * (len(dataset.train) - len(expected))
    assert not set(pairs(users, negatives)) & liked(dataset)["train"]


def test_static_negatives_of_pairs_are_the_given_ones(dataset):
    source, given = pairwise(dataset, static=True), set(pairs(*dataset.static_negatives))
    drawn = [pairs(users, negatives) for users, _, negatives in map(source.draw, range(40))]
    assert set().union(*drawn) == given
    assert drawn[0] != drawn[1]
    assert torch.equal(source.draw(1)[2], pairwise(dataset, static=True).draw(1)[2])


def graph() -> KnowledgeGraph:
    heads, relations, tails = torch.tensor([[0, 0, 0], [1, 1, 2], [2, 0, 3]]).T
    return KnowledgeGraph(heads, relations, tails, num_entities=50, num_relations=2)


def test_all_triples_are_used_before_any_is_used_again():
    source = TripleRows(graph(), num_rows=8)
    triples = list(zip(*(column.tolist() for column in source.draw(0)[:3]), strict=True))
    whole = {(0, 0, 0), (1, 1, 2), (2, 0, 3)}
    assert set(triples[:3]) == set(triples[3:6]) == whole
    assert len(triples) == 8
    assert set(triples) == whole
    assert not torch.equal(source.draw(0)[0], source.draw(1)[0])
    assert torch.equal(source.draw(1)[3], TripleRows(graph(), num_rows=8).draw(1)[3])


def test_one_end_of_a_triple_is_replaced():
    heads, _, tails, corrupted_heads, corrupted_tails = TripleRows(graph(), 4000).draw(0)
    head, tail = heads != corrupted_heads, tails != corrupted_tails
    assert not (head & tail).any()
    assert 0.45 < head.float().mean() < 0.52  # 49 of 50 draws differ
    assert 0.45 < tail.float().mean() < 0.52
    assert set(corrupted_heads[head].tolist()) == set(range(50))


def test_a_step_has_one_batch_of_each_kind(dataset):
    kinds = (PointwiseBatch, TripleBatch)
    sources = training_rows(kinds, dataset.train, dataset.graph, None, 1, 0)
    epochs = Epochs(sources, 32, lambda: 0, steps_per_call=3)
    steps = [step for call in epochs for step in call]
    assert len(steps) == epochs.num_steps
    for (first, second), weight in steps:
        assert weight == 1
        assert (type(first), type(second)) == kinds
        assert len(first.users) == len(second.heads) <= 32


@pytest.mark.parametrize("kinds", [(TripleBatch,), (PointwiseBatch, tuple)])
def test_unknown_kinds_are_refused(kinds, dataset):
    with pytest.raises(TypeError, match="expected a kind of interaction first"):
        training_rows(kinds, dataset.train, dataset.graph, None, 1, 0)


def test_pairs_are_the_first_kind_too(dataset):
    [source] = training_rows((PairwiseBatch,), dataset.train, dataset.graph, None, 1, 0)
    assert isinstance(source, PairwiseRows)
