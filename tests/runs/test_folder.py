import json

import polars as pl
import pytest
import yaml
from conftest import Train

from kgrec.evaluation.collapse import SIGNS
from kgrec.evaluation.ranking import METRICS


def test_files_and_metrics_of_a_run(train: Train):
    run = train("protocol=paper", "negatives=static")
    assert run.code == 0, run.err
    found = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    # filelock may keep or delete the file of a lock.
    assert found - {"at_work.lock"} == {
        "config.yaml", "dataset.json", "environment.json", "metrics.json", "train.log",
        "status.json",
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "curves/version_0/metrics.csv",
        "evaluation/slices.json", "evaluation/samples.json",
        "evaluation/kgcn/rows.parquet", "evaluation/kgcn/users.parquet",
        "evaluation/popularity/rows.parquet", "evaluation/popularity/users.parquet",
        "evaluation/popularity_balance/rows.parquet", "evaluation/all_positive/rows.parquet",
        "inference/about.json", "inference/seen.parquet", "inference/triples.parquet",
        "ids/users.parquet", "ids/items.parquet", "ids/entities.parquet", "ids/relations.parquet",
    }  # fmt: skip
    signs = {f"collapsed/{sign}" for sign in SIGNS}  # such a short training may have none
    assert set(run.metrics) - signs == {
        "precompute/seconds",
        "train/epochs", "train/best_epoch", "train/seconds", "train/seconds_per_epoch",
        "train/rows_per_epoch", "train/peak_memory_gb",
        *(
            f"{prefix}{stage}/{name}"
            for prefix in ("", "all_positive/")
            for stage in ("val", "test")
            for name in ("auc", "f1", "f1_val_threshold", "accuracy", "log_loss")
        ),
        *(
            f"{prefix}{stage}/{name}"
            for prefix in ("popularity/", "popularity_balance/")
            for stage in ("val", "test")
            for name in ("auc", "f1_val_threshold")
        ),
        *(f"{m}val/threshold" for m in ("", "all_positive/", "popularity/", "popularity_balance/")),
        *(
            f"{prefix}test/{name}@{k}"
            for prefix in ("", "popularity/")
            for name in (
                *METRICS, "coverage", "popularity", "gini", "tied_users", "novelty", "diversity"
            )
            for k in (1, 2, 5, 10, 20)  # there are 40 items
            if (name, k) != ("diversity", 1)  # one item has no pairs
        ),
    }  # fmt: skip
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["dataset"]["seed"] == config["seed"] == 2019  # resolved
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["command"][0] == "train.py"
    assert {"torch", "pytorch-lightning", "hydra-core"} <= set(environment["packages"])
    dataset = json.loads((run.folder / "dataset.json").read_text())
    assert dataset["counts"]["users"] == 60
    assert len(dataset["fingerprint"]) == 16
    drawn = {"step": "protocol", "what": "negatives drawn before the split"}
    assert drawn | {"count": dataset["counts"]["positives"]} in dataset["account"]
    curves = pl.read_csv(run.folder / "curves" / "version_0" / "metrics.csv")
    assert curves["val/auc"].drop_nulls().len() == 2
    assert run.metrics["val/auc"] == pytest.approx(curves["val/auc"].max())


def test_the_log_has_what_the_terminal_showed(train: Train):
    run = train()
    log = (run.folder / "train.log").read_text()
    for text in (run.out, log):
        for part in ("popularity", "all_positive", "AUC", "F1 (val)", "epoch   2"):
            assert part in text
        assert "no conf/hparams/published/synthetic-kgcn.yaml" in text
        assert f"the results are in {run.folder}" in text


def test_clean_shows_matched_negatives_and_the_unseen_item(train: Train):
    run = train("protocol=clean")
    for name in ("", "popularity/", "unseen_item/", "all_positive/"):
        assert 0 <= run.metrics[f"{name}test/matched/auc"] <= 1
    assert "matched AUC" in run.out
    assert abs(run.metrics["popularity/test/matched/auc"] - 0.5) < abs(
        run.metrics["popularity/test/auc"] - 0.5
    )


def test_a_finished_run_is_not_overwritten(train: Train):
    first = train()
    before = (first.folder / "metrics.json").read_bytes()
    again = train("seed=1")
    assert again.code == 1
    assert "found a finished run in" in again.out
    assert (first.folder / "metrics.json").read_bytes() == before
