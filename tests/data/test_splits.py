import dataclasses

import pytest
import torch
from conftest import raw_tables, small
from hypothesis import given, settings
from hypothesis import strategies as st

from kgrec.data.batches import PairwiseBatch, PointwiseBatch
from kgrec.data.datamodule import KGDataModule
from kgrec.data.draws import generator
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean, paper
from kgrec.data.splits import (
    TEST,
    TRAIN,
    VAL,
    ColdItems,
    ColdUsers,
    Given,
    LeaveOneOut,
    RandomSplit,
    Rows,
    Temporal,
)
from kgrec.errors import ConfigError, DataError

GEN = generator(0, "split")


@st.composite
def rows(draw) -> Rows:
    n = draw(st.integers(3, 60))
    users = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    items = draw(st.lists(st.integers(0, 7), min_size=n, max_size=n))
    times = draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    parts = draw(st.lists(st.sampled_from([TRAIN, TEST]), min_size=n, max_size=n))
    return Rows(
        torch.tensor(users), torch.tensor(items), 6, 8,
        torch.tensor(times, dtype=torch.float64), torch.tensor(parts),
    )  # fmt: skip


@given(rows())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_nothing_in_the_past_is_tested(rows):
    parts = Temporal()(rows, generator(0, "split"))
    for early, late in ((TRAIN, VAL), (VAL, TEST), (TRAIN, TEST)):
        if (parts == early).any() and (parts == late).any():
            assert rows.times[parts == early].max() <= rows.times[parts == late].min()
    assert (parts == VAL).sum() == int(len(rows) * 0.2) == (parts == TEST).sum()


@given(rows())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_nothing_in_a_user_s_past_is_tested(rows):
    parts = Temporal(scope="user")(rows, generator(0, "split"))
    for user in range(6):
        own, times = parts[rows.users == user], rows.times[rows.users == user]
        assert (own == VAL).sum() == int(len(own) * 0.2) == (own == TEST).sum()
        for early, late in ((TRAIN, VAL), (VAL, TEST), (TRAIN, TEST)):
            if (own == early).any() and (own == late).any():
                assert times[own == early].max() <= times[own == late].min()


@given(rows(), st.sampled_from(["time", "random"]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_one_row_is_left_out_of_each_user_with_three(rows, by):
    parts = LeaveOneOut(by)(rows, generator(0, "split"))
    for user in range(6):
        own, times = parts[rows.users == user], rows.times[rows.users == user]
        one = int(len(own) >= 3)
        assert (own == TEST).sum() == one == (own == VAL).sum()
        if one and by == "time":
            assert times[own == TEST] == times.max()
            assert times[own == VAL] >= times[own == TRAIN].max()


@given(rows())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_cold_ones_have_no_other_part(rows):
    for split, owners, size in ((ColdItems(), rows.items, 8), (ColdUsers(), rows.users, 6)):
        parts = split(rows, generator(0, "split"))
        present = len(owners.unique())
        for owner in range(size):
            assert len(parts[owners == owner].unique()) <= 1
        for part in (VAL, TEST):
            assert len(owners[parts == part].unique()) == int(present * 0.2)


@given(rows())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_given_parts_are_kept_and_validation_is_carved_from_training(rows):
    parts = Given(val_ratio=0.25)(rows, generator(0, "split"))
    assert torch.equal(parts == TEST, rows.given == TEST)
    assert (parts == VAL).sum() == int((rows.given == TRAIN).sum() * 0.25)
    with_val = Rows(rows.users, rows.items, 6, 8, None, torch.arange(len(rows)) % 3)
    assert torch.equal(Given()(with_val, generator(0, "split")), with_val.given)


def test_ties_in_time_are_broken_by_the_seed_and_not_by_the_user():
    n = 1000
    same = Rows(torch.arange(n), torch.zeros(n).long(), n, 1, torch.zeros(n).double())
    parts = Temporal()(same, generator(0, "split"))
    tested = torch.nonzero(parts == TEST).squeeze(1).double()
    assert abs(tested.mean() - n / 2) < 60  # in the order of the users it would be 900
    assert torch.equal(parts, Temporal()(same, generator(0, "split")))
    assert not torch.equal(parts, Temporal()(same, generator(1, "split")))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSplit([0.5, 0.5]), r"split\.ratios: found \[0\.5, 0\.5\], expected three"),
        (lambda: Temporal([1, 0, 0]), r"split\.ratios: found"),
        (lambda: ColdItems([0.6, 0.6, 0.2]), r"split\.ratios: found"),
        (lambda: Temporal(scope="both"), r"split\.scope: found 'both', expected global or user"),
        (lambda: LeaveOneOut("luck"), r"split\.by: found 'luck', expected time or random"),
        (lambda: Given(0), r"split\.val_ratio: found 0, expected a share from 0 to 1"),
    ],
)
def test_invalid_values_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


# ------------------------------------------------------------------ with the protocols


def timed(parts: bool = False):
    """30 users, each with 12 of 40 items at rising times."""
    ratings = [(f"u{u}", f"i{(7 * u + k) % 40}", 5.0) for u in range(30) for k in range(12)]
    links = [(f"i{i}", f"e{i}") for i in range(40)]
    raw = raw_tables(ratings, links, [(f"e{i}", "r", f"a{i % 3}") for i in range(40)])
    import polars as pl

    columns = {"timestamp": pl.Series(range(len(ratings)), dtype=pl.Float64)}
    if parts:
        columns["part"] = pl.Series([0 if k % 12 < 9 else 2 for k in range(len(ratings))]).cast(
            pl.Int8
        )
    rows = raw.interactions.with_columns(**columns)
    return prepare(dataclasses.replace(raw, interactions=rows), "toy")


@pytest.mark.parametrize(
    "split", [Temporal(), Temporal(scope="user"), LeaveOneOut(), ColdItems(), ColdUsers()]
)
def test_every_split_makes_a_data_set_under_clean(split):
    dataset = clean(timed(), split)
    sizes = [len(dataset.train), len(dataset.val), len(dataset.test)]
    assert min(sizes) > 0
    held_out = int(dataset.val.labels.sum() + dataset.test.labels.sum())
    assert len(dataset.train) + held_out == 360


def test_negatives_of_cold_items_are_cold_items():
    dataset = clean(timed(), ColdItems())
    seen = dataset.train.item_degrees() > 0
    for rows in (dataset.val, dataset.test):
        assert not seen[rows.items].any()
        liked = rows.labels > 0
        assert set(rows.items[~liked].tolist()) <= set(rows.items[liked].tolist())
    counts = {e.what: e.count for e in dataset.account.entries}
    assert counts["test items (its negatives are drawn from them)"] == 8


@pytest.mark.parametrize("negatives", ["resampled", "static"])
@pytest.mark.parametrize("kind", [PointwiseBatch, PairwiseBatch])
@pytest.mark.parametrize("protocol", [paper, clean])
def test_no_cold_item_is_a_training_negative(protocol, kind, negatives):
    dataset = protocol(timed(), ColdItems())
    module = KGDataModule(dataset, 64, 64, negatives, kinds=(kind,))
    _, *items = module.train_batches.sources[0].draw(0)
    trained = torch.cat(items if kind is PairwiseBatch else items[:1])
    held_out = torch.cat([dataset.val.items, dataset.test.items])
    assert len(torch.unique(trained)) > 10
    assert not torch.isin(trained, held_out).any()
    assert torch.isin(dataset.train.items, trained).all()


def test_items_apart_change_the_fingerprint_of_their_split_alone():
    cold, random = clean(timed(), ColdItems()), clean(timed(), RandomSplit())
    assert (cold.items_apart, random.items_apart) == (True, False)
    assert cold.fingerprint != dataclasses.replace(cold, items_apart=False).fingerprint
    assert random.training_items is random.candidate_items("test") is None
    assert random.num_candidates == random.num_items


@pytest.mark.parametrize("split", [RandomSplit(), ColdItems(), ColdUsers()])
def test_splits_that_need_nothing_work_under_paper(split):
    dataset = paper(timed(), split)
    assert min(len(dataset.train), len(dataset.val), len(dataset.test)) > 0


@pytest.mark.parametrize("split", [Temporal(), LeaveOneOut()])
def test_negatives_have_no_time(split):
    with pytest.raises(ConfigError, match=r"protocol: found paper, .*goes by times, .*=clean"):
        paper(timed(), split)


def test_given_splits_ask_for_split_given_and_protocol_clean():
    data = timed(parts=True)
    for protocol, split in ((paper, RandomSplit()), (paper, Given()), (clean, RandomSplit())):
        with pytest.raises(ConfigError, match="expected"):
            protocol(data, split)
    dataset = clean(data, Given())
    assert int(dataset.test.labels.sum()) == 90
    assert int(dataset.val.labels.sum()) == 27


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Temporal(), "found interactions without timestamps, expected them for split=temporal"),
        (LeaveOneOut(), "without timestamps, expected them for split=leave_one_out"),
        (Given(), "found interactions without a given split, expected them for split=given"),
    ],
)
def test_a_split_needs_its_columns(split, message):
    with pytest.raises(DataError, match=message):
        clean(small(), split)
