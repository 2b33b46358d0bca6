"""Exact counts and known figures on the real files, where ``KGREC_DATA_DIR`` names them."""

import os
from pathlib import Path

import pytest
from conftest import ROOT
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from kgrec.data.protocols import clean, paper
from kgrec.data.splits import RandomSplit
from kgrec.evaluation.ctr import auc
from kgrec.models.controls import Popularity, PopularityBalance

COUNTS = {
    "movie": (138159, 16954, 6750811, 102569, 32, 499474),
    "music": (1872, 3846, 21173, 9366, 60, 15518),
    "book": (17860, 14967, 69873, 77903, 25, 151500),
}
HERE = Path(os.environ.get("KGREC_DATA_DIR", "/nonexistent"))


def load(name: str):
    needed = "ratings.csv" if name == "movie" else "."
    if not (HERE / name / needed).exists():
        pytest.skip(f"KGREC_DATA_DIR names no {name}")
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        overrides = [f"dataset={name}", "dataset.cache=null"]
        return instantiate(compose("train", overrides=overrides).dataset)


@pytest.mark.parametrize("name", COUNTS)
def test_counts(name):
    assert tuple(load(name).counts().values()) == COUNTS[name]


def test_copies_of_given_negatives_of_book_are_counted():
    dataset = paper(load("book"), RandomSplit())
    counts = {e.what: e.count for e in dataset.account.entries}
    assert counts["negatives given in the files"] == 69873
    assert counts["further copies of a given negative, kept"] == 153


def figure(kind, dataset) -> float:
    model = kind.from_dataset(dataset)
    model.precompute(dataset)
    rows = dataset.test
    return auc(model.score(rows.users, rows.items), rows.labels)


@pytest.mark.parametrize(("name", "alone", "both"), [("music", 0.795, 0.82), ("book", 0.746, 0.76)])
def test_popularity_and_the_leak_have_their_published_auc(name, alone, both):
    dataset = paper(load(name), RandomSplit())
    assert figure(Popularity, dataset) == pytest.approx(alone, abs=0.008)
    assert figure(PopularityBalance, dataset) == pytest.approx(both, abs=0.01)


@pytest.mark.parametrize("name", ["music", "book"])
def test_popularity_is_near_chance_against_matched_negatives(name):
    dataset = clean(load(name), RandomSplit())
    model = Popularity.from_dataset(dataset)
    model.precompute(dataset)
    rows = dataset.matched["test"]
    assert auc(model.score(rows.users, rows.items), rows.labels) == pytest.approx(0.5, abs=0.06)
