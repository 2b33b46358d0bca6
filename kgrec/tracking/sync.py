"""Sends finished runs that were logged offline to Weights & Biases."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kgrec.errors import DataError
from kgrec.interrupts import call
from kgrec.runs.folder import RunFolder
from kgrec.tracking.access import answers, key_problem, server

# Runs per call of wandb, which sends several in parallel.
BATCH = 100


@dataclass(frozen=True)
class OfflineRun:
    """A run folder with folders of offline W&B runs.

    Attributes:
        folder: run folder.
        parts: W&B's folders in chronological order; several if the run was resumed.
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
        """One of "sent", "to send" and "unfinished"."""
        return ("sent" if self.sent else "to send") if self.finished else "unfinished"


def offline_runs(places: Sequence[Path]) -> list[OfflineRun]:
    """All offline runs in folders and the folders below them.

    Raises:
        DataError: a folder does not exist, or there is no offline run.
    """
    parts: dict[Path, set[Path]] = {}
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: found no such folder, expected a folder with runs")
        for part in place.resolve().glob("**/wandb/offline-run-*"):
            if any(part.glob("*.wandb")):
                parts.setdefault(part.parent.parent, set()).add(part)
    if not parts:
        names = ", ".join(map(str, places))
        raise DataError(f"{names}: found no run that was logged offline, expected at least one")
    return [OfflineRun(folder, tuple(sorted(parts[folder]))) for folder in sorted(parts)]


def list_runs(places: Sequence[Path]) -> None:
    """Prints every offline run and whether it was sent."""
    for run in offline_runs(places):
        print(f"{run.state:<10}  {run.folder}")  # noqa: T201


def send_runs(places: Sequence[Path]) -> None:
    """Sends finished runs that were not sent before, and prints their number.

    Raises:
        DataError: there is no valid key, the server does not answer, or a run could not be sent.
    """
    runs = offline_runs(places)
    unsent = [run for run in runs if run.state == "to send"]
    if unsent:
        os.environ.pop("WANDB_MODE", None)  # send even if WANDB_MODE says offline
        if problem := key_problem():
            raise DataError(
                f"W&B: {problem}, needed to send {len(unsent)} run(s): log in with "
                "`wandb login`, or set WANDB_API_KEY"
            )
        if not answers(address := server()):
            raise DataError(f"W&B: found no answer from {address}, expected a server to send to")
        for first in range(0, len(unsent), BATCH):
            send(unsent[first : first + BATCH])
    states = [run.state for run in runs]
    failed = states.count("to send")
    print(  # noqa: T201
        f"{len(unsent) - failed} sent, {states.count('sent') - len(unsent) + failed} already sent, "
        f"{states.count('unfinished')} skipped because not finished"
    )
    if failed:
        raise DataError(f"{failed} run(s) could not be sent, such as {_first_unsent(runs)}")


def send(runs: Sequence[OfflineRun]) -> None:
    """Calls ``wandb sync``, which sends the parts of a run in chronological order."""
    parts = [str(part) for run in runs for part in run.parts]
    call([sys.executable, "-m", "wandb", "sync", *parts])


def _first_unsent(runs: Sequence[OfflineRun]) -> Path:
    return next(run.folder for run in runs if run.state == "to send")
