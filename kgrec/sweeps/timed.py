"""Commands of kgrec in processes of their own, within a budget of time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from kgrec.interrupts import call


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
        try:
            return call(command, clock.left, stdout=log, stderr=subprocess.STDOUT) == 0
        except subprocess.TimeoutExpired:
            return False
