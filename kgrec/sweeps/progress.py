"""The terminal while jobs run: one bar per running job, and one line when a job ends.

Jobs run in processes of the launcher, so everything is read from their folders.
"""

from __future__ import annotations

import re
import sys
import textwrap
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn

from kgrec.errors import printable
from kgrec.evaluation.collapse import mark
from kgrec.reports.console import terminal_width
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.state import FINISHED, PRUNED, RUNNING, Job, State

POLL_SECONDS = 0.5
SHOWN = {"test AUC": "test/auc", "Recall@20": "test/recall@20"}
# Columns of a terminal that suffice for the metric, and for a bar too.
MEDIUM, WIDE = 76, 100
BAR_WIDTH = 24
NO_BREAK_SPACE = "\u00a0"
PIPED_WIDTH = 120  # characters, where the output goes to a file


def say(text: str) -> None:
    """Prints lines that belong to the sweep, not to the log file of a job."""
    if sys.stdout.isatty():
        width = terminal_width()
        text = "\n".join(wrapped(text_line, width) for text_line in text.split("\n"))
    print(printable(text), flush=True)  # noqa: T201


class Watching:
    """Shows the progress of jobs while the context lasts.

    Args:
        sweep: folder of the sweep.
        jobs: jobs that are launched.
    """

    def __init__(self, sweep: SweepFolder, jobs: Sequence[Job]) -> None:
        self._sweep = sweep
        self._open = list(jobs)
        self._total = sweep.planned
        launched = {job.name for job in jobs}
        self._ended = sum(s.ended for s in sweep.states() if s.job.name not in launched)
        self._console = Console(file=sys.stdout, markup=False, highlight=False)
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            *_columns(self._console.width), console=self._console, transient=True,
            disable=not self._console.is_terminal,
        )  # fmt: skip
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watching:
        self._progress.start()
        self._all_jobs = self._progress.add_task(
            "jobs", total=self._total, completed=self._ended, done=self._ended_of_all(), metric=""
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop.set()
        self._thread.join()
        self._look()  # jobs that have ended since the last look
        self._progress.stop()

    def _watch(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        for job in list(self._open):
            state = State.read(job, self._sweep.folder(job))
            if state.ended:
                self._open.remove(job)
                self._ended += 1
                if (bar := self._bars.pop(job.name, None)) is not None:
                    self._progress.remove_task(bar)
                self._progress.update(
                    self._all_jobs, completed=self._ended, done=self._ended_of_all()
                )
                text = f"{self._ended:>4} of {self._total}  {line(state)}"
                if self._console.is_terminal:
                    text = wrapped(text, self._console.width)
                self._console.print(text, soft_wrap=True)
            elif state.state == RUNNING:
                self._show(state)

    def _ended_of_all(self) -> str:
        return f"{self._ended} of {self._total}"

    def _show(self, state: State) -> None:
        status = state.status
        best, epoch, epochs = (status.get(key) for key in ("best", "epoch", "epochs"))
        fields: dict[str, Any] = {
            "completed": epoch or 0,
            "total": epochs,
            "done": "" if epochs is None else f"epoch {epoch or 0} of {epochs}",
            "metric": "" if best is None else f"{state.monitor} {best:.4f}",
        }
        if state.job.name not in self._bars:
            self._bars[state.job.name] = self._progress.add_task(
                _short(words(state.job), self._console.width), **fields
            )
        else:
            self._progress.update(self._bars[state.job.name], **fields)


def _columns(width: int) -> list[ProgressColumn]:
    """Columns of the bars; a narrow terminal shows neither the bar itself nor the metric."""
    fields = ["done", "metric"] if width >= MEDIUM else ["done"]
    cells = [TextColumn(f"{{task.fields[{field}]}}", markup=False) for field in fields]
    bar = [BarColumn(bar_width=BAR_WIDTH)] if width >= WIDE else []
    name = TextColumn("{task.description}", markup=False)
    return [name, *bar, *cells, TimeElapsedColumn()]


def _short(name: str, width: int) -> str:
    """The name of a job, cut to the width that the other columns leave."""
    others = len("epoch 100 of 100  0:00:00 ")
    others += len("val/recall@20 0.1234 ") * (width >= MEDIUM) + (BAR_WIDTH + 1) * (width >= WIDE)
    return name if len(name) <= width - others else f"{name[: width - others - 1]}…"


def wrapped(text: str, width: int) -> str:
    """Text in lines of at most ``width`` characters, all but the first indented.

    A number stays with its name and its unit, and a path is not broken.
    """
    if len(text) <= width:
        return text
    joined = re.sub(r"(?<! ) (?=\d|s$)", NO_BREAK_SPACE, text)
    lines = textwrap.wrap(
        joined, width, subsequent_indent=" " * 6, break_on_hyphens=False, break_long_words=False
    )
    return "\n".join(lines).replace(NO_BREAK_SPACE, " ")


def counted(jobs: int) -> str:
    """``1 job``, ``8 jobs``."""
    return f"{jobs} job{'' if jobs == 1 else 's'}"


def words(job: Job) -> str:
    """``model.K=8 seed=2019``."""
    return " ".join(f"{key}={value}" for key, value in job.varied.items()) or job.name


def line(state: State) -> str:
    """One line on a job that has ended: its settings, metrics and time, or its error."""
    name = words(state.job)
    seconds = f"{state.seconds:.0f} s" if state.seconds is not None else ""
    parts = [f"{state.monitor} {state.validation:.4f}"] if state.validation is not None else []
    if state.state == PRUNED:
        epochs = f"pruned after epoch {state.status.get('epoch')} of {state.status.get('epochs')}"
        return "  ".join([f"{name}:", *parts, epochs, seconds])
    if state.state != FINISHED:
        error = (str(state.status.get("error")).strip().splitlines() or [""])[0]
        return f"{name}: {state.state} after {seconds or '0 s'}: {error}"
    parts += [f"{n} {state.metrics[m]:.4f}" for n, m in SHOWN.items() if m in state.metrics]
    return "  ".join(filter(None, [f"{name}:", *parts, mark(state.metrics), seconds]))
