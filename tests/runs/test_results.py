"""What an evaluation leaves, from real runs on small data."""

import json
import math

import polars as pl
import pytest
import torch
from conftest import Train

from kgrec.evaluation.ctr import accuracy, auc, best_f1_threshold, f1, log_loss
from kgrec.evaluation.ranking import METRICS


def rows(run, model="kgcn"):
    return pl.read_parquet(run.folder / "evaluation" / model / "rows.parquet")


def users(run, model="kgcn"):
    return pl.read_parquet(run.folder / "evaluation" / model / "users.parquet")


@pytest.mark.parametrize("protocol", ["paper", "clean"])
def test_the_metrics_follow_from_the_kept_rows_and_users(train: Train, protocol):
    run = train(f"protocol={protocol}")
    assert run.code == 0, run.err
    for model, prefix in (("kgcn", ""), ("popularity", "popularity/")):
        kept = rows(run, model)
        scores = torch.from_numpy(kept["score"].to_numpy(writable=True))
        labels = torch.from_numpy(kept["label"].to_numpy(writable=True)).float()
        metrics = {k.removeprefix(f"{prefix}test/"): v for k, v in run.metrics.items()
                if k.startswith(f"{prefix}test/")}  # fmt: skip
        assert metrics["auc"] == auc(scores, labels)
        at = run.metrics[f"{prefix}val/threshold"]
        assert metrics["f1_val_threshold"] == f1(scores, labels, at)
        if model == "kgcn":
            assert metrics["f1"] == f1(scores, labels, 0.0)
            assert metrics["accuracy"] == accuracy(scores, labels, 0.0)
            assert metrics["log_loss"] == log_loss(scores, labels)
        for name in METRICS:
            for k in (1, 2, 5, 10, 20):
                mean = users(run, model)[f"{name}@{k}"].mean()
                assert metrics[f"{name}@{k}"] == pytest.approx(mean, abs=1e-12)
    assert users(run)["user"].to_list() == users(run, "popularity")["user"].to_list()
    assert set(rows(run)["user"]) >= set(users(run)["user"])  # raw ids, the same everywhere
    positives = rows(run).filter(pl.col("label") == 1).group_by("user").len().sort("user")
    assert users(run).sort("user")["test_positives"].to_list() == positives["len"].to_list()


def test_slices_are_kept_and_shown_for_the_model_and_its_controls(train: Train):
    run = train()
    slices = json.loads((run.folder / "evaluation" / "slices.json").read_text())
    assert {record["model"] for record in slices} >= {"kgcn", "popularity"}
    assert {record["by"] for record in slices} == {"user", "item"}
    assert all("recall@20" in r for r in slices if r["model"] == "kgcn")
    assert all("recall@20" not in r for r in slices if r["model"] == "all_positive")
    assert "user 11+" in run.out or "user 6-10" in run.out
    assert "ranking.ks: left out 50, 100, because there are 40 items" in run.out


def test_the_threshold_comes_from_validation(train: Train):
    run = train()
    kept = rows(run)
    scores = torch.from_numpy(kept["score"].to_numpy(writable=True))
    labels = torch.from_numpy(kept["label"].to_numpy(writable=True)).float()
    assert run.metrics["val/threshold"] != best_f1_threshold(scores, labels)


def test_an_epoch_can_be_chosen_by_a_ranking_metric(train: Train):
    run = train("monitor=val/ndcg@10", "epochs=4", "model.K=2", "optimizer.lr=0.05")
    assert run.code == 0, run.err
    curves = pl.read_csv(run.folder / "curves" / "version_0" / "metrics.csv")
    by_epoch = curves["val/ndcg@10"].drop_nulls().to_list()
    assert len(by_epoch) == 4
    assert run.metrics["train/best_epoch"] == by_epoch.index(max(by_epoch)) + 1
    assert run.metrics["val/ndcg@10"] == pytest.approx(max(by_epoch), abs=1e-6)
    assert "val/ndcg@10" in run.out
    assert "val/ndcg@10" not in train(folder="plain").metrics  # not ranked unless asked for


def test_ranking_can_be_left_out_or_done_the_released_way(train: Train):
    none = train("ranking=none", folder="none")
    assert none.code == 0, none.err
    assert not any("@" in key for key in none.metrics)
    assert not (none.folder / "evaluation" / "kgcn" / "users.parquet").exists()
    released = train("ranking=released", "ranking.ks=[5,10]", folder="released")
    full = train("ranking.ks=[5,10]", folder="full")
    assert released.metrics["test/recall@10"] != full.metrics["test/recall@10"]
    assert released.metrics["test/auc"] == full.metrics["test/auc"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["monitor=test/auc"], "monitor: found 'test/auc', expected a validation metric"),
        (["monitor=val/log_loss"], "monitor: found 'val/log_loss'"),
        (["monitor=val/recall@7"], "monitor: found 'val/recall@7'"),
        (["ranking.ks=[0]"], "ranking.ks: found [0], expected distinct integers >= 1"),
        (["ranking.ks=20"], "ranking.ks: found 20, expected distinct integers >= 1"),
        (["ranking.name=some"], "ranking.name: found 'some', expected one of full, none, released"),
        (["ranking.validation=2"], "ranking.validation: found 2, expected true or false"),
    ],
)
def test_mistakes_are_named(train: Train, overrides, message):
    run = train(*overrides)
    assert run.code == 1
    assert message in run.out + run.err


def test_a_ranking_without_users_is_logged(train: Train):
    run = train("split=cold_users", "protocol=clean", "ranking=released", "monitor=val/auc")
    assert run.code == 0, run.err
    assert "ranking: found no user to rank for (released)" in run.out
    assert not any("@" in key for key in run.metrics)


def test_a_model_that_has_diverged_is_an_error(train: Train):
    run = train("optimizer.lr=1e30")
    assert run.code == 1
    assert "diverged" in run.out + run.err


def test_no_metric_is_nan(train: Train):
    assert not any(math.isnan(value) for value in train("protocol=clean").metrics.values())


def test_clean_chooses_by_the_ranking_unless_nothing_is_ranked(train: Train):
    clean = train("protocol=clean", folder="clean")
    assert clean.code == 0, clean.err
    assert "val/ndcg@10" in clean.metrics
    assert "best val/ndcg@10 at epoch" in clean.out
    unranked = train("protocol=clean", "ranking=none", folder="unranked")
    assert unranked.code == 0, unranked.err
    assert "best val/auc at epoch" in unranked.out


def test_a_cutoff_beyond_the_catalogue_is_named_or_replaced(train: Train):
    few = "dataset.num_items=8", "dataset.positives_per_user=4", "dataset.num_users=40"
    given = train(*few, "monitor=val/recall@20")
    assert given.code == 1
    assert "monitor: found val/recall@20 for a catalogue of 8 items, expected one of" in given.out
    assert "Traceback" not in given.out + given.err
    default = train(*few, "protocol=clean", folder="default")
    assert default.code == 0, default.out
    assert "monitor: val/ndcg@5 instead of val/ndcg@10 for 8 items" in default.out
    ease = train(*few, "protocol=clean", "model=ease", folder="ease")
    assert ease.code == 0, ease.out
