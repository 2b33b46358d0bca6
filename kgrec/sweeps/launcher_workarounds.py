"""Workarounds for launchers.

joblib's processes get Ctrl-C, and need a cloudpickle that Ray's launcher excludes; submitit gives
up waiting; Ray's launcher cannot join a cluster.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

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


def let_ray_join(launcher: DictConfig) -> None:
    """Lets Hydra's Ray launcher join a cluster: it sets a size of memory that Ray then refuses.

    Args:
        launcher: ``hydra.launcher``, which may be changed; other launchers stay as they are.
    """
    if "ray" in launcher and "init" in launcher.ray:
        launcher.ray.init.setdefault("object_store_memory", None)  # Ray's own default


def mismatch_of_joblib() -> str | None:
    """One line if the installed cloudpickle is older than joblib asks for; else None.

    Hydra's Ray launcher excludes cloudpickle 3, which joblib requires from 1.6 on.
    """
    joblib, cloudpickle = version("joblib"), version("cloudpickle")
    if joblib is None or cloudpickle is None or _numbers(joblib) < (1, 6):
        return None
    if _numbers(cloudpickle) >= (3,):
        return None
    return (
        f"cloudpickle: found {cloudpickle} with joblib {joblib}, expected 3 or later: "
        "hydra-ray-launcher has brought the old one; install kgrec[ray] in an environment of its "
        "own, or joblib<1.6 here"
    )


def version(package: str) -> str | None:
    """Version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
