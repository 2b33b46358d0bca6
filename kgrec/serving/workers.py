"""The worker processes of a server.

uvicorn's supervisor starts them, replaces those that die or hang, and stops them. Here it differs:

- SIGHUP is passed on, and every worker loads the runs anew; uvicorn would restart the workers.
- Once the server has started, a worker that cannot start is tried again now and then, and the
  others serve meanwhile; uvicorn would stop them all, or start it again without a pause.
- The gauges of a dead worker leave the metrics.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from socket import socket

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from kgrec.serving.hangups import take_hangup
from kgrec.serving.monitoring import MULTIPROCESS

ANSWER_SECONDS = 20  # time for a worker to answer its supervisor
RETRY_SECONDS = 10.0  # time until a worker that could not start is tried again
log = logging.getLogger("kgrec.serve")


class Workers(Multiprocess):
    """The supervisor; SIGHUP must be held, see :mod:`kgrec.serving.hangups`.

    Args:
        config: configuration of uvicorn.
        sockets: sockets that listen.

    Attributes:
        failure: why the workers could not start; None: they could.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self.failure: str | None = None
        self._started = False
        self._served: set[Process] = set()  # processes that have been ready
        self._died: dict[Process, float] = {}

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
            if not self._started:
                self.failure = _failure(process)
                self.should_exit.set()
                return
            wait = 0 if process in self._served else RETRY_SECONDS
            if time.monotonic() >= self._died[process] + wait:
                self.processes[index] = Process(self.config, self.sockets)
                self.processes[index].start()
                self._served.discard(process)
                del self._died[process]

    def terminate_all(self) -> None:
        """Stops the workers; then no connection waits for the supervisor, which accepts none."""
        super().terminate_all()
        for each in self.sockets:
            each.close()

    def _lives(self, process: Process) -> bool:
        if not process.process.is_alive():
            return False
        if process.is_ready(ANSWER_SECONDS):
            self._served.add(process)
            self._started = True
            return True
        return process not in self._served  # it still loads

    def _bury(self, process: Process) -> None:
        process.kill()
        process.join()
        self._died[process] = time.monotonic()
        mark_process_dead(process.pid)  # type: ignore[no-untyped-call]
        if process in self._served:
            log.error("worker %s has died (exit code %s)", process.pid, process.exitcode)
        elif self._started:
            log.error("worker %s cannot start: %s", process.pid, _failure(process))


def note_failure(message: str) -> None:
    """Keeps the error of this worker's start for the supervisor."""
    _failure_file(os.getpid()).write_text(message, encoding="utf-8")


def _failure_file(pid: int | None) -> Path:
    """The file with the error of a worker's start; it is in the folder of the metrics."""
    return Path(os.environ[MULTIPROCESS], f"failure-{pid}.txt")


def _failure(process: Process) -> str:
    """Why a worker has died."""
    file = _failure_file(process.pid)
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
