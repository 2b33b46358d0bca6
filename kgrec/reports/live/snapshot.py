"""A sweep as it stands at one moment, read while its jobs write."""

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
from kgrec.sweeps.folder import FINISHED, RUNNING, WAITING, Job, State, SweepFolder

# Runs that were read before, by folder and the time at which their metrics were written.
Known = dict[tuple[Path, int], Run]


@dataclass(frozen=True)
class Snapshot:
    """A sweep at one moment.

    Attributes:
        sweep: its folder.
        states: of all jobs.
        runs: of those that are finished, by job.
        live: whether a process is at work on it.
        now: when.
    """

    sweep: SweepFolder
    states: list[State]
    runs: dict[str, Run]
    live: bool
    now: datetime
    _curves: dict[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def take(cls, path: Path, known: Known | None = None) -> Snapshot:
        """Reads a sweep's folder. What a job is writing counts as not there yet.

        Args:
            path: the folder.
            known: finished runs that were read before, which are not read again; kept up to date.

        Raises:
            DataError: it is no sweep's.
        """
        live = held(path)  # first: later, jobs may have ended
        sweep = SweepFolder.read(path)
        states = [_state(job, sweep.folder(job)) for job in sweep.jobs]
        live = live or any(state.state == RUNNING for state in states)
        runs = {}
        known = {} if known is None else known
        for state in states:
            if state.state == FINISHED and (run := _run(state.folder, known)) is not None:
                runs[state.job.name] = run
        return cls(sweep, states, runs, live, datetime.now(UTC))

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it without a new command."""
        return not self.live and all(state.ended for state in self.states)

    @cached_property
    def counts(self) -> Counter[str]:
        """Jobs by state."""
        return Counter(state.state for state in self.states)

    @cached_property
    def varied(self) -> list[str]:
        """Settings of which jobs have more than one value."""
        jobs = [state.job.varied for state in self.states]
        return [k for k in self.sweep.keys if len({varied.get(k) for varied in jobs}) > 1]

    def curves(self, state: State) -> pl.DataFrame:
        """One row an epoch; of a running job too."""
        name = state.job.name
        if name in self.runs:
            return self.runs[name].curves
        if name not in self._curves:
            self._curves[name] = RunFolder(state.folder).curves()
        return self._curves[name]

    @property
    def worked(self) -> float | None:
        """Seconds that all jobs took together so far, however long the sweep lay idle."""
        known = [state.seconds for state in self.states if state.seconds is not None]
        return sum(known) if known else None

    @property
    def left(self) -> float | None:
        """Seconds until all jobs have ended, if they take as long as those that have."""
        running = [state for state in self.states if state.state == RUNNING]
        done = [s.seconds for s in self.states if s.state == FINISHED and s.seconds is not None]
        whole = [*done, *filter(None, map(_whole, running))]
        to_come = self.sweep.planned - len(self.states)
        waiting = sum(not state.ended for state in self.states) - len(running) + to_come
        if not running or not whole:
            return None
        mean = sum(whole) / len(whole)
        rest = sum(max(0.0, (_whole(s) or mean) - (s.seconds or 0.0)) for s in running)
        return (rest + waiting * mean) / len(running)


def fingerprint(path: Path) -> object:
    """What differs where a page on the sweep would."""
    found: list[object] = [held(path), _stamp(path / "sweep.json"), _stamp(path / "study.db")]
    try:
        sweep = SweepFolder.read(path)
    except DataError:
        return found
    for job in sweep.jobs:
        folder = sweep.folder(job)
        found.append(_state(job, folder).state)
        found += map(_stamp, watched_files(folder))
    return found


def _stamp(path: Path) -> object:
    try:
        about = path.stat()
    except OSError:
        return None
    return path, about.st_mtime_ns, about.st_size


def _state(job: Job, folder: Path) -> State:
    try:
        return State.read(job, folder)
    except (OSError, DataError):  # a file is being written
        status = read_status(folder)
        return State(job, folder, RUNNING if held(folder) else WAITING, status)


def _run(folder: Path, known: Known) -> Run | None:
    try:
        key = folder, RunFolder(folder).metrics_file.stat().st_mtime_ns
        if key not in known:
            known[key] = Run.read(folder)
    except (DataError, OSError):
        return None
    return known[key]


def _whole(state: State) -> float | None:
    """Seconds that a running job takes in all, by the epochs that are done; at most."""
    epoch, epochs = state.status.get("epoch"), state.status.get("epochs")
    if not epoch or not epochs or not state.seconds or epochs < epoch:
        return None
    return float(state.seconds * epochs / epoch)
