"""The worker processes of a server.

uvicorn's supervisor starts them, replaces those that die or hang, and stops them. Here it differs:

- SIGHUP is passed on, and every worker loads the runs anew; uvicorn would restart the workers.
- A worker that cannot start is tried again now and then, and the others serve meanwhile; uvicorn
  would stop them all, or start it again without a pause. If there are no others, the server ends.
- The gauges of a dead worker leave the metrics.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socket import socket

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from kgrec.serving.middleware.monitoring import MULTIPROCESS
from kgrec.serving.processes.hangups import take_hangup

ANSWER_SECONDS = 20  # a worker that gives its supervisor no answer for this time hangs
PING_SECONDS = 1  # time for one answer
RETRY_SECONDS = 10.0  # time until a worker that could not start is tried again
log = logging.getLogger("kgrec.serve")


class Workers(Multiprocess):
    """The supervisor; SIGHUP must be held, see :mod:`kgrec.serving.processes.hangups`.

    Args:
        config: configuration of uvicorn.
        sockets: sockets that listen.
        on_start: function that is called when the first worker has loaded its runs.

    Attributes:
        failure: why the workers could not start; None: they could.
    """

    def __init__(
        self, config: uvicorn.Config, sockets: list[socket], on_start: Callable[[], None]
    ) -> None:
        super().__init__(config, sockets)
        self.failure: str | None = None
        self._on_start, self._started = on_start, False
        self._answered: dict[Process, float] = {}  # when workers that have started last answered
        self._died: dict[Process, float] = {}  # when workers that are not replaced yet died

    def handle_signals(self) -> None:
        """Handles the signals that have arrived."""
        if take_hangup():
            self.handle_hup()
        super().handle_signals()

    def handle_hup(self) -> None:
        """Has every worker load the runs anew, those that are still starting included."""
        for process in self.processes:
            if process.pid is not None and process.exitcode is None:
                os.kill(process.pid, signal.SIGHUP)

    def keep_subprocess_alive(self) -> None:
        """Replaces workers that have died or hang."""
        for index, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if self._lives(process):
                continue
            if process not in self._died:
                self._bury(process)
            could_start = process in self._answered
            if not could_start and all(each in self._died for each in self.processes):
                self.failure = _failure(process)
                self.should_exit.set()
                return
            wait = 0 if could_start else RETRY_SECONDS
            if time.monotonic() >= self._died[process] + wait:
                self.processes[index] = Process(self.config, self.sockets)
                self.processes[index].start()
                self._answered.pop(process, None)
                del self._died[process]

    def terminate_all(self) -> None:
        """Stops the workers; then no connection waits for the supervisor, which accepts none."""
        super().terminate_all()
        for each in self.sockets:
            each.close()

    def _lives(self, process: Process) -> bool:
        """Whether a worker still loads, or has answered not long ago."""
        if not process.process.is_alive():
            return False
        if process not in self._answered:
            if not _file("started", process.pid).exists():
                return True
            self._answered[process] = time.monotonic()
            if not self._started:
                self._started = True
                self._on_start()
        # A worker that dies meanwhile never answers: the time must be short.
        if process.ping(PING_SECONDS):
            self._answered[process] = time.monotonic()
        return time.monotonic() < self._answered[process] + ANSWER_SECONDS

    def _bury(self, process: Process) -> None:
        process.kill()
        process.join()
        self._died[process] = time.monotonic()
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if process in self._answered:
            log.error("worker %s has died (exit code %s)", process.pid, process.exitcode)
        elif self._started:
            log.error("worker %s cannot start: %s", process.pid, _failure(process))


def note_start() -> None:
    """Tells the supervisor that this worker has loaded its runs."""
    _file("started", os.getpid()).touch()


def note_failure(message: str) -> None:
    """Tells the supervisor why this worker cannot start."""
    _file("failure", os.getpid()).write_text(message, encoding="utf-8")


def _file(kind: str, pid: int | None) -> Path:
    """A file of a worker, in the folder of the metrics."""
    return Path(os.environ[MULTIPROCESS], f"{kind}-{pid}.txt")


def _failure(process: Process) -> str:
    """Why a worker could not start."""
    file = _file("failure", process.pid)
    if file.exists():
        return file.read_text(encoding="utf-8")
    return f"worker: found exit code {process.exitcode}, expected a start; the log may say more"


def hang_up_supervisor() -> None:
    """Has the supervisor of this worker pass SIGHUP on."""
    supervisor = multiprocessing.parent_process()
    if supervisor is not None and supervisor.pid is not None and supervisor.is_alive():
        os.kill(supervisor.pid, signal.SIGHUP)


def end_with_supervisor() -> None:
    """Stops this worker when its supervisor has died, so that nobody holds the port."""

    def wait() -> None:
        supervisor = multiprocessing.parent_process()
        if supervisor is not None:
            supervisor.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="kgrec-supervisor", daemon=True).start()
