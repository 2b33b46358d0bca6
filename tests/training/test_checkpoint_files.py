"""A checkpoint is whole or not there, whatever interrupts its writing."""

import os
import random
import resource
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Train, composed
from lightning_fabric.plugins import TorchCheckpointIO

from kgrec.errors import DiskError
from kgrec.pipeline.parts import make_trainer
from kgrec.training.checkpoint_files import AtomicCheckpointIO

SHARED_MEMORY = Path("/dev/shm")


def content(value: float, rows: int = 1_000_000) -> dict[str, object]:
    return {"weights": torch.full((rows,), value), "epoch": int(value)}


def is_whole(path: Path) -> bool:
    saved = torch.load(path, weights_only=True)
    return bool((saved["weights"] == saved["epoch"]).all())


def child(work: Callable[[], None]) -> int:
    """Starts a process that works until it is killed; returns its id.

    Torch must not compute in it: its threads are not there after a fork.
    """
    with warnings.catch_warnings(action="ignore"):
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(1)
    return pid


def end(pid: int) -> int:
    """The signal that ended a process."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_kills_leave_a_whole_checkpoint_where_tmpdir_is_another_disk(tmp_path, monkeypatch):
    if SHARED_MEMORY.is_dir() and SHARED_MEMORY.stat().st_dev != tmp_path.stat().st_dev:
        monkeypatch.setattr(tempfile, "tempdir", str(SHARED_MEMORY))
    target, moments = tmp_path / "last.ckpt", random.Random(0)
    AtomicCheckpointIO().save_checkpoint(content(0), target)

    contents = [content(number) for number in range(7)]

    def save() -> None:
        for number in range(1_000_000):
            AtomicCheckpointIO().save_checkpoint(contents[number % 7], target)

    for _ in range(12):
        pid = child(save)
        time.sleep(moments.uniform(0.005, 0.04))
        os.kill(pid, signal.SIGKILL)
        assert end(pid) == -signal.SIGKILL
        assert is_whole(target)
    AtomicCheckpointIO().save_checkpoint(content(1), target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]  # leftovers are removed


def test_a_kill_in_the_middle_of_the_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(3), target)
    before, after = target.read_bytes(), content(4)

    def save() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # a write beyond the limit kills
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        AtomicCheckpointIO().save_checkpoint(after, target)

    assert end(child(save)) == -signal.SIGXFSZ
    assert target.read_bytes() == before
    (leftover,) = set(tmp_path.iterdir()) - {target}
    assert leftover.stat().st_size == 1_000_000
    AtomicCheckpointIO().save_checkpoint(content(4), target)
    assert not leftover.exists()


def test_an_error_in_the_middle_of_the_file_leaves_the_old_one(tmp_path):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(3), target)
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(DiskError, match=r"last\.ckpt: found .*File too large"):
            AtomicCheckpointIO().save_checkpoint(content(4), target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_the_bytes_are_those_of_lightning(tmp_path):
    AtomicCheckpointIO().save_checkpoint(content(3), tmp_path / "new" / "one.ckpt")
    TorchCheckpointIO().save_checkpoint(content(3), tmp_path / "other.ckpt")
    expected = (tmp_path / "other.ckpt").read_bytes()
    assert (tmp_path / "new" / "one.ckpt").read_bytes() == expected


@pytest.mark.parametrize("validates", [True, False])
def test_every_trainer_of_a_run_has_the_plugin(validates, tmp_path):
    cfg = composed("callbacks=default", f"paths.run={tmp_path}")
    for name in cfg.callbacks:
        cfg.callbacks[name] = None
    trainer = make_trainer(cfg, validates=validates)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)


@pytest.mark.parametrize("settings", [["model=popularity"], ["averaging=ema"]])
def test_a_run_writes_every_checkpoint_this_way(settings, train: Train, monkeypatch):
    monkeypatch.setattr("lightning_fabric.plugins.io.torch_io._atomic_save", None)
    run = train(*settings)
    assert run.code == 0, run.err
    assert {path.name for path in (run.folder / "checkpoints").iterdir()} >= {"best.ckpt"}
