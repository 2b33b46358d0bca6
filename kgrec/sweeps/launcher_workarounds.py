"""Workarounds for two launchers: joblib's processes get Ctrl-C, submitit gives up waiting."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from kgrec.interrupts import held_back

log = logging.getLogger(__name__)


@contextlib.contextmanager
def held_back_from_workers() -> Iterator[None]:
    """Makes processes that joblib starts ignore Ctrl-C, which a terminal sends to them, too.

    They would print stack traces. This process ends them.
    """
    try:
        from joblib.externals.loky.backend import fork_exec as module
    except ImportError:  # another version of joblib, or Windows
        yield
        return
    start: Any = module.fork_exec

    def start_without_ctrl_c(*arguments: Any, **options: Any) -> Any:
        with held_back():
            return start(*arguments, **options)

    module.fork_exec = start_without_ctrl_c
    try:
        yield
    finally:
        module.fork_exec = start


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
