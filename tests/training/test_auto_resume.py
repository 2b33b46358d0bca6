"""``resume=auto``: the same command in the same folder begins, resumes, or has nothing to do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Train, Trained, composed
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from kgrec.config.checks import check
from kgrec.errors import ConfigError
from kgrec.files import temporary_path
from kgrec.runs.folder import RunFolder
from kgrec.runs.resuming import start_in
from kgrec.training.callbacks import EpochLog, LastCheckpoint

AUTO = "resume=auto"
TIMES = ("seconds", "memory")


def untimed(metrics: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if not any(word in k for word in TIMES)}


def state(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def same_weights(one: Path, other: Path) -> bool:
    return all(
        torch.equal(value, state(other, name)[key])
        for name in ("last", "best")
        for key, value in state(one, name).items()
    )


@pytest.fixture
def unfinished(trained: Trained, tmp_path: Path) -> Path:
    """A run that was killed after its second and last epoch."""
    folder = tmp_path / "run"
    shutil.copytree(trained(), folder)
    (folder / "metrics.json").unlink()
    return folder


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-500])


def fill(path: Path) -> None:
    path.write_bytes(b"\x80garbage" * 300)


def other_kind(path: Path) -> None:
    torch.save({"weights": torch.zeros(3)}, path)


def only_weights(path: Path) -> None:
    content = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in content.items() if k != "optimizer_states"}, path)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": empty, "cut": cut, "garbage": fill, "other kind": other_kind,
    "only weights": only_weights,
}  # fmt: skip


class Killed(BaseException):
    """Stands for SIGKILL, in the process of a test."""


# What a run does after its training, in this order.
STEPS = {
    "test": "kgrec.pipeline.run.test",
    "files of results": "kgrec.pipeline.run.write_results",
    "results to the loggers": "kgrec.pipeline.run.log_results",
    "end of the loggers": "kgrec.tracking.logger._end",
    "tables": "kgrec.pipeline.run.show",
    "metrics.json": "kgrec.runs.folder.RunFolder.write_metrics",
}


def kill(*_: object) -> None:
    raise Killed


def killed_at(target: str, train: Train, *words: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, kill)
        with pytest.raises(Killed):
            train(*words)


@pytest.mark.slow
def test_what_says_finished_is_written_last(unfinished: Path, train: Train, trained: Trained):
    for target in STEPS.values():
        killed_at(target, train, AUTO)
        assert not RunFolder(unfinished).finished, target
    assert (unfinished / "evaluation" / "samples.json").is_file()
    resumed = train(AUTO)
    assert resumed.code == 0, resumed.out
    assert f"resuming from {unfinished}/checkpoints/last.ckpt" in resumed.out
    assert "epoch   1" not in resumed.out
    assert untimed(resumed.metrics) == untimed(RunFolder(trained()).metrics())
    assert same_weights(trained(), unfinished)


# Each keeps something besides the weights and the usual optimiser.
SETTINGS = {
    "lazy_adam": ["optimizer=lazy_adam"],
    "ema": ["averaging=ema"],
    "swa": ["averaging=swa", "averaging.start=1"],
    "popularity": ["negatives=popularity"],
    "softmax": ["loss=softmax", "negatives=in_batch"],
    "all": ["optimizer=lazy_adam", "averaging=ema", "negatives=popularity", "loss=softmax"],
}


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_run_that_is_killed_in_an_epoch_ends_as_the_whole_one(settings, train, trained):
    def kill_in_the_second_epoch(_: object, trainer: Trainer, __: object) -> None:
        if trainer.current_epoch == 1:
            raise Killed

    words = (*settings, "epochs=3", "batch_size=128")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochLog, "on_train_epoch_end", kill_in_the_second_epoch)
        with pytest.raises(Killed):
            train(*words, AUTO)
    resumed = train(*words, AUTO)
    assert resumed.code == 0, resumed.out
    assert f"resuming from {resumed.folder}/checkpoints/last.ckpt" in resumed.out
    assert "epoch   1" not in resumed.out
    whole = trained(*words)
    assert same_weights(whole, resumed.folder)
    assert untimed(resumed.metrics) == untimed(RunFolder(whole).metrics())
    curves = [RunFolder(f).curves().select("epoch", "train/loss", "val/auc").rows() for f in
              (whole, resumed.folder)]  # fmt: skip
    assert curves[0] == curves[1]
    assert len(curves[0]) == 3


def test_the_values_of_an_epoch_are_logged_before_its_checkpoint(train: Train, trained: Trained):
    """Otherwise a run that is killed after the checkpoint would never have them."""

    def kill_after_it(callback: LastCheckpoint, trainer: Trainer, module: LightningModule) -> None:
        ModelCheckpoint.on_train_epoch_end(callback, trainer, module)
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LastCheckpoint, "on_train_epoch_end", kill_after_it)
        with pytest.raises(Killed):
            train(AUTO)
    run = train(AUTO)
    assert run.code == 0, run.out
    assert "epoch   1" not in run.out
    curves, whole = RunFolder(run.folder).curves(), RunFolder(trained()).curves()
    assert set(curves.columns) == set(whole.columns)
    kept = [name for name in whole.columns if not name.startswith(("speed", "step"))]
    assert curves.select(kept).rows() == whole.select(kept).rows()


@pytest.mark.slow
def test_results_are_not_twice_in_wandb(train: Train, monkeypatch):
    from tracking.test_logger import records, updates

    monkeypatch.setenv("WANDB_MODE", "offline")
    words = (AUTO, "logger=default", "logger.csv=null")
    killed_at(STEPS["metrics.json"], train, *words)
    run = train(*words)
    assert run.code == 0, run.out
    (run.folder / "wandb" / "latest-run").unlink()
    parts = []
    for number, part in enumerate(sorted((run.folder / "wandb").glob("offline-run-*"))):
        alone = run.folder / f"part-{number}" / "wandb"
        alone.mkdir(parents=True)
        shutil.move(part, alone)
        parts.append(records(alone.parent))
    assert len(parts) == 2
    assert parts[0]["run"][0]["run_id"] == parts[1]["run"][0]["run_id"]
    rows = [record["item"] for part in parts for record in part["history"]]
    for key in ("train/loss", "val/auc"):
        assert [row["trainer/epoch"] for row in rows if key in row] == [0, 1], key
    first, second = (updates(part["summary"]) for part in parts)
    assert first["test/auc"] == second["test/auc"] == run.metrics["test/auc"]
    assert not any("test/auc" in row for row in rows)


def test_a_finished_run_has_nothing_to_do(train: Train, trained: Trained, tmp_path: Path):
    shutil.copytree(trained(), tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()}
    ended = subprocess.Popen(["true"])
    ended.wait()
    written = temporary_path(tmp_path / "run" / "status.json")  # and the process was killed
    written.with_name(written.name.replace(str(os.getpid()), str(ended.pid))).write_text("{")
    again = train(AUTO, "threads=2")  # which changes no result
    assert again.code == 0, again.out
    assert again.out.startswith("finished already: run:  val/auc 0.")
    assert f"the results are in {again.folder}" in again.out
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_last_checkpoint_leads_to_the_best_one(damage, unfinished: Path):
    last, best = (RunFolder(unfinished).checkpoint(name) for name in ("last", "best"))
    damage(last)
    start = start_in(RunFolder(unfinished))
    assert start.checkpoint == best
    assert start.remark is not None
    assert start.remark.startswith(f"warning: {last}: found ")
    assert start.remark.endswith(f"; the run resumes from {best}")
    assert "\n" not in start.remark
    damage(best)
    start = start_in(RunFolder(unfinished))
    assert start.checkpoint is None
    assert start.remark.endswith("; the run begins anew")


@pytest.mark.parametrize("name", ["best", "both"])
def test_a_damaged_best_checkpoint_makes_a_run_begin_anew(name, unfinished: Path):
    files = RunFolder(unfinished)
    cut(files.checkpoint("best"))
    if name == "both":
        cut(files.checkpoint("last"))
    start = start_in(files)
    assert start.checkpoint is None
    assert f"{'last' if name == 'both' else name}.ckpt: found" in str(start.remark)


def test_a_run_without_checkpoints_or_without_training_begins(unfinished: Path, tmp_path: Path):
    assert start_in(RunFolder(tmp_path / "new")) == (False, None, None)
    files = RunFolder(unfinished)
    only_weights(files.checkpoint("best"))
    files.checkpoint("last").unlink()
    assert start_in(files) == (False, None, None)


def test_a_checkpoint_from_within_an_epoch_is_not_resumed_from(unfinished: Path):
    files = RunFolder(unfinished)
    best = torch.load(files.checkpoint("best"), weights_only=True)
    best["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] -= 1
    torch.save(best, files.checkpoint("best"))
    empty(files.checkpoint("last"))
    assert start_in(files).checkpoint is None


def test_a_run_with_a_damaged_checkpoint_ends_as_the_whole_one(unfinished, train, trained):
    empty(unfinished / "checkpoints" / "last.ckpt")
    resumed = train(AUTO, "epochs=3")  # more epochs are allowed
    assert resumed.code == 0, resumed.out
    assert "warning: " in resumed.out
    whole = trained("epochs=3")
    assert untimed(resumed.metrics) == untimed(RunFolder(whole).metrics())
    assert same_weights(whole, resumed.folder)


def test_a_damaged_checkpoint_that_the_user_names_is_an_error(unfinished, train):
    empty(last := unfinished / "checkpoints" / "last.ckpt")
    named = train(f"ckpt_path={last}", folder="other")
    assert named.code == 1
    assert f"error: {last}: found no readable checkpoint" in named.out


@pytest.mark.parametrize("checkpoints", [True, False], ids=["with", "without"])
def test_an_unfinished_run_keeps_its_settings(checkpoints, unfinished, train):
    if not checkpoints:
        shutil.rmtree(unfinished / "checkpoints")
    status = (unfinished / "status.json").read_text()
    other = train("model.K=3", AUTO)
    assert other.code == 1
    config = unfinished / "config.yaml"
    assert f"error: resume: found model.K 8 in {config}, expected 3: the run in " in other.out
    assert (unfinished / "status.json").read_text() == status


def test_a_finished_run_is_that_of_the_command(trained, train, tmp_path):
    shutil.copytree(trained(), tmp_path / "run")
    more = train("epochs=5", AUTO)
    assert more.code == 1
    assert "error: resume: found epochs 2 in " in more.out
    assert "the run in this folder finished with other settings" in more.out
    assert "found a finished run in" in train().out


def test_a_folder_of_another_kind_is_refused(unfinished, train):
    about = json.loads((unfinished / "environment.json").read_text())
    (unfinished / "environment.json").write_text(json.dumps(about | {"kind": "refit"}))
    run = train(AUTO)
    assert run.code == 1
    assert f"hydra.run.dir: found {unfinished} of kind refit, expected" in run.out


def test_a_new_folder_in_every_command_is_refused(train, tmp_path, monkeypatch, capsys):
    from conftest import SMALL, _train

    monkeypatch.chdir(tmp_path)
    assert _train([*SMALL, AUTO]) == 1
    assert "resume: found auto without a run folder, expected hydra.run.dir=FOLDER" in (
        capsys.readouterr().out
    )


def test_the_value_of_resume():
    with pytest.raises(ConfigError, match="resume: found True, expected auto, or null"):
        check(composed("resume=true"))
    with pytest.raises(ConfigError, match="resume: found auto and ckpt_path=x, expected one"):
        check(composed(AUTO, "ckpt_path=x"))
