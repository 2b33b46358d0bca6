"""Claims of jobs: exactly one worker has a job, whatever dies, stops or has another clock."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kgrec.errors import ConfigError
from kgrec.sweeps import claims as module
from kgrec.sweeps.claims import HEARTBEAT, Claim, Claims, check_no_worker

LEASE = 60.0


class Clock:
    """A clock of one machine, which a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def heartbeat(claim: Claim) -> dict[str, object]:
    return json.loads((claim.path / HEARTBEAT).read_text())


def wait_for(condition: Callable[[], bool]) -> None:
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < 30
        time.sleep(0.005)


def test_one_of_many_workers_gets_a_job(tmp_path):
    begin = threading.Barrier(16)

    def take(_: int) -> Claim | None:
        begin.wait()
        return Claims(tmp_path, LEASE).take("a")

    with ThreadPoolExecutor(16) as pool:
        taken = [claim for claim in pool.map(take, range(16)) if claim is not None]
    assert [claim.number for claim in taken] == [1]


def test_a_job_is_taken_over_when_its_heartbeat_stands_still_for_the_lease(tmp_path):
    """Each worker goes by its own clock: the clocks differ by days, and so does the wait's end."""
    first = Claims(tmp_path, LEASE, Clock(1e6)).take("a", progress=2)
    assert first is not None
    here, there = Clock(0.0), Clock(-5e5)
    near, far = (Claims(tmp_path, LEASE, clock) for clock in (here, there))
    assert near.take("a") is None
    assert far.take("a") is None
    here.now += LEASE - 1
    assert near.take("a") is None
    first.beat()
    here.now += 1
    there.now += LEASE - 1
    assert near.take("a") is None  # the heartbeat has changed
    assert far.take("a") is None
    there.now += LEASE - 1
    assert far.take("a") is None  # less than the lease since it saw the new heartbeat
    there.now += 1
    second = far.take("a", progress=2)
    assert second is not None
    assert (second.number, second.deaths) == (2, 1)
    here.now += LEASE
    assert near.take("a") is None  # the second worker has it now
    with pytest.raises(FileNotFoundError):
        first.beat()


def test_the_lease_of_a_worker_is_what_its_heartbeat_says(tmp_path):
    Claims(tmp_path, 10 * LEASE).take("a")
    clock = Clock(0.0)
    hasty = Claims(tmp_path, 1.0, clock)
    for now, taken in ((0.0, False), (9 * LEASE, False), (10 * LEASE, True)):
        clock.now = now
        assert (hasty.take("a") is not None) == taken


def test_a_released_job_is_taken_at_once(tmp_path):
    first, second = Claims(tmp_path, LEASE), Claims(tmp_path, LEASE)
    with first.take("a") as claim:
        assert second.take("a") is None
    assert heartbeat(claim)["released"]
    taken = second.take("a")
    assert (taken.number, taken.deaths) == (2, 0)


def test_deaths_are_counted_until_an_epoch_is_finished(tmp_path: Path):
    clock, deaths = Clock(0.0), []
    claims = Claims(tmp_path, LEASE, clock)
    for progress in (0, 0, 0, 3, 3, 4):  # each worker dies
        while (claim := claims.take("a", progress)) is None:
            clock.now += LEASE
        deaths.append(claim.deaths)
    assert deaths == [0, 1, 2, 0, 1, 0]


def test_a_claim_without_a_heartbeat_is_one_of_a_worker_that_died_early(tmp_path):
    (tmp_path / "claims" / "a" / "1").mkdir(parents=True)
    clock = Clock(0.0)
    claims = Claims(tmp_path, LEASE, clock)
    assert claims.take("a") is None
    clock.now = LEASE
    assert claims.take("a").number == 2


def test_a_worker_that_wakes_after_its_first_write_was_awaited_too_long_has_no_claim(tmp_path):
    path = tmp_path / "claims" / "a" / "1"
    path.mkdir(parents=True)
    path.with_name("2").mkdir()
    assert not Claim(path, LEASE).begin()


def test_a_worker_that_lost_its_job_is_ended(tmp_path):
    messages: list[str] = []
    claim = Claims(tmp_path, 0.06).take("a")
    claim.lost = messages.append
    with claim:
        wait_for(lambda: heartbeat(claim)["beats"] > 1)
        (claim.path / HEARTBEAT).unlink()  # as the worker does that takes over
        wait_for(lambda: bool(messages))
    assert messages[0].startswith("a: found no heartbeat of this worker for 0.06 s, expected one")
    assert not (claim.path / HEARTBEAT).exists()  # nothing is written for a job of another worker


def test_a_worker_that_cannot_write_its_heartbeat_for_the_lease_is_ended(tmp_path, monkeypatch):
    messages: list[str] = []
    claim = Claims(tmp_path, 0.3).take("a")
    claim.lost = messages.append
    failures = iter([OSError(116, "Stale file handle"), None])

    def beat(self: Claim) -> None:  # one failure is not the end
        if (error := next(failures, OSError(5, "Input/output error"))) is not None:
            raise error

    monkeypatch.setattr(Claim, "beat", beat)
    with claim:
        time.sleep(0.15)
        assert not messages
        wait_for(lambda: bool(messages))
    assert "Input/output error" in messages[0]


def test_a_process_that_lost_its_job_leaves_with_one_line(monkeypatch, capfd):
    codes: list[int] = []
    monkeypatch.setattr(module.os, "_exit", codes.append)
    monkeypatch.setattr(module, "end_children", lambda: None)
    module.leave("a: found no heartbeat")
    assert codes == [1]
    assert capfd.readouterr().err == "error: a: found no heartbeat\n"


def test_a_plain_sweep_is_refused_while_workers_are_at_work(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "LEASE", 0.5)
    check_no_worker(tmp_path)  # no worker ever
    claim = Claims(tmp_path, 0.12).take("a")
    with claim, pytest.raises(ConfigError, match="found workers that share the jobs of this sweep"):
        check_no_worker(tmp_path)
    check_no_worker(tmp_path)  # released
    Claims(tmp_path, 0.12).take("a")
    check_no_worker(tmp_path)  # a dead one
