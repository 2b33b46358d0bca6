"""The supervisor of worker processes, with processes that do as a test says."""

import itertools
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn

from kgrec.serving.middleware.monitoring import MULTIPROCESS
from kgrec.serving.processes import workers
from kgrec.serving.processes.workers import ANSWER_SECONDS, RETRY_SECONDS, Workers


class FakeProcess:
    """A worker."""

    numbers = itertools.count(1)

    def __init__(self, *_: object) -> None:
        self.pid, self.exitcode, self.answers = next(self.numbers), None, True
        self.process = self

    def start(self) -> None:
        """Starts."""

    def is_alive(self) -> bool:
        return self.exitcode is None

    def ping(self, seconds: float) -> bool:
        return self.answers

    def kill(self) -> None:
        self.exitcode = self.exitcode or -9

    def join(self) -> None:
        """Waits."""

    def has_started(self) -> None:
        workers._file("started", self.pid).touch()

    def fails(self) -> None:
        workers._file("failure", self.pid).write_text(f"the error of {self.pid}")
        self.exitcode = 1


class Clock:
    """A clock that a test moves."""

    now = 0.0


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch, clock) -> Workers:
    monkeypatch.setenv(MULTIPROCESS, str(tmp_path))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(workers, "Process", FakeProcess)
    monkeypatch.setattr("uvicorn.supervisors.multiprocess.Process", FakeProcess)
    starts: list[str] = []
    supervisor = Workers(
        uvicorn.Config("app", workers=2, log_config=None), [], lambda: starts.append("started")
    )
    supervisor.starts = starts
    supervisor.init_processes()
    return supervisor


def test_the_address_is_said_once(supervisor):
    supervisor.keep_subprocess_alive()
    assert supervisor.starts == []
    for each in supervisor.processes:
        each.has_started()
        supervisor.keep_subprocess_alive()
    assert supervisor.starts == ["started"]


def test_a_worker_that_has_served_is_replaced_at_once(supervisor, tmp_path):
    first, second = supervisor.processes
    for each in (first, second):
        each.has_started()
    supervisor.keep_subprocess_alive()
    gauges = [tmp_path / f"gauge_livesum_{each.pid}.db" for each in (first, second)]
    for each in gauges:
        each.touch()
    first.exitcode = -9
    supervisor.keep_subprocess_alive()
    assert supervisor.processes[0] is not first
    assert supervisor.processes[1] is second
    assert [each.exists() for each in gauges] == [False, True]


def test_a_worker_that_hangs_is_replaced(supervisor, clock):
    first, _ = supervisor.processes
    for each in supervisor.processes:
        each.has_started()
    supervisor.keep_subprocess_alive()
    first.answers = False
    clock.now += ANSWER_SECONDS - 1
    supervisor.keep_subprocess_alive()
    assert first in supervisor.processes
    clock.now += 2
    supervisor.keep_subprocess_alive()
    assert first not in supervisor.processes
    assert first.exitcode == -9


def test_a_worker_that_loads_for_long_is_left(supervisor, clock):
    before = list(supervisor.processes)
    clock.now += 1000
    supervisor.keep_subprocess_alive()
    assert supervisor.processes == before


def test_workers_that_cannot_start_end_the_server_with_one_error(supervisor):
    first, second = supervisor.processes
    first.fails()
    supervisor.keep_subprocess_alive()
    second.fails()
    supervisor.keep_subprocess_alive()
    assert supervisor.should_exit.is_set()
    assert supervisor.failure == f"the error of {second.pid}"
    assert supervisor.processes == [first, second]


def test_a_worker_that_cannot_start_is_tried_again_after_a_pause(supervisor, clock):
    first, second = supervisor.processes
    second.has_started()
    first.fails()
    for _ in range(3):
        supervisor.keep_subprocess_alive()
    assert supervisor.processes == [first, second]
    clock.now += RETRY_SECONDS
    supervisor.keep_subprocess_alive()
    assert supervisor.processes[0] is not first
    assert not supervisor.should_exit.is_set()


def test_workers_that_have_served_and_cannot_start_again_end_the_server(supervisor):
    for each in supervisor.processes:
        each.has_started()
    supervisor.keep_subprocess_alive()
    for each in list(supervisor.processes):
        each.exitcode = -9
    supervisor.keep_subprocess_alive()
    assert not supervisor.should_exit.is_set()
    for each in supervisor.processes:
        each.exitcode = 1
    supervisor.keep_subprocess_alive()
    assert supervisor.should_exit.is_set()
    assert "found exit code 1, expected a start" in supervisor.failure


def test_a_hangup_reaches_all_living_workers(supervisor, monkeypatch):
    sent = []
    monkeypatch.setattr(workers.os, "kill", lambda pid, number: sent.append((pid, number)))
    first, second = supervisor.processes
    first.exitcode = 1
    monkeypatch.setattr(workers, "take_hangup", lambda: True)
    supervisor.handle_signals()
    assert sent == [(second.pid, signal.SIGHUP)]
