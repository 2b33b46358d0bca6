"""Launchers that break down, start nothing, pass Ctrl-C on or stop waiting."""

import os
import re
import signal
import time

import joblib
import pytest
from hydra.errors import MissingConfigException
from omegaconf import OmegaConf

from kgrec.config.messages import explain
from kgrec.runs.status import update
from kgrec.sweeps import launcher_workarounds
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.launcher_workarounds import (
    held_back_from_workers,
    let_ray_join,
    mismatch_of_joblib,
)
from kgrec.sweeps.launching import SweepError, launch
from kgrec.sweeps.state import Job, State


@pytest.fixture
def jobs() -> list[Job]:
    return [Job.of([f"model.K={k}"], ["model.K"]) for k in (1, 2, 3)]


@pytest.fixture
def sweep(tmp_path, jobs) -> SweepFolder:
    return SweepFolder.open(tmp_path, [], [], jobs, ["model.K"], "val/auc")


def names(job: Job) -> list[str]:
    return [job.name]


def blocked_signals() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, []))


class Breaks:
    """A launcher whose pool breaks with the job of one name, and takes its neighbours along."""

    def __init__(self, sweep: SweepFolder, killed: str, starts: int = 9) -> None:
        self.sweep, self.killed, self.starts, self.launched = sweep, killed, starts, []

    def launch(self, overrides: list[list[str]], number: int) -> None:
        batch = [words[0] for words in overrides]
        self.launched.append(batch)
        for name in batch[: self.starts]:
            (self.sweep.path / name).mkdir(exist_ok=True, parents=True)
            update(self.sweep.path / name, state="running")  # without a process that holds it
        if self.killed in batch[: self.starts]:
            raise RuntimeError("a process was killed")
        for name in batch[: self.starts]:
            (self.sweep.path / name / "metrics.json").write_text('{"val/auc": 0.5}')


def test_only_the_job_that_is_killed_twice_has_failed(sweep, jobs, capsys):
    launcher = Breaks(sweep, "model.K=2")
    launch(jobs, sweep, launcher, names)
    states = sweep.states()
    assert [state.state for state in states] == ["finished", "failed", "finished"]
    assert "killed, twice" in states[1].status["error"]
    numbers = re.findall(r"(\d) of 3  (model\.K=\d)", capsys.readouterr().out)
    assert numbers == [("1", "model.K=1"), ("3", "model.K=3")]
    assert launcher.launched == [[job.name for job in jobs], *([job.name] for job in jobs)]


def test_jobs_that_have_not_started_are_launched_together_again(sweep, jobs):
    launcher = Breaks(sweep, "model.K=1", starts=1)
    launch(jobs, sweep, launcher, names)
    assert [state.state for state in sweep.states()] == ["failed", "finished", "finished"]
    one, two, three = (job.name for job in jobs)
    assert launcher.launched == [[one, two, three], [two, three], [three], [one]]


def test_a_launcher_that_starts_nothing_ends_the_sweep(sweep, jobs):
    class Refuses:
        def launch(self, overrides: list[list[str]], number: int) -> None:
            raise RuntimeError("no quota")

    (sweep.path / jobs[0].name).mkdir()
    update(sweep.path / jobs[0].name, state="running")  # of an earlier command
    with pytest.raises(SweepError, match="the launcher started no job"):
        launch(jobs, sweep, Refuses(), names)


def test_workers_of_joblib_start_without_ctrl_c():
    with held_back_from_workers():
        (blocked,) = joblib.Parallel(n_jobs=2)([joblib.delayed(blocked_signals)()])
    joblib.externals.loky.get_reusable_executor().shutdown(kill_workers=True)
    assert signal.SIGINT in blocked
    assert signal.SIGINT not in blocked_signals()


@pytest.mark.slow
def test_submitit_jobs_in_the_queue_are_not_submitted_twice(sweep, jobs):
    submitit = pytest.importorskip("submitit")
    folder = sweep.path

    def run(name: str) -> tuple[None]:  # nested, so that it is pickled by value
        with (folder / "starts.txt").open("a") as file:
            file.write(f"{name}\n")
        if name == "model.K=1":
            (folder / name).mkdir(exist_ok=True)
            update(folder / name, state="running")
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(4)  # in the queue: no run folder yet
        (folder / name).mkdir()
        (folder / name / "metrics.json").write_text('{"val/auc": 0.5}')
        return (None,)

    class Launcher:
        def launch(self, overrides: list[list[str]], number: int) -> object:
            # As hydra_submitit_launcher does.
            executor = submitit.LocalExecutor(folder / "submitit")
            submitted = executor.map_array(run, [words[0] for words in overrides])
            return [job.results()[0] for job in submitted]

    launch(jobs, sweep, Launcher(), names)
    assert [State.read(job, folder / job.name).state for job in jobs] == [
        "failed", "finished", "finished",
    ]  # fmt: skip
    starts = (folder / "starts.txt").read_text().split()
    assert sorted(starts) == ["model.K=1", "model.K=1", "model.K=2", "model.K=3"]


def test_a_launcher_of_an_extra_names_the_extra():
    def message(name: str) -> str:
        file = f"hydra/launcher/{name}"
        return explain(
            MissingConfigException("", missing_cfg_file=file, options=["basic", "joblib"])
        )

    assert message("ray") == (
        "hydra/launcher: found 'ray', expected one of basic, joblib "
        "(pip install -e '.[ray]' brings it, in an environment of its own)"
    )
    assert "pip install -e '.[slurm]' brings it" in message("submitit_slurm")
    assert "pip" not in message("jobli")


def test_ray_may_join_a_cluster():
    """Ray refuses a size of memory there, which Hydra's launcher sets where none is given."""
    launcher = OmegaConf.create({"ray": {"init": {"address": "auto"}, "remote": {}}})
    let_ray_join(launcher)
    assert launcher.ray.init == {"address": "auto", "object_store_memory": None}
    launcher.ray.init.object_store_memory = 10**9
    let_ray_join(launcher)
    assert launcher.ray.init.object_store_memory == 10**9
    other = OmegaConf.create({"n_jobs": 2})
    let_ray_join(other)
    assert other == {"n_jobs": 2}


@pytest.mark.parametrize(
    ("joblib", "cloudpickle", "refused"),
    [
        ("1.6.0", "2.2.1", True), ("1.10.0", "2.2.1", True), ("1.5.3", "2.2.1", False),
        ("1.6.0", "3.1.2", False), ("1.6.0", None, False),
    ],
)  # fmt: skip
def test_an_old_cloudpickle_is_named(monkeypatch, joblib, cloudpickle, refused):
    versions = {"joblib": joblib, "cloudpickle": cloudpickle}
    monkeypatch.setattr(launcher_workarounds, "version", versions.get)
    message = mismatch_of_joblib()
    assert (message is not None) == refused
    if message is not None:
        begin = f"cloudpickle: found 2.2.1 with joblib {joblib}, expected 3 or later: "
        assert message.startswith(begin)
