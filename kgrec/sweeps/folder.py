"""The folder of a sweep.

``sweep.json`` has the commands and the list of jobs. Each job has a run folder in the
sweep's folder, named by the values that the job varies.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from kgrec.errors import DataError
from kgrec.files import inside, make_folder, write_json
from kgrec.runs.reading import read_json
from kgrec.runs.schema import SWEEP
from kgrec.sweeps.state import Job, State, shared_overrides

FILE = "sweep.json"


@dataclass(frozen=True)
class SweepFolder:
    """A sweep's folder and the content of its ``sweep.json``.

    Attributes:
        path: the folder.
        content: content of sweep.json: ``words`` (overrides that identify the sweep), ``commands``
            (overrides of every command as typed, the latest last), ``keys`` (varied keys),
            ``shared`` (overrides of all jobs), ``jobs``, ``planned`` (number of jobs in all),
            ``started``, ``finished``, ``monitor``.
    """

    path: Path
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> SweepFolder:
        """Reads the folder of a sweep.

        Raises:
            DataError: the folder is not that of a sweep.
        """
        content = read_json(path / FILE, SWEEP)
        for job in content["jobs"]:
            inside(path, job["name"], f"{path / FILE}: job")
        return cls(path, content)

    @classmethod
    def open(
        cls, path: Path, identifying: Sequence[str], typed: Sequence[str], jobs: Sequence[Job],
        keys: Sequence[str], monitor: str, planned: int | None = None,
    ) -> SweepFolder:  # fmt: skip
        """Starts or resumes a sweep; jobs that the folder lists already stay listed.

        Args:
            path: folder of the sweep.
            identifying: overrides that identify the sweep.
            typed: all overrides of the command.
            jobs: jobs to run.
            keys: keys that are varied.
            monitor: validation metric by which jobs are compared.
            planned: number of jobs in all; None: the number of listed jobs.
        """
        before = cls.read(path).content if (path / FILE).is_file() else {}
        listed = {job["name"]: job for job in before.get("jobs", [])}
        listed |= {
            job.name: {"name": job.name, "overrides": job.overrides, "varied": job.varied}
            for job in jobs
        }
        commands = [command for command in before.get("commands", []) if command != list(typed)]
        content = {
            "words": list(identifying),
            "commands": [*commands, list(typed)],
            "keys": list(keys),
            "shared": shared_overrides(jobs[0], keys),
            "monitor": monitor,
            "started": before.get("started") or _now(),
            "finished": None,
            "planned": max(planned or 0, len(listed)),
            "jobs": list(listed.values()),
        }
        make_folder(path)
        write_json(path / FILE, content)
        return cls(path, content)

    def close(self) -> None:
        """Records that the sweep is finished."""
        write_json(self.path / FILE, self.content | {"finished": _now()})

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether the sweep has ended with all its jobs finished."""
        return self.content.get("finished") is not None

    @property
    def keys(self) -> list[str]:
        """Keys that are varied."""
        return list(self.content["keys"])

    @property
    def monitor(self) -> str:
        """The validation metric by which jobs are compared."""
        return str(self.content["monitor"])

    @property
    def planned(self) -> int:
        """Number of jobs in all."""
        return max(int(self.content.get("planned") or 0), len(self.jobs))

    @property
    def command(self) -> str:
        """The latest command as typed."""
        typed = (self.content.get("commands") or [self.content["words"]])[-1]
        return shlex.join(["python", "train.py", "-m", *typed])

    @property
    def plain_command(self) -> str:
        """The command without the sweep's name and the launcher."""
        return shlex.join(["python", "train.py", "-m", *self.content["words"]])

    @cached_property
    def jobs(self) -> list[Job]:
        """All jobs."""
        return [Job(j["name"], tuple(j["overrides"]), j["varied"]) for j in self.content["jobs"]]

    def folder(self, job: Job) -> Path:
        """The run folder of a job."""
        return inside(self.path, job.name, str(self.path / FILE))

    def states(self) -> list[State]:
        """The current state of every job."""
        return [State.read(job, self.folder(job)) for job in self.jobs]


def sweeps_of(parent: Path, overrides: Sequence[str]) -> Iterator[SweepFolder]:
    """Sweeps under ``parent`` that these overrides identify, latest first."""
    for path in sorted(parent.glob(f"*/{FILE}"), key=lambda p: p.stat().st_mtime, reverse=True):
        try:
            sweep = SweepFolder.read(path.parent)
        except DataError:
            continue
        if sweep.content.get("words") == list(overrides):
            yield sweep


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
