"""Claims: which worker of a shared sweep runs which job, kept in files of the sweep's folder.

A claim is a folder ``claims/<job>/<number>``. Making a folder succeeds for one process only, on
local and on network disks, so no lock is needed. The worker that has the claim counts in a file of
that folder, its heartbeat. Other workers compare no clocks of two machines: each one watches, by
its own clock, whether the heartbeat changes. If it stands still for the lease, the next number may
be claimed. Folders of earlier claims stay, so no number is claimed twice.

A worker that loses its claim, because it was stopped or cut off for longer than the lease, finds
its heartbeat file removed, and ends at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from kgrec.errors import ConfigError
from kgrec.files import make_folder
from kgrec.interrupts import end_children
from kgrec.sweeps.progress import say

FOLDER, HEARTBEAT = "claims", "heartbeat"
BEATS = 6  # heartbeats in the time of a lease
LEASE = 60.0  # seconds, of a claim that does not say
POLL_SECONDS = 0.5


def leave(message: str) -> NoReturn:
    """Ends the process without writing anything: its job belongs to another worker."""
    end_children()
    with contextlib.suppress(OSError):
        os.write(2, f"error: {message}\n".encode())
    os._exit(1)


def check_no_worker(sweep: Path) -> None:
    """Checks that no worker shares the jobs of a sweep now.

    Raises:
        ConfigError: a worker is at work.
    """
    if Claims(sweep, LEASE).alive():
        raise ConfigError(
            f"{sweep}: found workers that share the jobs of this sweep, expected none (with "
            "hydra.sweeper.shared=true this command is one of them)"
        )


@dataclass
class Claim:
    """A job that this worker has claimed; the context keeps its heartbeat going.

    Attributes:
        path: folder of the claim.
        lease: seconds after which a claim without a heartbeat is lost.
        progress: epochs that the job had when it was claimed.
        deaths: number of claims just before this one whose workers died without progress.
        lost: function that is called with a message when another worker has taken over.
    """

    path: Path
    lease: float
    progress: int = 0
    deaths: int = 0
    lost: Callable[[str], object] = leave
    _beats: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def number(self) -> int:
        """Number of the claim, 1 for the first one of a job."""
        return int(self.path.name)

    def begin(self) -> bool:
        """Writes the first heartbeat; returns whether the claim still holds."""
        with (self.path / HEARTBEAT).open("xb") as file:
            file.write(self._content())
        return not self.path.with_name(str(self.number + 1)).exists()

    def __enter__(self) -> Claim:
        threading.Thread(target=self._keep, name="kgrec-claim", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.release()

    def beat(self) -> None:
        """Writes the next heartbeat over the last one, so that a full disk has room for it.

        Raises:
            FileNotFoundError: another worker has taken over.
            OSError: the disk cannot be written now.
        """
        self._beats += 1
        with (self.path / HEARTBEAT).open("r+b") as file:
            file.write(self._content())
            file.truncate()

    def release(self) -> None:
        """Ends the claim, so that another worker may claim the job at once."""
        if not self._ended.is_set():
            self._ended.set()
            with contextlib.suppress(OSError):
                self.beat()

    def _content(self) -> bytes:
        facts = {
            "host": platform.node(), "pid": os.getpid(), "beats": self._beats, "lease": self.lease,
            "progress": self.progress, "deaths": self.deaths, "released": self._ended.is_set(),
        }  # fmt: skip
        return json.dumps(facts).encode()

    def _keep(self) -> None:
        written = time.monotonic()
        while not self._ended.wait(self.lease / BEATS):
            try:
                self.beat()
                written = time.monotonic()
            except OSError as error:
                gone = isinstance(error, FileNotFoundError)
                if gone or time.monotonic() - written > self.lease:
                    name = self.path.parent.name
                    reason = "" if gone else f" ({error})"
                    self.lost(
                        f"{name}: found no heartbeat of this worker for {self.lease:g} s{reason}, "
                        f"expected one every {self.lease / BEATS:g} s: other workers may run the "
                        "job now, so this one ends"
                    )
                    return


class Claims:
    """The claims of all workers of a sweep.

    Args:
        sweep: folder of the sweep.
        lease: seconds after which a claim without a heartbeat is lost.
        clock: clock of this machine, in seconds.
    """

    def __init__(
        self, sweep: Path, lease: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder, self._lease, self._clock = sweep / FOLDER, lease, clock
        self._seen: dict[str, tuple[object, float]] = {}  # job to its heartbeat, and since when

    def latest(self, job: str) -> int:
        """Number of the latest claim of a job; 0 if there is none."""
        try:
            return max((int(name) for name in os.listdir(self._folder / job)), default=0)
        except FileNotFoundError:
            return 0

    def take(self, job: str, progress: int = 0) -> Claim | None:
        """Claims a job, if no living worker has it.

        Args:
            job: name of the job.
            progress: epochs that the job has finished.

        Returns:
            The claim; None if another worker has the job, or was quicker.
        """
        number, facts = self._state(job)
        if number and not self._over(job, number, facts):
            return None
        make_folder(self._folder / job)
        claim = Claim(self._folder / job / str(number + 1), self._lease, progress)
        if number and not facts.get("released") and facts.get("progress", progress) == progress:
            claim.deaths = int(facts.get("deaths", 0)) + 1
        try:
            claim.path.mkdir()
        except FileExistsError:
            return None
        if number:  # its worker ends, if it is alive after all
            (self._folder / job / str(number) / HEARTBEAT).unlink(missing_ok=True)
        return claim if claim.begin() else None

    def alive(self) -> bool:
        """Whether a worker is at work; watches claims that were not released for the lease."""
        try:
            jobs = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return False
        first = {job: self._state(job) for job in jobs}
        jobs = [job for job in jobs if not self._over(job, *first[job])]
        if jobs:
            say(f"found jobs of workers in {self._folder}; watching whether these are alive")
        while jobs:
            time.sleep(POLL_SECONDS)
            states = {job: self._state(job) for job in jobs}
            if any(states[job] != first[job] and states[job][1] for job in jobs):
                return True
            jobs = [job for job in jobs if not self._over(job, *states[job])]
        return False

    def _state(self, job: str) -> tuple[int, dict[str, Any]]:
        """Number of the latest claim of a job, and what its heartbeat says."""
        number = self.latest(job)
        return number, self._facts(job, number)

    def _over(self, job: str, number: int, facts: dict[str, Any]) -> bool:
        """Whether a claim was released, or its heartbeat has stood still for the lease."""
        if facts.get("released"):
            return True
        state, now = (number, facts), self._clock()
        before, since = self._seen.get(job, (None, now))
        if state != before:
            self._seen[job] = (state, now)
            return False
        return now - since >= float(facts.get("lease", self._lease))

    def _facts(self, job: str, number: int) -> dict[str, Any]:
        """What the heartbeat of a claim says; empty if there is none, or it is being written."""
        try:
            content = json.loads((self._folder / job / str(number) / HEARTBEAT).read_bytes())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
