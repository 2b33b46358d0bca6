"""The jobs of a sweep, the state of each one, and the best setting among them.

A job's state is read only from the files in its run folder.
"""

from __future__ import annotations

import hashlib
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgrec.runs.folder import RunFolder
from kgrec.runs.status import DIVERGED, held, read_status

MAX_NAME_LENGTH = 160  # characters; file systems allow 255 bytes

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
FAILED, INTERRUPTED, PRUNED = "failed", "interrupted", "pruned"
# A job in one of these states is done: the same command does not run it again. A job that has
# diverged would diverge again.
DONE = (FINISHED, PRUNED, DIVERGED)

# Jobs that differ only in these keys have one setting.
SEEDS = ("seed", "dataset.seed")


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: name of the run folder.
        overrides: all overrides of the job.
        varied: values of the keys that the sweep varies.
    """

    name: str
    overrides: tuple[str, ...]
    varied: dict[str, str]

    @classmethod
    def of(cls, overrides: Sequence[str], keys: Sequence[str]) -> Job:
        """Names a job by the values of the varied keys.

        Args:
            overrides: overrides such as ``model.K=8``.
            keys: keys that the sweep varies.
        """
        values = dict(override.split("=", 1) for override in overrides)
        varied = {key: values[key] for key in keys}
        return cls(folder_name([f"{k}={v}" for k, v in varied.items()]), tuple(overrides), varied)

    @property
    def setting(self) -> tuple[str, ...]:
        """The varied values without the seeds."""
        return tuple(f"{k}={v}" for k, v in self.varied.items() if k not in SEEDS)

    @property
    def comparable(self) -> tuple[str, ...]:
        """The varied data set, protocol and split: jobs are compared only if they agree in them."""
        groups = ("dataset", "protocol", "split")
        return tuple(word for word in self.setting if re.split("[.=]", word)[0] in groups)


def shared_overrides(job: Job, keys: Sequence[str]) -> dict[str, str]:
    """Overrides of a job that the sweep does not vary: key to value."""
    values = dict(override.split("=", 1) for override in job.overrides)
    return {key: value for key, value in values.items() if key not in keys}


def folder_name(words: Sequence[str]) -> str:
    """A folder name that every file system accepts; different words give different names."""
    plain = ",".join(words) or "run"
    name = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", plain.replace("/", "-"))
    if name == plain and len(name) <= MAX_NAME_LENGTH:
        return name
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{name[:MAX_NAME_LENGTH]}-{digest}"


@dataclass(frozen=True)
class State:
    """The state of one job.

    Attributes:
        job: the job.
        folder: run folder.
        state: waiting, running, finished, pruned (stopped early, because other trials of the search
            are better), diverged (its numbers were no longer finite), failed or interrupted (its
            process has gone and the job can be resumed).
        status: content of status.json; see :mod:`kgrec.runs.status`.
        metrics: all metrics; empty until the job is finished.
    """

    job: Job
    folder: Path
    state: str
    status: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, job: Job, folder: Path) -> State:
        """Reads the run folder of a job; the folder need not exist."""
        status = read_status(folder)
        files = RunFolder(folder)
        if files.finished:
            return cls(job, folder, FINISHED, status, files.metrics())
        state = status.get("state", WAITING)
        if state == RUNNING and held(folder):
            return cls(job, folder, RUNNING, status)
        # A job without process and metrics was cut short, even if its status says otherwise.
        state = INTERRUPTED if state in (RUNNING, FINISHED) else state
        return cls(job, folder, state, status)

    @property
    def ended(self) -> bool:
        """Whether the job changes only if a new command runs it."""
        return self.state in (*DONE, FAILED)

    @property
    def monitor(self) -> str:
        """The validation metric by which jobs are compared."""
        return str(self.status.get("monitor") or "val/auc")

    @property
    def validation(self) -> float | None:
        """The best validation value so far."""
        if self.state == FINISHED:
            return self.metrics.get(self.monitor)
        return self.status.get("best")

    @property
    def seconds(self) -> float | None:
        """Seconds at work, resumed parts included."""
        return self.status.get("seconds")


def best(states: Sequence[State]) -> State | None:
    """The finished job with the highest validation value."""
    finished = [s for s in states if s.state == FINISHED and s.validation is not None]
    return max(finished, key=lambda s: s.validation or 0.0, default=None)


def best_jobs(states: Sequence[State]) -> set[str]:
    """Names of the jobs of the best setting, for each data set, protocol and split.

    A setting is judged by its mean validation value over seeds. Where a data set has one setting
    only, as in a sweep over seeds, there is nothing to choose and no job is the best.
    """
    settings: dict[tuple[str, ...], dict[tuple[str, ...], list[State]]] = {}
    for state in states:
        group = settings.setdefault(state.job.comparable, {})
        group.setdefault(state.job.setting, []).append(state)
    names: set[str] = set()
    for group in settings.values():
        means = {
            setting: statistics.fmean(values)
            for setting, members in group.items()
            if (values := _validations(members))
        }
        if len(group) > 1 and means:
            top = group[max(means, key=means.__getitem__)]
            names |= {state.job.name for state in top if state.state == FINISHED}
    return names


def _validations(states: Sequence[State]) -> list[float]:
    finished = (s.validation for s in states if s.state == FINISHED)
    return [value for value in finished if value is not None]
