"""Finding a finished run, and what its folder must have."""

import json
import os
import shutil

import polars as pl
import pytest
import torch
from conftest import Train, Trained

import kgrec
from kgrec.errors import CheckpointError, ConfigError, DataError
from kgrec.inference.loading import find_run
from kgrec.runs.folder import INFERENCE_VERSION


def test_a_moved_run_folder_is_enough(train: Train, tmp_path):
    run = train()
    metrics, moved = run.metrics, tmp_path / "elsewhere"
    run.folder.rename(moved)
    rec = kgrec.load(moved)
    assert rec.name == "kgcn"
    assert rec.metrics == metrics
    scores = rec.score(["user3", "user4"], ["item5", "item6"])["score"].to_list()
    with torch.no_grad():
        expected = rec.model.score(torch.tensor([3, 4]), torch.tensor([5, 6]))
    assert scores == expected.tolist()


def test_every_pair_of_the_data_is_kept_with_its_part(train: Train):
    run = train()
    rec = kgrec.load(run.folder)
    counts = json.loads((run.folder / "dataset.json").read_text())["counts"]
    assert len(rec.data.positives) == counts["positives"]
    assert len(rec.data.train) < len(rec.data.positives) <= len(rec.data.seen)
    assert rec.data.positives.contains(rec.data.train.users, rec.data.train.items).all()
    assert len(rec.data.graph) == counts["triples"]


def test_the_latest_run_and_the_best_of_a_sweep(train: Train, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="latest: found no finished run"):
        find_run("latest")
    runs = [train(f"seed={seed}", folder=f"logs/runs/a/{seed}") for seed in (1, 2)]
    os.utime(runs[0].folder / "metrics.json")
    assert find_run("latest").folder.path.resolve() == runs[0].folder.resolve()
    best = max(runs, key=lambda run: run.metrics["val/auc"])
    found = find_run("logs/runs/a")
    assert found.folder.path.resolve() == best.folder.resolve()
    assert found.reason == f"the best of 2 runs: val/auc {best.metrics['val/auc']:.4f}"
    about = runs[0].folder / "inference" / "about.json"
    about.write_text(about.read_text().replace("val/auc", "val/recall@20"))
    with pytest.raises(DataError, match="found runs that differ in monitor"):
        find_run("logs/runs/a")


def test_a_checkpoint_is_found_in_its_run_folder(train: Train, tmp_path):
    run = train()
    last = run.folder / "checkpoints" / "last.ckpt"
    assert kgrec.load(last).folder == run.folder
    alone = tmp_path / "alone" / "x.ckpt"
    alone.parent.mkdir()
    alone.write_bytes(last.read_bytes())
    with pytest.raises(DataError, match="found a checkpoint outside the folder"):
        kgrec.load(alone)


def test_what_is_no_finished_run(train: Train, tmp_path):
    with pytest.raises(DataError, match="found no such folder, expected a run folder"):
        kgrec.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"found no run \(no metrics\.json\)"):
        kgrec.load(tmp_path)
    run = train()
    kept = (run.folder / "metrics.json").read_bytes()
    (run.folder / "metrics.json").unlink()
    with pytest.raises(DataError, match="found an unfinished run"):
        kgrec.load(run.folder)
    (run.folder / "metrics.json").write_bytes(kept)
    (run.folder / "checkpoints" / "best.ckpt").unlink()
    with pytest.raises(CheckpointError, match="found no such file"):
        kgrec.load(run.folder)


@pytest.mark.parametrize("damage", ["version", "no about", "no seen", "torn seen", "beyond"])
def test_damaged_or_foreign_files_are_named(damage, trained: Trained, tmp_path):
    shutil.copytree(trained("model=svd"), tmp_path / "run")
    folder = tmp_path / "run" / "inference"
    about, seen = folder / "about.json", folder / "seen.parquet"
    if damage == "version":
        content = json.loads(about.read_text()) | {"version": INFERENCE_VERSION + 1}
        about.write_text(json.dumps(content))
        message = f"found version {INFERENCE_VERSION + 1}, expected {INFERENCE_VERSION}"
    elif damage == "no about":
        about.unlink()
        message = "found no inference/about.json"
    elif damage == "no seen":
        seen.unlink()
        message = r"seen\.parquet: found no such file"
    elif damage == "torn seen":
        seen.write_bytes(seen.read_bytes()[:100])
        message = r"seen\.parquet"
    else:
        pl.read_parquet(seen).with_columns(item=pl.lit(10**6)).write_parquet(seen)
        message = r"seen\.parquet: found item beyond the ids, expected 0 to"
    with pytest.raises(DataError, match=message):
        kgrec.load(tmp_path / "run")


def test_a_checkpoint_of_other_data(train: Train):
    runs = [train("model=svd", f"dataset.num_users={n}", folder=f"r{n}") for n in (50, 60)]
    best = "checkpoints/best.ckpt"
    shutil.copy(runs[0].folder / best, runs[1].folder / best)
    with pytest.raises(DataError, match="found a model of 50 users, expected the 60 of"):
        kgrec.load(runs[1].folder)
    with pytest.raises(DataError, match="run: found None, expected a run folder"):
        kgrec.load(None)


def test_an_unknown_device(trained: Trained):
    with pytest.raises(ConfigError, match="device: found nonsense"):
        kgrec.load(trained("model=svd"), device="nonsense")
