"""Weights of positives, from the column of a table to the rows of an epoch."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import Train, prepared, raw_tables, small
from files import CSV, write

from kgrec.data.account import Account
from kgrec.data.batches import Epochs, PairwiseBatch, PointwiseBatch
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.formats import recognise
from kgrec.data.interactions import Interactions
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean, paper
from kgrec.data.raw_tables import RawTables
from kgrec.data.splits import RandomSplit
from kgrec.data.training_rows import PairwiseRows, PointwiseRows, training_rows
from kgrec.data.weights import WeightedDraw, count_weights
from kgrec.errors import ConfigError, DataError

CPU = torch.device("cpu")
LINKS = [("x", "E1"), ("y", "E2")]
TRIPLES = [("E1", "r", "E2")]


def counts(data: PreparedData) -> dict[str, int]:
    return {entry.what: entry.count for entry in data.account.entries}


# ------------------------------------------------------------------ tables


def interactions(folder: Path, text: str, **columns: str) -> pl.DataFrame:
    write(folder, CSV | {"interactions.csv": text})
    return recognise(folder).read(folder, columns).interactions


def test_a_table_may_have_weights(tmp_path):
    rows = interactions(tmp_path, "user,item,weight\n1,c,2\n2,c,0.5\n")
    assert rows.rows() == [("1", "c", 2.0), ("2", "c", 0.5)]
    assert rows.schema["weight"] == pl.Float64
    rows = interactions(tmp_path, "user,item,plays\n1,c,2\n", weight="plays")
    assert rows.rows() == [("1", "c", 2.0)]
    rows = interactions(tmp_path, "user,item,rating,weight\n1,c,5,2\n")
    assert rows.columns == ["user", "item", "rating", "weight"]


def test_a_rating_may_be_called_weight(tmp_path):
    rows = interactions(tmp_path, "user,item,weight\n1,c,0\n", rating="weight")
    assert rows.rows(named=True) == [{"user": "1", "item": "c", "rating": 0.0}]


def test_parquet_tables_may_have_weights(tmp_path):
    write(tmp_path, {"triples.csv": CSV["triples.csv"]})
    frame = pl.DataFrame({"user": [1], "item": ["e1"], "weight": [3]})
    frame.write_parquet(tmp_path / "interactions.parquet")
    assert recognise(tmp_path).read(tmp_path).interactions["weight"].to_list() == [3.0]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("0", r"csv:3: found 0 in column weight, expected a number above 0 \(weight\)"),
        ("-2", r"csv:3: found -2 in column weight, expected a number above 0 \(weight\)"),
        ("", r"csv:3: found None, expected numbers \(weight\)"),
        ("inf", r"csv:3: found 'inf', expected numbers \(weight\)"),
        ("much", r"csv:3: found 'much', expected numbers \(weight\)"),
    ],
)
def test_a_value_that_is_no_weight_is_refused_by_line(tmp_path, cell, message):
    with pytest.raises(DataError, match=message):
        interactions(tmp_path, f"user,item,weight\n1,c,2\n2,c,{cell}\n")


def test_the_weight_of_a_negative_is_not_used(tmp_path):
    rows = interactions(tmp_path, "user,item,label,weight\n1,c,1,2\n2,c,0,0\n")
    assert rows.rows() == [("1", "c", 2.0)]


# ------------------------------------------------------------------ preparation


def weighted(*weights: float, **columns: list) -> RawTables:
    """Interactions of ann with x, bob with y, ann with x again, and ann with y."""
    rows = [("ann", "x", 5.0), ("bob", "y", 5.0), ("ann", "x", 1.0), ("ann", "y", 5.0)]
    raw = raw_tables(rows, LINKS, TRIPLES)
    more = {name: pl.Series(values) for name, values in columns.items()}
    frame = raw.interactions.with_columns(weight=pl.Series(weights, dtype=pl.Float64), **more)
    return replace(raw, interactions=frame)


def test_the_weights_of_repeats_are_added_up():
    data = prepare(weighted(2, 3, 0.5, 1), "test", weights="use")
    assert data.positives.keys.tolist() == [0, 1, 3]  # ann x, ann y, bob y
    assert data.weights.tolist() == [2.5, 1, 3]
    found = counts(data)
    assert found["positives with a weight other than 1 (weights from 1 to 3)"] == 2
    assert found["effective number of positives, (Σw)²/Σw²"] == round(6.5**2 / 16.25)


def test_an_interaction_that_is_no_positive_adds_no_weight():
    data = prepare(weighted(2, 3, 0.5, 1), "test", min_rating=4, weights="use")
    assert data.weights.tolist() == [2, 1, 3]


def test_repeats_are_counted():
    data = prepare(weighted(2, 3, 0.5, 1), "test", weights="repeats")
    assert data.weights.tolist() == [2, 1, 1]
    rows = [("ann", "x", 5.0), ("ann", "x", 5.0), ("bob", "y", 5.0)]
    assert prepared(rows, LINKS, TRIPLES, weights="repeats").weights.tolist() == [2, 1]


def test_interactions_of_another_part_add_no_weight():
    raw = weighted(2, 3, 0.5, 1, part=pl.Series([1, 0, 0, 0], dtype=pl.Int8))
    data = prepare(raw, "test", weights="use")
    assert data.given_parts.tolist() == [0, 0, 0]
    assert data.weights.tolist() == [0.5, 1, 3]


def test_weights_are_ignored_unless_they_are_asked_for():
    data = prepare(weighted(2, 3, 0.5, 1), "test")
    assert data.weights is None
    line = "weights of interactions in the files, not used (dataset.weights=use uses them)"
    assert counts(data)[line] == 4
    plain = raw_tables([("ann", "x", 5.0)], LINKS, TRIPLES)
    assert line not in counts(prepare(plain, "test"))


def test_the_sum_does_not_depend_on_the_order_of_the_rows():
    values = [0.1 * n + 1e-9 for n in range(1, 200)]
    sums = set()
    for order in (values, values[::-1], values[100:] + values[:100]):
        raw = raw_tables([("ann", "x", 5.0)] * len(order), LINKS, TRIPLES)
        rows = raw.interactions.with_columns(weight=pl.Series(order))
        data = prepare(replace(raw, interactions=rows), "test", weights="use")
        sums.add(data.weights.item())
    assert len(sums) == 1


def test_missing_and_impossible_weights_are_refused():
    raw = raw_tables([("ann", "x", 5.0)], LINKS, TRIPLES)
    with pytest.raises(DataError, match=r"found interactions without weights.*=repeats counts"):
        prepare(raw, "test", weights="use")
    with pytest.raises(ConfigError, match=r"dataset.weights: found 'yes', expected ignore or use"):
        prepare(raw, "test", weights="yes")
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(DataError, match=r"in interaction 2, expected a number above 0"):
            prepare(weighted(1, bad, 1, 1), "test", weights="use")


def test_the_effective_number_of_positives():
    def effective(*weights: float) -> int:
        account = Account()
        count_weights(torch.tensor(weights, dtype=torch.float64), account)
        return account.entries[-1].count

    assert effective(3, 3, 3, 3) == 4
    assert effective(1e200, 1, 1, 1) == 1
    assert effective(3, 1) == 2  # 16/10


# ------------------------------------------------------------------ splits


def with_weights(data: PreparedData) -> PreparedData:
    """Each positive has the weight 1 + its number in the list of positives."""
    return replace(data, weights=1.0 + torch.arange(len(data.positives), dtype=torch.float64))


@pytest.mark.parametrize("protocol", [paper, clean])
def test_training_positives_keep_their_weights(protocol):
    data = with_weights(small())
    dataset, plain = protocol(data, RandomSplit()), protocol(small(), RandomSplit())
    numbers = {key: n for n, key in enumerate(data.positives.keys.tolist())}
    expected = [1.0 + numbers[key] for key in dataset.train.keys.tolist()]
    assert dataset.train_weights.tolist() == expected
    assert plain.train_weights is None
    assert torch.equal(dataset.train.keys, plain.train.keys)
    assert torch.equal(dataset.test.items, plain.test.items)


def test_the_fingerprint_changes_with_the_weights_and_keeps_that_of_the_rows():
    data = with_weights(small())
    plain, one, again = (clean(d, RandomSplit()).fingerprint for d in (small(), data, data))
    other = clean(replace(data, weights=data.weights * 2), RandomSplit()).fingerprint
    assert one == again != other
    assert "+" not in plain
    assert one.partition("+")[0] == other.partition("+")[0] == plain


# ------------------------------------------------------------------ rows of an epoch


def drawn(weights: list[float], epochs: int, groups: torch.Tensor | None = None) -> torch.Tensor:
    """(epochs, n) how often each position is drawn."""
    draw = WeightedDraw(torch.tensor(weights, dtype=torch.float64), groups, seed=7)
    return torch.stack([draw(e, CPU).bincount(minlength=len(weights)) for e in range(epochs)])


def test_positions_are_drawn_floor_or_ceil_of_their_share_and_their_share_on_average():
    weights = [1.0, 6, 0.25, 2, 2, 1, 0.75]
    found = drawn(weights, 4000)
    share = torch.tensor(weights) * len(weights) / sum(weights)
    assert (found.sum(1) == len(weights)).all()
    assert ((found == share.floor()) | (found == share.ceil())).all()
    torch.testing.assert_close(found.double().mean(0), share.double(), atol=0.03, rtol=0)


def test_each_group_has_as_many_draws_as_positions():
    groups = torch.tensor([True, False, True, True, False])
    found = drawn([1, 100, 3, 2, 1], 50, groups)
    assert (found[:, groups].sum(1) == 3).all()
    assert (found[:, ~groups].sum(1) == 2).all()


def test_very_unequal_weights_are_drawn_without_a_position_too_many():
    found = drawn([1e-300, 1e300, 1, 5e-324, 1e300], 200)
    assert (found.sum(1) == 5).all()
    assert set(found[:, [1, 4]].unique().tolist()) == {2, 3}
    assert drawn([0.1] * 1000, 20).eq(1).all()


@pytest.fixture(params=[PointwiseBatch, PairwiseBatch], ids=["pointwise", "pairwise"])
def kind(request: pytest.FixtureRequest):
    return request.param


def source(kind, dataset: RecDataset, weights: torch.Tensor | None, **more):
    settings = {"static": None, "ratio": 1, "seed": 7} | more
    static, ratio, seed = settings["static"], settings["ratio"], settings["seed"]
    [rows] = training_rows(
        (kind,), dataset.train, dataset.graph, static, ratio, seed, weights
    )  # fmt: skip
    return rows


@pytest.mark.parametrize(("static", "ratio"), [(False, 1), (False, 2), (True, 1)])
def test_equal_weights_change_nothing(kind, static, ratio, dataset):
    more = {"static": dataset.static_negatives if static else None, "ratio": ratio}
    equal = torch.full((len(dataset.train),), 3.0, dtype=torch.float64)
    plain, weighted = source(kind, dataset, None, **more), source(kind, dataset, equal, **more)
    assert plain.num_rows == weighted.num_rows
    for epoch in range(3):
        for one, other in zip(plain.draw(epoch), weighted.draw(epoch), strict=True):
            assert torch.equal(one, other)


def heavy_first(dataset: RecDataset) -> torch.Tensor:
    """The first ten positives weigh 9, the others 1."""
    weights = torch.ones(len(dataset.train), dtype=torch.float64)
    weights[:10] = 9
    return weights


def test_heavy_positives_come_more_often_and_the_rows_stay_as_many(kind, dataset):
    weights = heavy_first(dataset)
    rows = source(kind, dataset, weights, ratio=2)
    plain = source(kind, dataset, None, ratio=2)
    assert rows.num_rows == plain.num_rows
    share = len(weights) / float(weights.sum())
    total = torch.zeros(len(weights), dtype=torch.int64)
    for epoch in range(40):
        users, items, third = rows.draw(epoch)
        assert len(users) == rows.num_rows
        assert not dataset.train.contains(users, third if kind is PairwiseBatch else items)[
            slice(None) if kind is PairwiseBatch else third == 0
        ].any()
        if kind is PointwiseBatch:  # as many negatives of a user as ratio times its positives
            size = dataset.num_users
            liked, disliked = (users[third == x].bincount(minlength=size) for x in (1, 0))
            assert torch.equal(disliked, 2 * liked)
            users, items = users[third == 1], items[third == 1]
        keys = users * dataset.num_items + items
        total += torch.searchsorted(dataset.train.keys, keys).bincount(minlength=len(weights))
    per_epoch = total / 40 / (2 if kind is PairwiseBatch else 1)
    torch.testing.assert_close(per_epoch[:10].mean().item(), 9 * share, rtol=0.05, atol=0)
    torch.testing.assert_close(per_epoch[10:].mean().item(), share, rtol=0.05, atol=0)


def test_a_draw_depends_on_seed_and_epoch_alone(kind, dataset):
    weights = heavy_first(dataset)
    first, again = source(kind, dataset, weights), source(kind, dataset, weights)
    first.draw(0)  # a resumed run has not drawn the epochs before
    other = source(kind, dataset, weights, seed=8)

    def positives(rows, epoch: int) -> list[int]:
        users, items, third = rows.draw(epoch)
        mask = torch.ones_like(users, dtype=torch.bool) if kind is PairwiseBatch else third == 1
        return sorted((users[mask] * dataset.num_items + items[mask]).tolist())

    assert all(map(torch.equal, first.draw(3), again.draw(3)))
    assert positives(first, 3) != positives(first, 4)
    assert positives(first, 3) != positives(other, 3)


def test_users_with_every_item_do_not_change_the_number_of_rows():
    full = Interactions.from_pairs(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 1]), 3, 2)
    weights = torch.tensor([1.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    pointwise = PointwiseRows(full, weights=weights)
    assert (pointwise.undrawable, pointwise.num_rows) == (2, 6)
    pairwise = PairwiseRows(full, weights=weights)
    assert (pairwise.undrawable, pairwise.num_rows) == (2, 2)
    for epoch in range(20):
        assert len(pointwise.draw(epoch)[0]) == 6
        assert len(pairwise.draw(epoch)[0]) == 2
        assert 0 not in pairwise.draw(epoch)[0]


def test_processes_share_one_weighted_epoch(dataset):
    weights = heavy_first(dataset)

    def steps(rank: int, size: int) -> list:
        rows = source(PointwiseBatch, dataset, weights)
        epochs = Epochs([rows], 32, lambda: 2, place=lambda: (rank, size))
        return [batch for [((batch,), _)] in epochs]

    for whole, first, second in zip(steps(0, 1), steps(0, 2), steps(1, 2), strict=True):
        assert torch.equal(whole.items, torch.cat([first.items, second.items]))


# ------------------------------------------------------------------ runs


def shop(folder: Path) -> None:
    rows = [
        f"u{u},i{(u * 3 + n * n) % 12},{1 + (u + n) % 4}\n" for u in range(30) for n in range(7)
    ]
    triples = [f"i{i},of,k{i % 3}\n" for i in range(12)]
    write(folder, {"interactions.csv": "user,item,weight\n" + "".join(rows),
                   "triples.csv": "head,relation,tail\n" + "".join(triples)})  # fmt: skip


@pytest.mark.slow
def test_a_run_uses_the_weights_and_resumes_with_them(train: Train, tmp_path):
    shop(tmp_path / "shop")
    place = ["dataset=custom", f"dataset.root={tmp_path}/shop", "logger=csv"]

    def run(folder: str, *settings: str):
        return train(*place, *settings, folder=folder, small=False)

    plain = run("plain", "epochs=2")
    weighted = run("weighted", "epochs=2", "dataset.weights=use")
    half = run("half", "epochs=1", "dataset.weights=use")
    last = f"ckpt_path={half.folder}/checkpoints/last.ckpt"
    resumed = run("resumed", "epochs=2", "dataset.weights=use", last)
    assert [r.code for r in (plain, weighted, half, resumed)] == [0] * 4
    assert "positives with a weight other than 1" in weighted.out
    assert resumed.metrics["val/auc"] == weighted.metrics["val/auc"]
    assert weighted.metrics["val/auc"] != plain.metrics["val/auc"]
    assert weighted.metrics["popularity/test/auc"] == plain.metrics["popularity/test/auc"]
    refused = run("refused", "epochs=2", "dataset.weights=repeats", last)
    assert refused.code == 1
    assert "found dataset.weights 'use' in the checkpoint, expected 'repeats'" in refused.out
    ease = run("ease", "model=ease", "dataset.weights=use")
    assert ease.code == 0
    assert "counts every positive once" in ease.out
