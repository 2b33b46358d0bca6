"""The pool of GPUs and CPU cores that all jobs of a user on one machine share.

A job takes a GPU or a core by locking a file. The operating system releases the lock when the
process ends, however it ends, so a killed job leaves nothing to clean up.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from kgrec.errors import ConfigError
from kgrec.training.memory import CORES

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Device:
    """The device that a job has taken.

    Attributes:
        devices: value for Lightning's Trainer; ``[3]`` is the fourth GPU, 1 is the CPU.
        threads: number of CPU threads.
        name: name to print.
    """

    devices: list[int] | int
    threads: int
    name: str


@contextlib.contextmanager
def free_device(
    accelerator: str,
    jobs: int,
    pool: Path | None = None,
    gpus: Sequence[str] | None = None,
    allowed: Sequence[int] | None = None,
) -> Iterator[Device]:
    """Takes one GPU and a share of the CPU cores for as long as the context lasts.

    The GPU comes first: a job that waits for a GPU holds no cores. A job never waits for cores. If
    other jobs hold them all, it gets one thread. A machine without GPUs gives only cores.

    Args:
        accelerator: ``trainer.accelerator``.
        jobs: number of jobs that run at once; each gets an equal share of the cores.
        pool: folder of the lock files; None: the folder of this user on this machine, or of this
            SLURM job, because the scheduler has given it devices of its own.
        gpus: names of the machine's GPUs; None: the GPUs that torch sees.
        allowed: indices of the GPUs that the job may take; None: all.

    Raises:
        ConfigError: none of the allowed GPUs exists.
    """
    pool = _pool() if pool is None else pool
    pool.mkdir(parents=True, exist_ok=True)
    if accelerator not in ("auto", "gpu", "cuda"):
        gpus = []
    elif gpus is None:
        gpus = gpu_names()
    with contextlib.ExitStack() as stack:
        gpu = _take_gpu(pool, gpus, allowed, stack) if gpus else None
        share = max(1, CORES // max(1, jobs))
        cores = [f"core-{i}" for i in range(CORES)]
        threads = max(1, len(_take(pool, cores, share, stack)))
        if gpu is not None:
            yield Device([gpu], threads, f"GPU {gpus[gpu]}")
        else:
            yield Device(1, threads, f"CPU, {threads} thread{'s' if threads > 1 else ''}")


def jobs_at_once(accelerator: str = "auto") -> int:
    """Number of jobs that this machine can run at once: one per GPU, else one per core."""
    return (0 if accelerator == "cpu" else torch.cuda.device_count()) or CORES


def gpu_names() -> list[str]:
    """The GPUs that this process sees, by names that all processes of the machine share."""
    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [name.strip() for name in visible.split(",")] if visible else []
    return names[:count] if len(names) >= count else [str(i) for i in range(count)]


def _pool() -> Path:
    user = os.getuid() if hasattr(os, "getuid") else "user"
    job = os.environ.get("SLURM_JOB_ID", "")
    return Path(tempfile.gettempdir()) / f"kgrec-{user}" / f"devices{job and '-'}{job}"


def _take_gpu(
    pool: Path, gpus: Sequence[str], allowed: Sequence[int] | None, stack: contextlib.ExitStack
) -> int:
    """Waits for a free GPU, locks it and returns its index."""
    indices = [i for i in range(len(gpus)) if allowed is None or i in allowed]
    if not indices:
        raise ConfigError(
            f"trainer.devices: found {list(allowed or [])}, expected some of "
            f"{list(range(len(gpus)))}"
        )
    names = [f"gpu-{gpus[i]}" for i in indices]
    waiting = False
    while not (taken := _take(pool, names, 1, stack)):
        if not waiting:
            log.info("waiting for a GPU: all %d are in use", len(names))
            waiting = True
        time.sleep(POLL_SECONDS)
    return indices[taken[0]]


def _take(pool: Path, names: Sequence[str], most: int, stack: contextlib.ExitStack) -> list[int]:
    """Locks at most ``most`` free names until the stack closes; returns their indices."""
    taken: list[int] = []
    for index, name in enumerate(names):
        if len(taken) == most:
            break
        lock = FileLock(pool / f"{name}.lock")
        try:
            stack.enter_context(lock.acquire(timeout=0))
        except Timeout:
            continue
        taken.append(index)
    return taken
