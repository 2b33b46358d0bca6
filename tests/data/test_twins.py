"""Synthetic twins: exact sizes, shapes like the real ones, truth that is there."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Train
from hypothesis import given, settings
from hypothesis import strategies as st

from kgrec.data.formats import FORMATS, recognise
from kgrec.data.prepare import prepare
from kgrec.data.synthetic.shapes import PROBABILITIES, SHAPES, draw_counts
from kgrec.data.synthetic.twins import synthetic, table1, write_twin
from kgrec.data.synthetic.weighted import draw_distinct
from kgrec.errors import ConfigError


def gini(counts: torch.Tensor) -> float:
    x = counts.double().sort().values
    n = len(x)
    return float((2 * torch.arange(1, n + 1) - n - 1).double() @ x / (n * x.sum()))


def test_the_shapes_are_table_1_of_the_paper():
    assert table1("movie") == {
        "users": 138159, "items": 16954, "positives": 13501622 // 2, "entities": 102569,
        "relations": 32, "triples": 499474,
    }  # fmt: skip
    assert tuple(table1("book").values()) == (19676, 20003, 172576 // 2, 25787, 18, 60787)
    assert tuple(table1("music").values()) == (1872, 3846, 42346 // 2, 9366, 60, 15518)
    assert (SHAPES["movie"].rows, SHAPES["movie"].raw_users) == (20_000_263, 138_493)


@pytest.mark.parametrize("like", ["music", pytest.param("book", marks=pytest.mark.slow)])
def test_a_twin_has_exact_sizes_and_a_shape_like_the_real_one(like, tmp_path):
    data = synthetic(like=like, data_dir=str(tmp_path), seed=3)
    assert data.counts() == table1(like) == data.published_counts
    # As measured on the public files.
    users, items = {"music": (0.19, 0.70), "book": (0.66, 0.63)}[like]
    assert gini(data.positives.user_degrees()) == pytest.approx(users, abs=0.05)
    assert gini(data.positives.item_degrees()) == pytest.approx(items, abs=0.08)
    degrees = data.graph.neighborhood().degrees[: data.positives.num_items]
    assert degrees.min() >= 1
    assert float((degrees < 8).double().mean()) > 0.85
    assert (data.graph.relations.bincount() > 0).all()


@pytest.mark.parametrize(
    ("like", "scale", "name"),
    [("movie", 1 / 32, "released_raw"), *(("music", 0.5, name) for name in FORMATS)],
)
def test_every_format_holds_the_same_twin(like, scale, name, tmp_path):
    write_twin(tmp_path / "twin", like, scale, name, seed=1)
    found = recognise(tmp_path / "twin")
    assert found.name == ("csv" if name == "parquet" else name)
    raw = found.read(tmp_path / "twin")
    assert not [what for what, _ in raw.counts if "not read" in what]
    shape = SHAPES[like].scaled(scale)
    data = prepare(raw, "twin", min_rating=shape.min_rating)
    assert tuple(data.counts().values()) == (
        shape.users, shape.items, shape.positives, shape.entities, shape.relations, shape.triples
    )  # fmt: skip
    if name not in ("released_final", "kgat"):
        assert raw.interactions.height == shape.rows
        assert raw.interactions.n_unique(["user", "item"]) == shape.rows
        assert raw.interactions["user"].n_unique() == shape.raw_users


def test_users_like_what_was_planted(tmp_path):
    """Among items that a user's archetype likes there are more of its positives."""
    write_twin(tmp_path / "twin", "music", 0.5, "csv", seed=1)
    users = pl.read_parquet(tmp_path / "twin" / "planted_users.parquet")
    preferences = pl.read_parquet(tmp_path / "twin" / "planted_preferences.parquet")
    assert preferences.group_by("archetype").len()["len"].unique().to_list() == [60]
    rows = pl.read_csv(tmp_path / "twin" / "interactions.csv", infer_schema=False)
    rows = rows.join(users, on="user")
    # Two users of one archetype agree more often than two of different ones.
    tops = rows["item"].value_counts(sort=True)["item"].head(20)
    rows = rows.filter(~pl.col("item").is_in(tops.implode()))
    shares = rows.group_by("archetype", "item").len()
    together = shares.select((pl.col("len") * (pl.col("len") - 1)).sum()).item()
    shuffled = rows.with_columns(archetype=pl.col("archetype").shuffle(seed=0))
    apart = shuffled.group_by("archetype", "item").len()
    apart = apart.select((pl.col("len") * (pl.col("len") - 1)).sum()).item()
    assert together > 1.25 * apart


def test_a_twin_is_reproducible_and_written_once(tmp_path):
    write_twin(tmp_path / "a", "music", 0.2, "recbole", seed=1)
    write_twin(tmp_path / "b", "music", 0.2, "recbole", seed=1)
    write_twin(tmp_path / "c", "music", 0.2, "recbole", seed=2)
    a, b, c = ((tmp_path / x / f"{x}.inter").read_bytes() for x in "abc")
    assert a == b != c
    folder = tmp_path / "music"
    synthetic(like="music", scale=0.2, data_dir=str(folder))
    (twin,) = [path for path in folder.iterdir() if path.is_dir()]
    before = (twin / "twin.json").stat().st_mtime_ns
    synthetic(like="music", scale=0.2, data_dir=str(folder))
    assert (twin / "twin.json").stat().st_mtime_ns == before
    (twin / "kg.txt").write_text("")  # half a file: it is written again
    assert len(synthetic(like="music", scale=0.2, data_dir=str(folder)).graph) > 0
    about = json.loads((twin / "twin.json").read_text())
    (twin / "twin.json").write_text(json.dumps(about | {"version": 0}))
    synthetic(like="music", scale=0.2, data_dir=str(folder))
    assert json.loads((twin / "twin.json").read_text()) == about


def test_a_folder_of_the_user_is_not_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="found a folder that is not empty, expected a new one"):
        write_twin(tmp_path / "mine", "music", 0.2, "csv", seed=1)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@given(
    st.lists(st.floats(0, 1e4), min_size=9, max_size=9).map(sorted),
    st.integers(1, 300),
    st.floats(0, 1),
    st.integers(0, 3),
)
@settings(deadline=None, max_examples=100, derandomize=True)
def test_counts_have_the_given_sum(quantiles, n, fullness, least):
    most = least + 50
    total = n * least + int(fullness * n * 50)
    counts = draw_counts(tuple(quantiles), n, total, least, most)
    assert counts.sum() == total
    assert counts.min() >= least
    assert counts.max() <= most


def test_counts_follow_their_quantiles():
    wanted = SHAPES["music"].per_user
    counts = draw_counts(wanted, 1872, 21173, 1, 1000)
    assert np.quantile(counts, PROBABILITIES) == pytest.approx(wanted, rel=0.1, abs=0.6)


def test_items_are_drawn_in_proportion_to_their_weights():
    weights = np.array([1.0, 2.0, 3.0, 4.0, 0.0])
    counts = np.full(20_000, 2)
    users, items = draw_distinct(
        counts, weights, (np.array([0, 0]), np.array([2, 3])), np.random.default_rng(0)
    )
    assert np.bincount(users).tolist() == counts.tolist()
    assert sorted(items[users == 0]) == [0, 1]  # the others were taken
    assert len(np.unique(users * 5 + items)) == len(items)
    # P(v among two drawn without replacement), worked out by hand for v = 0: first, or second
    # after any of the others.
    first = 0.1 + 0.2 * (1 / 8) + 0.3 * (1 / 7) + 0.4 * (1 / 6)
    assert (items == 0).mean() * 2 == pytest.approx(first, abs=0.01)
    assert not (items == 4).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"like": "games"}, r"dataset\.like: found 'games', expected one of movie, book, music"),
        ({"scale": 0}, r"dataset\.scale: found 0, expected a number above 0, at most 1"),
        ({"scale": 0.001}, r"dataset\.scale: found 0\.001, expected at least 0\.052"),
        ({"format": "xml"}, r"dataset\.format: found 'xml', expected one of released_final"),
    ],
)
def test_invalid_values_are_refused(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        synthetic(**{"like": "music", "data_dir": str(tmp_path)} | change)


def test_from_the_command_line(train: Train, tmp_path):
    run = train(
        "dataset=synthetic", "dataset.like=music", "dataset.scale=0.1", "dataset.format=kgat",
        "split=given", "protocol=clean", "epochs=1", "logger=csv", small=False,
    )  # fmt: skip
    assert run.code == 0, run.out
    assert 0 < run.metrics["test/auc"] < 1
    assert sorted(p.name for p in (tmp_path / "data").iterdir() if p.name[0] != ".") == [
        "cache", "synthetic-music-0.1-seed2019-kgat",
    ]  # fmt: skip
