"""Workers of a shared sweep: every job runs once, and failed and deadly jobs come to an end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from kgrec.runs.status import update
from kgrec.sweeps import claims, launching, progress, sharing
from kgrec.sweeps.claims import Claims
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.launching import SweepError
from kgrec.sweeps.sharing import MOST_DEATHS, share
from kgrec.sweeps.state import Job

LEASE = 0.3


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (claims, launching, progress, sharing):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.01)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    jobs = [Job.of([f"model.K={k}"], ["model.K"]) for k in range(1, 6)]
    return SweepFolder.open(tmp_path, [], [], jobs, ["model.K"], "val/auc")


class Launcher:
    """Stands for the training of jobs: some of them fail, and ``seconds`` pass in each."""

    def __init__(self, sweep: SweepFolder, failing: str = "", seconds: float = 0.0) -> None:
        self.sweep, self.failing, self.seconds = sweep, failing, seconds
        self.launched: list[str] = []

    def launch(self, overrides: list[list[str]], number: int) -> None:
        ((name,),) = overrides
        self.launched.append(name)
        folder = self.sweep.path / name
        folder.mkdir(exist_ok=True)
        time.sleep(self.seconds)
        if name == self.failing:
            update(folder, state="failed", error="no memory")
        else:
            (folder / "metrics.json").write_text('{"val/auc": 0.5}')


def work(launcher: Launcher) -> None:
    sweep = launcher.sweep
    share(sweep.jobs, sweep, launcher, lambda job: [job.name], LEASE)


def states(sweep: SweepFolder) -> list[str]:
    return [state.state for state in sweep.states()]


def test_two_workers_run_each_job_once_and_both_wait_for_the_last(sweep):
    launchers = [Launcher(sweep, seconds=0.05) for _ in range(2)]
    ended: list[list[str]] = []

    def worker(launcher: Launcher) -> None:
        work(launcher)
        ended.append(states(sweep))

    threads = [threading.Thread(target=worker, args=(launcher,)) for launcher in launchers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(launchers[0].launched + launchers[1].launched) == [j.name for j in sweep.jobs]
    assert ended == [["finished"] * 5] * 2


def test_the_job_of_a_dead_worker_is_taken_over(sweep, capsys):
    Claims(sweep.path, LEASE).take("model.K=2")  # and no heartbeat after the first
    launcher = Launcher(sweep)
    work(launcher)
    assert launcher.launched == [f"model.K={k}" for k in (1, 3, 4, 5, 2)]
    assert "other workers have all jobs that are left; waiting" in capsys.readouterr().out


def test_a_failed_job_is_tried_once_by_a_worker_that_comes_later(sweep):
    first, second = Launcher(sweep, failing="model.K=3"), Launcher(sweep, failing="model.K=3")
    work(first)
    assert first.launched.count("model.K=3") == 1
    work(second)
    assert second.launched == ["model.K=3"]
    third = Launcher(sweep)
    work(third)
    assert third.launched == ["model.K=3"]
    assert states(sweep) == ["finished"] * 5


def test_a_job_that_ended_just_before_the_claim_does_not_run_again(sweep, monkeypatch):
    take = Claims.take

    def late(self: Claims, job: str, progress: int = 0) -> object:
        (sweep.path / job).mkdir(exist_ok=True)
        (sweep.path / job / "metrics.json").write_text('{"val/auc": 0.5}')
        return take(self, job, progress)

    monkeypatch.setattr(Claims, "take", late)
    launcher = Launcher(sweep)
    work(launcher)
    assert launcher.launched == []


def test_a_job_that_ends_its_workers_one_after_another_has_failed(sweep):
    clock = iter(range(0, 100_000, 100))
    dying = Claims(sweep.path, LEASE, lambda: float(next(clock)))
    for _ in range(MOST_DEATHS):
        while dying.take("model.K=1") is None:
            pass
    launcher = Launcher(sweep)
    work(launcher)
    assert states(sweep) == ["failed", *["finished"] * 4]
    assert sorted(launcher.launched) == [f"model.K={k}" for k in (2, 3, 4, 5)]
    assert "died 3 times in the same epoch" in sweep.states()[0].status["error"]


def test_an_interrupted_worker_releases_its_job(sweep):
    class Interrupted(Launcher):
        def launch(self, overrides: list[list[str]], number: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work(Interrupted(sweep))
    launcher = Launcher(sweep)
    work(launcher)
    assert launcher.launched == [job.name for job in sweep.jobs]  # the first one first: no wait


def test_a_launcher_that_starts_nothing_ends_the_worker(sweep):
    launcher = Launcher(sweep)
    launcher.launch = lambda overrides, number: None  # type: ignore[method-assign]
    with pytest.raises(SweepError, match="the launcher started no job"):
        work(launcher)
    assert Claims(sweep.path, LEASE).take("model.K=1") is not None  # released
