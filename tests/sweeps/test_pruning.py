"""Pruning: trials of a search that are clearly behind stop early."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from conftest import Finished, Train
from omegaconf import OmegaConf

from kgrec.errors import ConfigError
from kgrec.reports.live.page import tiles
from kgrec.reports.live.search_plots import search_charts
from kgrec.reports.live.snapshot import Snapshot
from kgrec.runs.status import read_status
from kgrec.sweeps.pruning import NAME, Pruning, make_pruner, open_storage
from kgrec.sweeps.state import PRUNED, Job, State

# A trial with the learning rate 1e-6 learns nothing. All trials are random, so that a search
# without a pruner has the same ones.
SEARCH = [
    "hydra/sweeper=optuna", "model=svd", "optimizer.lr=choice(1e-6,1e-1)", "epochs=8",
    "model.d=choice(4,8,16)", "optimizer.weight_decay=0", "batch_size=64", "patience=null",
    "ranking=none", "hydra.sweeper.n_trials=5", "hydra.sweeper.sampler.n_startup_trials=99",
]  # fmt: skip
HALVING = "hydra.sweeper.pruner.min_resource=4"


def search(train: Train, folder: Path, *words: str) -> Finished:
    done = train("-m", *SEARCH, *words, f"hydra.sweep.dir={folder}")
    assert done.code == 0, done.err
    return done


def jobs(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        return {row["folder"]: row for row in csv.DictReader(file)}


def epochs(folder: Path) -> int:
    return sum(read_status(folder / name)["epoch"] for name in jobs(folder))


def study_of(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=open_storage(folder))


@pytest.mark.slow
def test_a_pruned_trial_is_neither_finished_nor_failed_and_is_not_run_again(train, tmp_path):
    pruned = tmp_path / "pruned"
    done = search(train, pruned, HALVING, "hydra.sweeper.n_trials=4")
    rows = jobs(pruned)
    stopped = [name for name, row in rows.items() if row["state"] == PRUNED]
    assert stopped
    assert {row["state"] for row in rows.values()} == {PRUNED, "finished"}
    for name in stopped:
        assert not (pruned / name / "metrics.json").exists()
        assert (pruned / name / "checkpoints" / "last.ckpt").is_file()
        assert (rows[name]["error"], rows[name]["best"]) == ("", "false")
        assert "pruned after epoch 4 of 8" in done.out
    assert {t.state.name for t in study_of(pruned).trials} == {"PRUNED", "COMPLETE"}
    assert f"({len(stopped)} pruned) of" in (pruned / "best.yaml").read_text()
    assert json.loads((pruned / "sweep.json").read_text())["finished"]
    assert f"; {len(stopped)} were pruned." in search_charts(pruned)[1][0]
    tile_texts = tiles(Snapshot.take(pruned))
    assert (str(len(stopped)), PRUNED) in tile_texts

    # The study may not know yet how the trial ended, if the search was killed.
    study = study_of(pruned)
    study.enqueue_trial(next(t.params for t in study.trials if t.state.name == "PRUNED"))
    study.ask(study.trials[0].distributions)
    logs = {name: (pruned / name / "train.log").stat().st_mtime_ns for name in rows}
    search(train, pruned, HALVING, "hydra.sweeper.n_trials=5")
    assert study_of(pruned).trials[-1].state.name == "PRUNED"
    assert {n: (pruned / n / "train.log").stat().st_mtime_ns for n in rows} == logs


@pytest.mark.slow
def test_a_pruned_search_has_the_same_best_trial_for_fewer_epochs(train, tmp_path):
    full, pruned = tmp_path / "full", tmp_path / "pruned"
    search(train, full, "hydra.sweeper.pruner=null")
    search(train, pruned, HALVING)
    before, after = jobs(full), jobs(pruned)
    assert before.keys() == after.keys()
    best = [[n for n, row in rows.items() if row["best"] == "true"] for rows in (before, after)]
    assert best[0] == best[1] != []
    assert epochs(full) == 8 * len(before)
    assert epochs(pruned) <= 0.75 * epochs(full)
    # Asked to, a single run trains a pruned trial to its end.
    name = next(name for name, row in after.items() if row["state"] == PRUNED)
    words = [word for word in SEARCH if "sweeper" not in word and "choice" not in word]
    settings = [f"{key}={after[name][key]}" for key in ("optimizer.lr", "model.d")]
    last = f"ckpt_path='{pruned / name / 'checkpoints' / 'last.ckpt'}'"
    again = train(*words, *settings, last)
    assert again.code == 0, again.err
    assert again.metrics["train/epochs"] == 8
    assert (
        again.metrics["val/auc"]
        == json.loads((full / name / "metrics.json").read_text())["val/auc"]
    )


@pytest.mark.slow
def test_trials_in_other_processes_see_each_other(train, tmp_path):
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    search(train, tmp_path / "s", HALVING, *launcher)
    study = study_of(tmp_path / "s")
    # A trial whose settings an earlier trial had is no job of its own.
    reported = [trial for trial in study.trials if trial.intermediate_values]
    assert len(reported) == len(jobs(tmp_path / "s"))
    assert "PRUNED" in {trial.state.name for trial in study.trials}


class FakeTrainer(SimpleNamespace):
    """Stands for a Trainer whose epochs a test ends."""

    current_epoch, max_epochs, should_stop, sanity_checking = 0, 5, False, False

    def end_epoch(self, pruning: Pruning, value: float | None) -> None:
        if value is not None:
            self.callback_metrics = {"val/auc": value}
            pruning.on_validation_end(self, None)
        pruning.on_train_epoch_end(self, None)
        self.current_epoch += 1


@pytest.fixture
def pruning(tmp_path) -> Iterator[Pruning]:
    """A trial that a pruner stops as soon as it may."""
    optuna.create_study(study_name=NAME, storage=open_storage(tmp_path), direction="maximize").ask()
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "status.json").write_text('{"trial": 0, "monitor": "val/auc"}')
    at_once = OmegaConf.create({"_target_": "optuna.pruners.ThresholdPruner", "lower": 1})
    pruning = Pruning(tmp_path / "job", at_once)
    pruning.on_fit_start(FakeTrainer(), None)
    yield pruning
    pruning.teardown(FakeTrainer(), None, "fit")


def test_a_trial_that_is_behind_stops(pruning, tmp_path):
    trainer = FakeTrainer()
    trainer.end_epoch(pruning, 0.25)
    assert pruning.pruned
    assert trainer.should_stop
    assert study_of(tmp_path).trials[0].intermediate_values == {1: 0.25}


@pytest.mark.parametrize("epoch", [0, 1], ids=["before the checkpoint", "after it"])
def test_a_trial_that_was_pruned_and_then_killed_is_pruned_when_it_resumes(
    pruning, epoch, tmp_path, monkeypatch
):
    FakeTrainer().end_epoch(pruning, 0.25)
    again = Pruning(tmp_path / "job", pruning._pruner)
    trainer = FakeTrainer(current_epoch=epoch)
    again.on_fit_start(trainer, None)
    # A pruner that halves says no when it is asked about an epoch again.
    monkeypatch.setattr(again._trial, "should_prune", lambda: False)
    again.on_train_start(trainer, None)
    assert again.pruned == (epoch == 1)
    if epoch == 0:
        trainer.end_epoch(again, 0.25)
    assert again.pruned
    assert trainer.should_stop
    again.teardown(trainer, None, "fit")


def test_a_training_that_ends_by_itself_is_not_pruned(pruning):
    trainer = FakeTrainer(should_stop=True)  # its patience has ended
    trainer.end_epoch(pruning, 0.25)
    FakeTrainer(current_epoch=4).end_epoch(pruning, 0.25)  # its last epoch
    assert not pruning.pruned


def test_only_new_validation_values_are_reported(pruning, tmp_path):
    trainer = FakeTrainer(should_stop=True, current_epoch=0, callback_metrics={"val/auc": 0.5})
    trainer.end_epoch(pruning, None)
    trainer.end_epoch(pruning, 0.25)
    resumed = Pruning(tmp_path / "job", OmegaConf.create())
    resumed._pruner = None
    resumed.on_fit_start(trainer, None)
    trainer.current_epoch = 1
    trainer.end_epoch(resumed, 0.75)  # the epoch was interrupted, and is trained again
    resumed.teardown(trainer, None, "fit")
    assert study_of(tmp_path).trials[0].intermediate_values == {2: 0.25}


def test_without_its_study_a_trial_trains_on(pruning, tmp_path, caplog):
    (tmp_path / "study.db").write_bytes(b"not a database any more")
    trainer = FakeTrainer()
    trainer.end_epoch(pruning, 0.25)
    assert not pruning.pruned
    assert "nothing is pruned" in caplog.text


def test_a_pruned_job_has_ended_and_is_not_the_best(tmp_path):
    job = Job.of(["model.d=4"], ["model.d"])
    (tmp_path / "status.json").write_text('{"state": "pruned", "best": 0.9, "epoch": 2}')
    state = State.read(job, tmp_path)
    assert (state.state, state.ended, state.validation) == (PRUNED, True, 0.9)


def test_a_pruner_is_one_of_optuna_or_none():
    assert isinstance(make_pruner(None), optuna.pruners.NopPruner)
    median = OmegaConf.create({"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 2})
    assert isinstance(make_pruner(median), optuna.pruners.MedianPruner)
    for wrong in ("median", OmegaConf.create({"_target_": "optuna.samplers.RandomSampler"})):
        with pytest.raises(ConfigError, match=r"sweeper\.pruner: found .*, expected a pruner"):
            make_pruner(wrong)
