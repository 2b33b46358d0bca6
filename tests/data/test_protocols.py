import pytest
import torch
from conftest import prepared, small

from kgrec.data.batches import Epochs
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.negatives import NegativeSampler
from kgrec.data.protocols import clean, paper
from kgrec.data.splits import TEST, TRAIN, VAL, RandomSplit, Rows
from kgrec.data.training_rows import PointwiseRows
from kgrec.errors import ConfigError, DataError


def pairs(users: torch.Tensor, items: torch.Tensor) -> set[tuple[int, int]]:
    return set(zip(users.tolist(), items.tolist(), strict=True))


def liked(dataset: RecDataset) -> dict[str, set[tuple[int, int]]]:
    found = {"train": pairs(dataset.train.users, dataset.train.items)}
    for name, rows in (("val", dataset.val), ("test", dataset.test)):
        keep = rows.labels > 0
        found[name] = pairs(rows.users[keep], rows.items[keep])
    return found


def disliked(rows) -> list[tuple[int, int]]:
    keep = rows.labels == 0
    return list(zip(rows.users[keep].tolist(), rows.items[keep].tolist(), strict=True))


def test_random_split_sizes():
    parts = RandomSplit((0.6, 0.2, 0.2))(range(101), torch.Generator().manual_seed(0))
    assert [(parts == p).sum().item() for p in (TRAIN, VAL, TEST)] == [61, 20, 20]


@pytest.mark.parametrize("ratios", [(0.5, 0.5), (1, 0, 0), (0.5, 0.4, 0.2)])
def test_split_ratios_must_make_sense(ratios):
    with pytest.raises(ConfigError, match=r"split\.ratios: found .*, expected three positive"):
        RandomSplit(ratios)


def test_no_positive_is_lost_or_doubled(data, dataset):
    parts = liked(dataset)
    assert sum(map(len, parts.values())) == len(data.positives)
    everything = pairs(data.positives.users, data.positives.items)
    assert set().union(*parts.values()) == everything


def test_negatives_are_items_that_are_not_positive(data, dataset):
    everything = pairs(data.positives.users, data.positives.items)
    assert data.graph.num_entities > data.positives.num_items  # so there is something to confuse
    for rows in (dataset.val, dataset.test):
        negatives = disliked(rows)
        assert negatives
        assert not set(negatives) & everything
        assert max(item for _, item in negatives) < dataset.num_items
        assert len(set(negatives)) == len(negatives)


def test_paper_balances_every_user_before_the_split(data):
    dataset = paper(data, RandomSplit())
    users = torch.cat([dataset.val.users, dataset.test.users, dataset.train.users])
    users = torch.cat([users, dataset.static_negatives[0]])
    assert torch.equal(torch.bincount(users), 2 * data.positives.user_degrees())


def test_clean_balances_every_user_within_each_split(data):
    dataset = clean(data, RandomSplit())
    for rows in (dataset.val, dataset.test, *dataset.matched.values()):
        positive = rows.labels > 0
        assert torch.equal(
            torch.bincount(rows.users[positive], minlength=60),
            torch.bincount(rows.users[~positive], minlength=60),
        )


def test_clean_matched_negatives_are_not_positive(data):
    dataset = clean(data, RandomSplit())
    everything = pairs(data.positives.users, data.positives.items)
    assert set(dataset.matched) == {"val", "test"}
    assert not set(disliked(dataset.matched["test"])) & everything


def test_paper_negatives_are_not_rated_at_all():
    rows = [("u", f"i{n}", 5.0) for n in range(4)] + [("u", f"i{n}", 1.0) for n in range(4, 8)]
    links = [(f"i{n}", f"e{n}") for n in range(12)]
    data = prepared(rows, links, [("e0", "r", "e1")], min_rating=3)
    dataset = paper(data, RandomSplit((0.4, 0.3, 0.3)))
    negatives = disliked(dataset.val) + disliked(dataset.test)
    negatives += pairs(*dataset.static_negatives)
    assert {item for _, item in negatives} == {8, 9, 10, 11}


@pytest.mark.parametrize("protocol", [paper, clean])
def test_a_user_who_rated_nearly_everything(protocol):
    rows = [("fan", f"i{n}", 1.0) for n in range(9)] + [(f"u{n}", f"i{n}", 1.0) for n in range(9)]
    data = prepared(rows, [(f"i{n}", f"e{n}") for n in range(10)], [("e0", "r", "e1")])
    dataset = protocol(data, RandomSplit())
    assert all(item == 9 for user, item in disliked(dataset.test) if user == 0)
    undrawn = [e.count for e in dataset.account.entries if "could not be drawn" in e.what]
    assert sum(undrawn) > 0
    epochs = Epochs([PointwiseRows(dataset.train)], 8, lambda: 0)
    assert sum(len(batch.users) for [((batch,), _)] in epochs) == epochs.num_rows


def test_too_few_rows_are_an_error():
    data = prepared([("u", "i0", 1.0)], [("i0", "e0"), ("i1", "e1")], [("e0", "r", "e1")])
    with pytest.raises(DataError, match=r"found 1 positives, too few to give the \w+ split a row"):
        clean(data, RandomSplit())


def given(data) -> tuple[torch.Tensor, torch.Tensor]:
    """A negative for every positive, one of them twice, and one positive among them."""
    users, items = NegativeSampler(data.positives).draw_distinct(
        data.positives.user_degrees(), torch.Generator().manual_seed(0)
    )
    odd_users = torch.stack([users[0], data.positives.users[0]])
    odd_items = torch.stack([items[0], data.positives.items[0]])
    return torch.cat([users, odd_users]), torch.cat([items, odd_items])


def test_given_negatives_are_used_under_paper_and_counted(data):
    negatives = given(data)
    object.__setattr__(data, "given_negatives", negatives)
    dataset = paper(data, RandomSplit())
    counts = {e.what: e.count for e in dataset.account.entries}
    n = len(data.positives)
    assert counts["negatives given in the files"] == n + 2
    assert counts["given negatives that are positives too, dropped"] == 1
    assert counts["further copies of a given negative, kept"] == 1
    used = disliked(dataset.val) + disliked(dataset.test)
    used += zip(*(t.tolist() for t in dataset.static_negatives), strict=True)
    assert sorted(used) == sorted(zip(*(t[:-1].tolist() for t in negatives), strict=True))
    counts = {e.what: e.count for e in clean(data, RandomSplit()).account.entries}
    assert counts["negatives given in the files, not used under clean"] == n + 2


def test_copies_of_a_given_negative_are_in_one_part(data):
    users, items = NegativeSampler(data.positives).draw_distinct(
        data.positives.user_degrees(), torch.Generator().manual_seed(0)
    )
    copied = (torch.cat([users, users[:100]]), torch.cat([items, items[:100]]))
    object.__setattr__(data, "given_negatives", copied)
    dataset = paper(data, RandomSplit())
    train = set(zip(*(t.tolist() for t in dataset.static_negatives), strict=True))
    val, test = set(disliked(dataset.val)), set(disliked(dataset.test))
    assert not train & val
    assert not train & test
    assert not val & test
    counts = {e.what: e.count for e in dataset.account.entries}
    assert counts["further copies of a given negative, kept"] == 100
    moved = "copies of a given negative, moved to the part (train, val, test) of the first copy"
    assert 20 < counts[moved] < 90
    # All positives stay in the part that the split gave them.
    rows = Rows(
        torch.cat([data.positives.users, copied[0]]), torch.cat([data.positives.items, copied[1]]),
        data.positives.num_users, data.positives.num_items,
    )  # fmt: skip
    parts = RandomSplit()(rows, generator(data.seed, "split"))[: len(data.positives)]
    expected = data.positives.take(parts == TRAIN)
    assert torch.equal(dataset.train.keys, expected.keys)


def test_the_account_is_logged_before_an_error(caplog):
    data = prepared([("u", "i0", 1.0)], [("i0", "e0"), ("i1", "e1")], [("e0", "r", "e1")])
    with caplog.at_level("INFO"), pytest.raises(DataError):
        clean(data, RandomSplit())
    assert "counted before the error:\n  items: items linked to an entity: 2" in caplog.text
    assert "split: train positives: 1" in caplog.text


@pytest.mark.parametrize("protocol", [paper, clean])
def test_held_out_rows_need_both_labels(protocol):
    rows = [(f"u{n}", f"i{m}", 1.0) for n in range(5) for m in range(4)]
    data = prepared(rows, [(f"i{m}", f"e{m}") for m in range(4)], [("e0", "r", "e1")])
    with pytest.raises(DataError, match="found only label 1 among the 4 val rows, expected pos"):
        protocol(data, RandomSplit())


def test_equal_seeds_give_equal_data_sets():
    first, again, other = (paper(small(seed), RandomSplit()) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint != other.fingerprint
