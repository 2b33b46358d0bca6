"""The state of a sweep at one moment, read while its jobs write."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import polars as pl

from kgrec.errors import DataError
from kgrec.runs.finished import Run
from kgrec.runs.folder import RunFolder, watched_files
from kgrec.runs.status import held, read_status
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.state import DONE, FINISHED, RUNNING, WAITING, Job, State

# Runs that were read earlier, by folder and by the time at which their metrics were written.
Known = dict[tuple[Path, int], Run]


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        sweep: folder of the sweep.
        states: states of all jobs.
        runs: finished runs, by name of the job.
        live: whether a process runs the sweep.
        now: time of the snapshot.
    """

    sweep: SweepFolder
    states: list[State]
    runs: dict[str, Run]
    live: bool
    now: datetime
    _curves: dict[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def take(cls, path: Path, runs_read: Known | None = None) -> Snapshot:
        """Reads the folder of a sweep; files that a job is writing count as absent.

        Args:
            path: folder of the sweep.
            runs_read: finished runs that were read earlier and are not read again; runs that
                have finished since are added.

        Raises:
            DataError: the folder is not that of a sweep.
        """
        live = held(path)  # read first, because jobs may end during the reading
        sweep = SweepFolder.read(path)
        states = [_state(job, sweep.folder(job)) for job in sweep.jobs]
        live = live or any(state.state == RUNNING for state in states)
        runs = {}
        runs_read = {} if runs_read is None else runs_read
        for state in states:
            if state.state == FINISHED and (run := _run(state.folder, runs_read)) is not None:
                runs[state.job.name] = run
        return cls(sweep, states, runs, live, datetime.now(UTC))

    @property
    def over(self) -> bool:
        """Whether the sweep changes only if a new command runs it."""
        return not self.live and all(state.ended for state in self.states)

    @cached_property
    def counts(self) -> Counter[str]:
        """Jobs by state."""
        return Counter(state.state for state in self.states)

    @cached_property
    def varied(self) -> list[str]:
        """Keys that have more than one value among the jobs."""
        jobs = [state.job.varied for state in self.states]
        return [k for k in self.sweep.keys if len({varied.get(k) for varied in jobs}) > 1]

    def curves(self, state: State) -> pl.DataFrame:
        """One row for each epoch, also of a running job."""
        name = state.job.name
        if name in self.runs:
            return self.runs[name].curves
        if name not in self._curves:
            self._curves[name] = RunFolder(state.folder).curves()
        return self._curves[name]

    @property
    def worked(self) -> float | None:
        """Seconds of work of all jobs together, without idle time."""
        seconds = [state.seconds for state in self.states if state.seconds is not None]
        return sum(seconds) if seconds else None

    @property
    def left(self) -> float | None:
        """Estimated seconds until all jobs have ended, from the jobs that have ended."""
        running = [state for state in self.states if state.state == RUNNING]
        done = [state for state in self.states if state.state in DONE]
        job_seconds = [s.seconds for s in done if s.seconds is not None]
        job_seconds += filter(None, map(_whole, running))
        to_come = self.sweep.planned - len(self.states)
        waiting = sum(not state.ended for state in self.states) - len(running) + to_come
        if not running or not job_seconds:
            return None
        mean = sum(job_seconds) / len(job_seconds)
        running_seconds = sum(max(0.0, (_whole(s) or mean) - (s.seconds or 0.0)) for s in running)
        return (running_seconds + waiting * mean) / len(running)


def fingerprint(path: Path) -> object:
    """A value that changes whenever the page of the sweep would change."""
    stamps: list[object] = [held(path), _stamp(path / "sweep.json"), _stamp(path / "study.db")]
    try:
        sweep = SweepFolder.read(path)
    except DataError:
        return stamps
    for job in sweep.jobs:
        folder = sweep.folder(job)
        stamps.append(_state(job, folder).state)
        stamps += map(_stamp, watched_files(folder))
    return stamps


def _stamp(path: Path) -> object:
    try:
        stat = path.stat()
    except OSError:
        return None
    return path, stat.st_mtime_ns, stat.st_size


def _state(job: Job, folder: Path) -> State:
    try:
        return State.read(job, folder)
    except (OSError, DataError):  # a file is being written
        status = read_status(folder)
        return State(job, folder, RUNNING if held(folder) else WAITING, status)


def _run(folder: Path, runs_read: Known) -> Run | None:
    try:
        key = folder, RunFolder(folder).metrics_file.stat().st_mtime_ns
        if key not in runs_read:
            runs_read[key] = Run.read(folder)
    except (DataError, OSError):
        return None
    return runs_read[key]


def _whole(state: State) -> float | None:
    """Estimated seconds of a running job from its epochs so far; an upper bound."""
    epoch, epochs = state.status.get("epoch"), state.status.get("epochs")
    if not epoch or not epochs or not state.seconds or epochs < epoch:
        return None
    return float(state.seconds * epochs / epoch)
