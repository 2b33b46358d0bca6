"""The terminal while jobs run: a bar for each, and a line when one is done.

Jobs run in whatever process the launcher likes, so all is read from their folders.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from kgrec.sweeps.folder import FINISHED, RUNNING, Job, State, SweepFolder

POLL_SECONDS = 0.5
SHOWN = {"AUC": "test/auc", "Recall@20": "test/recall@20"}


def say(text: str) -> None:
    """A line for people, outside the log files of jobs."""
    print(text, flush=True)  # noqa: T201


class Watching:
    """While it lasts, tells how jobs go on.

    Args:
        sweep: whose.
        jobs: those that are launched.
    """

    def __init__(self, sweep: SweepFolder, jobs: Sequence[Job]) -> None:
        self._sweep = sweep
        self._left = list(jobs)
        self._total = sweep.planned
        launched = {job.name for job in jobs}
        self._done = sum(s.ended for s in sweep.states() if s.job.name not in launched)
        self._console = Console(file=sys.stdout, markup=False, highlight=False)
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=24),
            TextColumn("{task.fields[done]}"), TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watching:
        self._progress.start()
        self._whole = self._progress.add_task(
            "jobs", total=self._total, completed=self._done, done=self._of_all(), told=""
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop.set()
        self._thread.join()
        self._look()  # what ended meanwhile
        self._progress.stop()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        for job in list(self._left):
            state = State.read(job, self._sweep.folder(job))
            if state.ended:
                self._left.remove(job)
                self._done += 1
                if (bar := self._bars.pop(job.name, None)) is not None:
                    self._progress.remove_task(bar)
                self._progress.update(self._whole, completed=self._done, done=self._of_all())
                self._console.print(
                    f"{self._done:>4} of {self._total}  {line(state)}", soft_wrap=True
                )
            elif state.state == RUNNING:
                self._show(state)

    def _of_all(self) -> str:
        return f"{self._done} of {self._total}"

    def _show(self, state: State) -> None:
        status = state.status
        best, epoch, epochs = (status.get(key) for key in ("best", "epoch", "epochs"))
        figures: dict[str, Any] = {
            "completed": epoch or 0,
            "total": epochs,
            "done": "" if epochs is None else f"epoch {epoch or 0} of {epochs}",
            "told": "" if best is None else f"{state.monitor} {best:.4f}",
        }
        if state.job.name not in self._bars:
            self._bars[state.job.name] = self._progress.add_task(words(state.job), **figures)
        else:
            self._progress.update(self._bars[state.job.name], **figures)


def counted(jobs: int) -> str:
    """``1 job``, ``8 jobs``."""
    return f"{jobs} job{'' if jobs == 1 else 's'}"


def words(job: Job) -> str:
    """``model.K=8 seed=2019``."""
    return " ".join(f"{key}={value}" for key, value in job.varied.items()) or job.name


def line(state: State) -> str:
    """A job that has ended, and how."""
    told = words(state.job)
    seconds = f"{state.seconds:.0f} s" if state.seconds is not None else ""
    if state.state != FINISHED:
        why = (str(state.status.get("error")).strip().splitlines() or [""])[0]
        return f"{told}: {state.state} after {seconds or '0 s'}: {why}"
    parts = [f"{state.monitor} {state.validation:.4f}"] if state.validation is not None else []
    parts += [f"test {n} {state.metrics[m]:.4f}" for n, m in SHOWN.items() if m in state.metrics]
    return "  ".join([f"{told}:", *parts, seconds]).rstrip()
