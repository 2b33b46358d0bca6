"""Commands of kgrec in processes of their own, within a budget of time."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GRACE = 20.0  # seconds that an interrupted process has to end


class Clock:
    """A budget of time, with what earlier commands have used.

    Args:
        budget: seconds in all.
        spent: seconds that earlier commands have used.
    """

    def __init__(self, budget: float, spent: float = 0.0) -> None:
        self.budget, self._before, self._begin = budget, spent, time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds used so far."""
        return self._before + time.monotonic() - self._begin

    @property
    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(0.0, self.budget - self.spent)


def train(words: Sequence[str], log_file: Path, clock: Clock) -> bool:
    """Runs ``kgrec train`` until it ends or the budget is used up.

    Args:
        words: overrides and options.
        log_file: file to which the output is added.
        clock: the budget.

    Returns:
        Whether the command ended by itself without an error.
    """
    if clock.left <= 0:
        return False
    command = [sys.executable, "-m", "kgrec.cli", "train", *words]
    with log_file.open("a", encoding="utf-8") as log:
        log.write(f"$ kgrec train {' '.join(words)}\n")
        log.flush()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            return process.wait(clock.left) == 0
        except subprocess.TimeoutExpired:
            return False
        except KeyboardInterrupt:  # the terminal has interrupted both processes
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            raise
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Interrupts a process that still runs, so that it can save its state; then kills it."""
    for stop in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            process.send_signal(stop)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
