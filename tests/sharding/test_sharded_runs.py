"""Runs with trainer=sharded: results, refused settings, and processes that fail."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, SMALL, Train, composed
from training.test_ddp import processes_in

from kgrec.config.checks import check
from kgrec.config.devices import min_rows
from kgrec.errors import ConfigError
from kgrec.runs.folder import RunFolder
from kgrec.runs.status import read_status

SHARDED = ["trainer=sharded", "trainer.accelerator=cpu", "hydra.run.dir=run"]
SECONDS = 60  # within which a failed run must have ended, on a busy machine


def started(*overrides: str, cwd: Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *SMALL, *SHARDED, *overrides],
        cwd=cwd, env=os.environ | environment, stdin=subprocess.DEVNULL, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


# -------------------------------------------------------------- settings


@pytest.mark.parametrize("words", [
    ["trainer=sharded"], ["trainer=sharded", "optimizer.lr=0.1"],
    ["trainer=sharded", "model=blend"],
    ["trainer=sharded", "experiment=table5"], ["dataset=music", "trainer=sharded", "model=kgcn"],
])  # fmt: skip
def test_it_chooses_the_optimiser_with_sparse_gradients(words):
    cfg = composed(*words)
    assert cfg.optimizer._target_.endswith("LazyAdam")
    assert min_rows(cfg) == 50
    check(cfg)


def test_the_command_line_chooses_another_optimiser():
    assert composed("trainer=sharded", "optimizer=adam").optimizer._target_ == "torch.optim.Adam"
    assert min_rows(composed("trainer=ddp")) is None


@pytest.mark.parametrize(("words", "message"), [
    (["averaging=ema"], "averaging: found ema, expected none: an average would double"),
    (["trainer.strategy.min_rows=0"], "trainer.strategy.min_rows: found 0, expected an integer"),
    (["trainer.strategy.min_rows=1.5"], "trainer.strategy.min_rows: found 1.5, expected an int"),
    (["batch_size=1"], "batch_size: found 1, expected at least 2: one row per device"),
])  # fmt: skip
def test_settings_that_cannot_work_are_refused(words, message):
    with pytest.raises(ConfigError) as error:
        check(composed("trainer=sharded", *words))
    assert message in str(error.value)


def test_an_optimiser_with_dense_gradients_is_refused(train: Train):
    run = train("trainer=sharded", "trainer.accelerator=cpu", "optimizer=adam")
    assert run.code == 1
    assert "optimizer: found Adam, expected optimizer=lazy_adam with trainer=sharded" in run.out


def test_a_sweep_is_refused_as_with_ddp(train: Train):
    run = train("-m", "trainer=sharded", "trainer.accelerator=cpu", "seed=1,2")
    assert run.code == 1
    assert "trainer.devices: found 2 devices in a multirun, expected 1" in run.out + run.err


# -------------------------------------------------------------- results


@pytest.mark.slow
def test_a_run_has_the_results_of_one_process(train: Train, tmp_path: Path):
    settings = ["batch_size=99", "monitor=val/recall@20", "ranking.validation=true"]
    run = started(*settings, cwd=tmp_path)
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    assert "each of 2 processes has at most" in out
    metrics = RunFolder(tmp_path / "run").metrics()
    one = train(*settings, "optimizer=lazy_adam", "trainer.accelerator=cpu", folder="one")
    assert "test/recall@20" in one.metrics
    for name, value in one.metrics.items():
        if "seconds" not in name and "memory" not in name:
            assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


# -------------------------------------------------------------- failures

FAILING = """
import os
from kgrec.models.svd import SVD

class Fails(SVD):
    def loss(self, *batches):
        if os.environ.get("LOCAL_RANK") == "1":
            raise RuntimeError("broken on purpose")
        return super().loss(*batches)
"""


def ended(run: subprocess.Popen[str], folder: Path) -> str:
    """What a failed run printed, after it has ended with all its processes."""
    begin = time.monotonic()
    out, _ = run.communicate(timeout=SECONDS)
    while processes_in(folder) and time.monotonic() < begin + SECONDS:
        time.sleep(0.1)
    assert processes_in(folder) == []
    assert run.returncode != 0
    assert not (folder / "run" / "metrics.json").exists()
    assert [p for p in (folder / "run" / "checkpoints").glob(".*") if p.is_file()] == []
    return out


@pytest.mark.slow
def test_an_error_of_one_process_ends_all(tmp_path: Path):
    (tmp_path / "failing.py").write_text(FAILING)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', ROOT)}"
    words = ["model=svd", "model._target_=failing.Fails.from_dataset"]
    out = ended(started(*words, cwd=tmp_path, PYTHONPATH=path), tmp_path)
    assert "broken on purpose" in out
    assert "gloo/transport" not in out  # no trace of the process that waited
    assert read_status(tmp_path / "run")["state"] == "failed"


@pytest.mark.slow
def test_a_killed_process_ends_all(tmp_path: Path):
    run = started("model=svd", "epochs=10000", "patience=null", cwd=tmp_path)
    wait((tmp_path / "run" / "checkpoints" / "last.ckpt").exists)
    (other,) = [p for p in processes_in(tmp_path) if p != run.pid]
    assert psutil.Process(other).ppid() == run.pid
    os.kill(other, signal.SIGKILL)
    ended(run, tmp_path)
    assert read_status(tmp_path / "run")["state"] == "failed"


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)
