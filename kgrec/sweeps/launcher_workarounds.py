"""Workarounds for faults of two launchers: joblib drops Ctrl-C, submitit gives up waiting."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

log = logging.getLogger(__name__)


@contextlib.contextmanager
def interrupts_kept() -> Iterator[None]:
    """Raises KeyboardInterrupt when the context ends, if Ctrl-C was pressed in it and got lost.

    Python drops an exception that is raised in a finalizer, and joblib runs finalizers when it
    closes its pool of processes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = threading.Event()

    def note(number: int, frame: Any) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    handler = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if interrupted.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def all_submitit_jobs_awaited() -> Iterator[None]:
    """Makes Hydra's submitit launcher wait for all jobs, even if one of them was killed.

    The launcher asks one job after another for its result, and stops at the first job without one.
    Jobs that are still in SLURM's queue would then be submitted a second time.
    """
    try:
        import submitit
    except ImportError:
        yield
        return
    job_class: Any = submitit.Job
    results = job_class.results

    def results_or_none(job: Any) -> Any:
        try:
            return results(job)
        except Exception as error:  # of many kinds: killed, out of time, refused
            log.debug("a job has no result: %s", error)
            return [None]

    job_class.results = results_or_none
    try:
        yield
    finally:
        job_class.results = results
