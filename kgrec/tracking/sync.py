"""Sends finished runs that were logged offline to Weights & Biases."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kgrec.errors import DataError
from kgrec.runs.folder import RunFolder
from kgrec.tracking.access import answers, has_key, server

# Runs in one call of wandb, which sends some side by side.
BATCH = 100


@dataclass(frozen=True)
class OfflineRun:
    """A run folder with what W&B kept in it.

    Attributes:
        folder: the run folder.
        parts: W&B's folders, in the order of time; several where the run was cut short and went on.
    """

    folder: Path
    parts: tuple[Path, ...]

    @property
    def finished(self) -> bool:
        """Whether the run has its results."""
        return RunFolder(self.folder).finished

    @property
    def sent(self) -> bool:
        """Whether wandb has marked all parts as sent."""
        return all(any(part.glob("*.wandb.synced")) for part in self.parts)

    @property
    def state(self) -> str:
        """In a word."""
        return ("sent" if self.sent else "to send") if self.finished else "unfinished"


def offline_runs(places: Sequence[Path]) -> list[OfflineRun]:
    """All offline runs in or under folders.

    Raises:
        DataError: a place is no folder, or there is no such run.
    """
    found: dict[Path, set[Path]] = {}
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: found no such folder, expected one with runs")
        for part in place.resolve().glob("**/wandb/offline-run-*"):
            if any(part.glob("*.wandb")):
                found.setdefault(part.parent.parent, set()).add(part)
    if not found:
        told = ", ".join(map(str, places))
        raise DataError(f"{told}: found no run that was logged offline, expected at least one")
    return [OfflineRun(folder, tuple(sorted(found[folder]))) for folder in sorted(found)]


def list_runs(places: Sequence[Path]) -> None:
    """Prints every offline run and whether it was sent."""
    for each in offline_runs(places):
        print(f"{each.state:<10}  {each.folder}")  # noqa: T201


def send_runs(places: Sequence[Path]) -> None:
    """Sends finished runs that were not sent before, and prints how many.

    Raises:
        DataError: there is no key, the server does not answer, or a run could not be sent.
    """
    runs = offline_runs(places)
    todo = [each for each in runs if each.state == "to send"]
    if todo:
        os.environ.pop("WANDB_MODE", None)  # sending is what was asked for
        if not has_key():
            raise DataError(
                f"W&B: found no key, expected one to send {len(todo)} run(s): log in with "
                "`wandb login`, or set WANDB_API_KEY"
            )
        if not answers(address := server()):
            raise DataError(f"W&B: found no answer from {address}, expected the server to send to")
        for first in range(0, len(todo), BATCH):
            send(todo[first : first + BATCH])
    states = [each.state for each in runs]
    missing = states.count("to send")
    print(  # noqa: T201
        f"{len(todo) - missing} sent, {states.count('sent') - len(todo) + missing} already sent, "
        f"{states.count('unfinished')} left out because unfinished"
    )
    if missing:
        raise DataError(f"{missing} run(s) could not be sent, such as {_first_unsent(runs)}")


def send(runs: Sequence[OfflineRun]) -> None:
    """Hands runs to ``wandb sync``, which sends the parts of one run in the order of time."""
    parts = [str(part) for each in runs for part in each.parts]
    subprocess.run([sys.executable, "-m", "wandb", "sync", *parts], check=False)


def _first_unsent(runs: Sequence[OfflineRun]) -> Path:
    return next(each.folder for each in runs if each.state == "to send")
