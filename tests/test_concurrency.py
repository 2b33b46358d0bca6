"""Processes that work on the same cache, run folder or sweep at the same time."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from conftest import SMALL, Train, Trained
from files import RAW, write
from forked import Command, Loaders

from kgrec.data import cache
from kgrec.data.loading import load
from kgrec.runs.folder import RunFolder

LONG = (*SMALL, "epochs=100", "patience=null")  # longer than a process waits for a lock


@pytest.fixture
def many_rows(tmp_path: Path) -> Path:
    """Raw files that take a moment to prepare: 300 users with 20 positives each, 100 items."""
    ratings = [f"u{u}\ti{(7 * u + k) % 100}\t1" for u in range(300) for k in range(20)]
    files = {
        "user_artists.dat": "user\titem\trating\n" + "\n".join(ratings) + "\n",
        "item_index2entity_id.txt": "".join(f"i{i}\te{i}\n" for i in range(100)),
        "kg.txt": "".join(f"e{i}\tr{i % 5}\te{i // 3}\n" for i in range(100)),
    }
    return write(tmp_path / "raw", files)


def test_lock_files_of_dead_processes_stop_nobody(train: Train, trained: Trained, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    RunFolder(folder).lock_file.write_text("4194304")  # left by a process that has died
    assert train("model=popularity").code == 0
    root, kept = write(tmp_path / "raw", RAW), tmp_path / "cache"
    arguments = ("toy", [], str(root), "data", None, "drop", 1)
    expected = load(*arguments, cache=str(kept))
    (entry,) = (path for path in kept.iterdir() if path.is_dir())
    cache.clear(kept)
    (kept / f"{entry.name}.lock").write_text("4194304")
    assert load(*arguments, cache=str(kept)).counts() == expected.counts()


@pytest.mark.slow
def test_ten_processes_prepare_one_data_set_once(many_rows, tmp_path):
    loaders = Loaders(10, many_rows, tmp_path / "cache")
    results = loaders.results()
    assert {(users, positives) for users, positives, _ in results} == {(300, 6000)}
    assert sum(prepared for *_, prepared in results) == 1


@pytest.mark.slow
def test_a_cache_that_is_cleared_under_its_readers(many_rows, tmp_path):
    loaders = Loaders(3, many_rows, tmp_path / "cache", times=30)
    while loaders.running():
        cache.clear(tmp_path / "cache")
    results = loaders.results()
    assert {(users, positives) for users, positives, _ in results} == {(300, 6000)}
    assert sum(prepared for *_, prepared in results) > 3  # again and again, after each clearing


@pytest.mark.slow
def test_of_two_runs_in_one_folder_one_is_refused(tmp_path):
    folder = tmp_path / "run"
    commands = [Command(tmp_path / n, *LONG, f"hydra.run.dir={folder}") for n in "ab"]
    codes = [command.wait() for command in commands]
    assert sorted(map(str, codes)) == ["0", "1"], [c.text() for c in commands]
    refused = commands[codes.index(1)].text()
    assert refused.count("error: hydra.run.dir: found") == 1
    assert "Traceback" not in refused
    log = (folder / "train.log").read_text()
    assert "error: " not in log
    assert log.count("the results are in") == 1


@pytest.mark.slow
def test_of_two_sweeps_of_one_name_one_is_refused_and_each_job_runs_once(tmp_path):
    sweep = ("-m", *LONG, "model.K=2,4", "sweep=s")
    parallel = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    commands = [Command(tmp_path, *sweep), Command(tmp_path, *sweep, *parallel)]
    codes = [command.wait() for command in commands]
    assert sorted(map(str, codes)) == ["0", "1"], [c.text() for c in commands]
    assert "found another process at work on this sweep" in commands[codes.index(1)].text()
    assert all("Traceback" not in command.text() for command in commands)
    again = Command(tmp_path, *sweep, *parallel)
    assert again.wait() == 0, again.text()
    folder = tmp_path / "logs" / "sweeps" / "s"
    for job in ("model.K=2", "model.K=4"):
        assert (folder / job / "train.log").read_text().count("the results are in") == 1
    table = pl.read_csv(folder / "sweep.csv")
    assert table["folder"].to_list() == ["model.K=2", "model.K=4"]
    assert table["state"].to_list() == ["finished"] * 2
    files = [RunFolder(folder / job).metrics() for job in table["folder"]]
    assert table["test AUC"].to_list() == [metrics["test/auc"] for metrics in files]
