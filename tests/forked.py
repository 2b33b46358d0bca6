"""Commands in processes of their own, forked from a process that has imported everything."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from kgrec.interrupts import ends_in_one_line

PATIENCE = 300  # seconds; a loaded machine takes long
MODULES = (
    "kgrec.commands.train", "kgrec.pipeline.in_process", "kgrec.pipeline.run", "kgrec.sweeps.job",
    "kgrec.sweeps.search", "hydra_plugins.kgrec_sweepers", "optuna", "wandb", "rich.progress",
)  # fmt: skip


class Command:
    """A command that runs in a session of its own.

    Args:
        folder: folder to run in, which is made.
        words: arguments.
        program: name of the program: "kgrec", or "train.py".
    """

    def __init__(self, folder: Path, *words: str, program: str = "train.py") -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(MODULES))
        folder.mkdir(parents=True, exist_ok=True)
        self.output = folder / f"output-{time.monotonic_ns()}.txt"
        self.process = context.Process(
            target=_run, args=(words, str(folder), str(self.output), program)
        )
        self.process.start()

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""

    def signal(self, number: int = signal.SIGINT) -> None:
        """Sends a signal as a terminal does: to the process and its children."""
        assert self.process.pid is not None
        os.killpg(self.process.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int | None:
        """Waits for the end; returns the exit code, or None where the command still runs."""
        self.process.join(seconds)
        return self.process.exitcode

    def wait_for(self, condition: Callable[[], bool]) -> None:
        begin = time.monotonic()
        while not condition() and self.process.exitcode is None:
            assert time.monotonic() - begin < PATIENCE
            time.sleep(0.01)

    def processes(self) -> list[str]:
        """Processes of the command that run now."""
        return [str(p) for p in psutil.process_iter() if _session(p) == self.process.pid]

    def remaining(self) -> list[str]:
        """Processes of the command that still run; some take a moment to end."""
        for _ in range(100):
            if not self.processes():
                break
            time.sleep(0.05)
        return self.processes()


class Loaders:
    """Processes that load a data set through one cache; all begin at the same moment.

    Args:
        number: number of processes.
        root: folder of the raw files.
        cache: folder of the cache.
        times: how often each process loads.
    """

    def __init__(self, number: int, root: Path, cache: Path, times: int = 1) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(MODULES))
        # Both are kept: a semaphore ends with the last object of this process that names it.
        self._begin, self._queue = context.Barrier(number), context.SimpleQueue()
        arguments = (self._begin, self._queue, str(root), str(cache), times)
        self._processes = [context.Process(target=_load, args=arguments) for _ in range(number)]
        for process in self._processes:
            process.start()

    def running(self) -> bool:
        return any(process.is_alive() for process in self._processes)

    def results(self) -> list[tuple[int, int, int]]:
        """Of each process: users, positives, and how often the process has prepared the data."""
        for process in self._processes:
            process.join(PATIENCE)
        assert [process.exitcode for process in self._processes] == [0] * len(self._processes)
        return [self._queue.get() for _ in self._processes]


def _load(begin: Any, queue: Any, root: str, cache: str, times: int) -> None:
    from kgrec.data import loading

    prepared, prepare = 0, loading.prepare

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal prepared
        prepared += 1
        return prepare(*arguments, **settings)

    loading.prepare = counted
    begin.wait(PATIENCE)
    for _ in range(times):
        data = loading.load("toy", [], root, "data", None, "drop", 1, cache=cache)
    queue.put((data.counts()["users"], len(data.positives), prepared))


def _session(process: psutil.Process) -> int | None:
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE
        return None if ended else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None


def _run(words: tuple[str, ...], folder: str, output: str, program: str) -> None:
    os.setsid()
    os.chdir(folder)
    opened = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(opened, 1)
    os.dup2(opened, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    sys.argv = [program, *words]
    code = 0
    try:
        with ends_in_one_line(whole_process=True):
            if program == "kgrec":
                from kgrec.cli import main
            else:
                from kgrec.commands.train import main
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        code = 1
    # As Python ends a process, without what multiprocessing adds.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)
