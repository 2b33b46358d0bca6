"""One free device for each job, whoever else is at work on this machine.

A GPU, or a CPU core, is taken by locking a file. The lock is the operating system's, so that it
goes with its process, however that ends: there is nothing to clean up after a job that was killed.
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
    """What a job may use.

    Attributes:
        devices: as Lightning's Trainer takes them: ``[3]`` is the fourth GPU, 1 the CPU.
        threads: CPU threads.
        name: for people.
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
    """Takes a GPU for as long as the context lasts, waiting for one if need be; else CPU cores.

    CPU cores are divided among the jobs that are meant to run side by side. Where other work of
    this kind has them, a job does not wait: it has one thread.

    Args:
        accelerator: as Lightning's Trainer names it.
        jobs: how many jobs are meant to run side by side.
        pool: folder of the locks; None: one for this user on this machine, or for this SLURM job,
            to which the scheduler has given devices of its own.
        gpus: names of the GPUs that there are; None: ask.
        allowed: numbers of the GPUs to choose from; None: all.
    """
    pool = _pool() if pool is None else pool
    pool.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        share = max(1, CORES // max(1, jobs))
        cores = [f"core-{i}" for i in range(CORES)]
        threads = max(1, len(_take(pool, cores, share, stack)))
        if accelerator in ("auto", "gpu", "cuda"):
            gpus = gpu_names() if gpus is None else gpus
            if gpus:
                numbers = [i for i in range(len(gpus)) if allowed is None or i in allowed]
                if not numbers:
                    raise ConfigError(
                        f"trainer.devices: found {list(allowed or [])}, expected some of "
                        f"{list(range(len(gpus)))}"
                    )
                number = numbers[_wait(pool, [f"gpu-{gpus[i]}" for i in numbers], stack)]
                yield Device([number], threads, f"GPU {gpus[number]}")
                return
        yield Device(1, threads, f"CPU, {threads} thread{'s' if threads > 1 else ''}")


def jobs_at_once(accelerator: str = "auto") -> int:
    """How many jobs this machine can run side by side: a GPU each, or else a core."""
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


def _take(pool: Path, names: Sequence[str], most: int, stack: contextlib.ExitStack) -> list[int]:
    """Locks free ones, at most so many, and releases them with the stack; their numbers."""
    taken: list[int] = []
    for number, name in enumerate(names):
        if len(taken) == most:
            break
        lock = FileLock(pool / f"{name}.lock")
        try:
            stack.enter_context(lock.acquire(timeout=0))
        except Timeout:
            continue
        taken.append(number)
    return taken


def _wait(pool: Path, names: Sequence[str], stack: contextlib.ExitStack) -> int:
    """Locks one, as soon as one is free; its number."""
    told = False
    while not (taken := _take(pool, names, 1, stack)):
        if not told:
            log.info("waiting for a GPU: all %d are in use", len(names))
            told = True
        time.sleep(POLL_SECONDS)
    return taken[0]
