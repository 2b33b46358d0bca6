"""A sweep's folder: which jobs it has, and how each of them stands, from its files alone.

``sweep.json`` says what was asked for; every job has a run folder under it, named by what it
varies.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from kgrec.errors import DataError
from kgrec.files import write_json
from kgrec.runs.folder import RunFolder
from kgrec.runs.status import held, read_status

FILE = "sweep.json"
LONGEST_NAME = 160  # characters; file systems end at 255 bytes

WAITING, RUNNING, FINISHED = "waiting", "running", "finished"
FAILED, INTERRUPTED = "failed", "interrupted"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        name: of its folder.
        overrides: all that it sets.
        varied: those of the settings that jobs of the sweep may differ in.
    """

    name: str
    overrides: tuple[str, ...]
    varied: dict[str, str]

    @classmethod
    def of(cls, overrides: Sequence[str], keys: Sequence[str]) -> Job:
        """Names a job by what it varies.

        Args:
            overrides: such as ``model.K=8``.
            keys: those that are varied.
        """
        values = dict(override.split("=", 1) for override in overrides)
        varied = {key: values[key] for key in keys}
        return cls(folder_name([f"{k}={v}" for k, v in varied.items()]), tuple(overrides), varied)


def shared(job: Job, keys: Sequence[str]) -> dict[str, str]:
    """What a job sets that is not varied, key to value."""
    values = dict(override.split("=", 1) for override in job.overrides)
    return {key: value for key, value in values.items() if key not in keys}


def folder_name(words: Sequence[str]) -> str:
    """A name that every file system takes, another one for other words."""
    plain = ",".join(words) or "run"
    name = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", plain.replace("/", "-"))
    if name == plain and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(plain.encode()).hexdigest()[:8]
    return f"{name[:LONGEST_NAME]}-{digest}"


@dataclass(frozen=True)
class State:
    """How a job stands.

    Attributes:
        job: which.
        folder: where it lies.
        state: waiting, running, finished, failed or interrupted (its process has gone, and the job
            can go on).
        status: state of the run; see :mod:`kgrec.runs.status`.
        metrics: all metrics; empty before the end.
    """

    job: Job
    folder: Path
    state: str
    status: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, job: Job, folder: Path) -> State:
        """Reads a job's folder, if there is one."""
        status = read_status(folder)
        files = RunFolder(folder)
        if files.finished:
            return cls(job, folder, FINISHED, status, files.metrics())
        known = status.get("state", WAITING)
        if known == RUNNING and held(folder):
            return cls(job, folder, RUNNING, status)
        # Without its process and its figures it was cut short, whatever it last said.
        known = INTERRUPTED if known in (RUNNING, FINISHED) else known
        return cls(job, folder, known, status)

    @property
    def ended(self) -> bool:
        """Whether nothing will come of it without a new command."""
        return self.state in (FINISHED, FAILED)

    @property
    def monitor(self) -> str:
        """The validation figure by which it is judged."""
        return str(self.status.get("monitor") or "val/auc")

    @property
    def validation(self) -> float | None:
        """The best validation figure so far."""
        if self.state == FINISHED:
            return self.metrics.get(self.monitor)
        return self.status.get("best")

    @property
    def seconds(self) -> float | None:
        """Of all sittings."""
        return self.status.get("seconds")


@dataclass(frozen=True)
class SweepFolder:
    """What a sweep leaves.

    Attributes:
        path: the folder.
        about: sweep.json: ``words`` (what tells it from other sweeps), ``commands`` (as typed, the
            latest last), ``keys`` (varied), ``shared`` (set for all jobs), ``jobs``, ``planned``
            (how many in all), ``started``, ``finished``, ``monitor``.
    """

    path: Path
    about: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> SweepFolder:
        """Reads a folder.

        Raises:
            DataError: it is no sweep's.
        """
        try:
            about = json.loads((path / FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path / FILE}: found no readable file, expected that of a sweep ({error})"
            ) from error
        if not isinstance(about, dict) or not {"words", "jobs", "keys", "monitor"} <= about.keys():
            raise DataError(
                f"{path / FILE}: found a file that is no sweep's, expected one with words, keys, "
                "jobs and monitor"
            )
        return cls(path, about)

    @classmethod
    def open(
        cls, path: Path, words: Sequence[str], typed: Sequence[str], jobs: Sequence[Job],
        keys: Sequence[str], monitor: str, planned: int | None = None,
    ) -> SweepFolder:  # fmt: skip
        """Begins a sweep, or goes on with one; the jobs that it had before stay.

        Args:
            path: its folder.
            words: the overrides that tell it from other sweeps.
            typed: all overrides of the command.
            jobs: to be done.
            keys: settings that are varied.
            monitor: the validation figure by which jobs are compared.
            planned: how many jobs there will be in all; None: these.
        """
        known = cls.read(path).about if (path / FILE).is_file() else {}
        listed = {job["name"]: job for job in known.get("jobs", [])}
        listed |= {
            job.name: {"name": job.name, "overrides": job.overrides, "varied": job.varied}
            for job in jobs
        }
        before = [command for command in known.get("commands", []) if command != list(typed)]
        about = {
            "words": list(words),
            "commands": [*before, list(typed)],
            "keys": list(keys),
            "shared": shared(jobs[0], keys),
            "monitor": monitor,
            "started": known.get("started") or _now(),
            "finished": None,
            "planned": max(planned or 0, len(listed)),
            "jobs": list(listed.values()),
        }
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / FILE, about)
        return cls(path, about)

    def close(self) -> None:
        """Notes that nothing is left to do."""
        write_json(self.path / FILE, self.about | {"finished": _now()})

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether all its jobs have been finished."""
        return self.about.get("finished") is not None

    @property
    def keys(self) -> list[str]:
        """Settings that are varied."""
        return list(self.about["keys"])

    @property
    def monitor(self) -> str:
        """The validation figure by which jobs are compared."""
        return str(self.about["monitor"])

    @property
    def planned(self) -> int:
        """How many jobs there will be in all."""
        return max(int(self.about.get("planned") or 0), len(self.jobs))

    @property
    def command(self) -> str:
        """What was typed last."""
        typed = (self.about.get("commands") or [self.about["words"]])[-1]
        return shlex.join(["python", "train.py", "-m", *typed])

    @property
    def plain_command(self) -> str:
        """The same without what says where and side by side with what jobs run."""
        return shlex.join(["python", "train.py", "-m", *self.about["words"]])

    @cached_property
    def jobs(self) -> list[Job]:
        """All that it has."""
        return [Job(j["name"], tuple(j["overrides"]), j["varied"]) for j in self.about["jobs"]]

    def folder(self, job: Job) -> Path:
        """Where a job's run lies."""
        return self.path / job.name

    def states(self) -> list[State]:
        """How every job stands now."""
        return [State.read(job, self.folder(job)) for job in self.jobs]


def best(states: Sequence[State]) -> State | None:
    """The finished job with the highest validation figure."""
    known = [s for s in states if s.state == FINISHED and s.validation is not None]
    return max(known, key=lambda s: s.validation or 0.0, default=None)


def rows_of(job: Job) -> tuple[str, ...]:
    """What sets a job's rows apart, seeds left aside: figures on other rows are not compared."""
    groups = ("dataset", "protocol", "split")
    varied = job.varied.items()
    return tuple(f"{k}={v}" for k, v in varied if k.partition(".")[0] in groups)


def best_jobs(states: Sequence[State]) -> set[str]:
    """Names of the best finished jobs, one for each data set, protocol and split."""
    grouped: dict[tuple[str, ...], list[State]] = {}
    for state in states:
        grouped.setdefault(rows_of(state.job), []).append(state)
    found = (best(group) for group in grouped.values())
    return {state.job.name for state in found if state is not None}


def unfinished_like(parent: Path, words: Sequence[str]) -> Path | None:
    """The latest sweep in a folder that was asked for with the same words and is not finished."""
    for path in sorted(parent.glob(f"*/{FILE}"), key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            sweep = SweepFolder.read(path.parent)
        except DataError:
            continue
        if not sweep.finished and sweep.about.get("words") == list(words):
            return path.parent
    return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
