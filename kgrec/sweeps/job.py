"""Runs, resumes or skips one sweep job, on a device of its own."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from kgrec.config.checks import check_start
from kgrec.config.messages import any_user_error
from kgrec.errors import ConfigError
from kgrec.files import remove_leftovers
from kgrec.interrupts import on_interrupt
from kgrec.runs.folder import RunFolder
from kgrec.runs.resuming import Start, check_folder, start_in
from kgrec.runs.status import DIVERGED, Pruned, at_work, held, read_status, update
from kgrec.sweeps.device_pool import free_device, jobs_at_once
from kgrec.sweeps.progress import line, say
from kgrec.sweeps.pruning import pruning_of
from kgrec.sweeps.state import PRUNED, Job, State
from kgrec.training.memory import CORES, forget_peak_memory

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
WATCH = "kgrec-sweep-watch"


def in_a_sweep() -> bool:
    """Whether this process runs a job of a multirun.

    Raises:
        ConfigError: Hydra's own sweeper runs the job, and keeps no folder that can be resumed.
    """
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    if not str(HydraConfig.get().sweeper.get("_target_")).startswith("hydra_plugins.kgrec"):
        name = HydraConfig.get().runtime.choices.get("hydra/sweeper")
        raise ConfigError(f"hydra/sweeper: found {name}, expected grid or optuna")
    return True


def run_in_sweep(cfg: DictConfig, run: Callable[..., float]) -> float:
    """Runs a job, or resumes it from its last checkpoint, or skips it if it is finished.

    Args:
        cfg: configuration of the job.
        run: function that runs a configuration, with further callbacks, and returns the best value
            of ``cfg.monitor``.

    Returns:
        The value of ``cfg.monitor``; nan if the job was pruned.
    """
    _end_with_the_sweep()
    folder, accelerator = Path(cfg.paths.run), cfg.trainer.accelerator
    files = RunFolder(folder)
    allowed = list(cfg.trainer.devices) if OmegaConf.is_list(cfg.trainer.devices) else None
    if held(folder):  # a job may outlive its sweep
        log.info("another process is at work in %s; waiting for it", folder)
    while held(folder):  # without a device, which another job may need
        time.sleep(POLL_SECONDS)
    if (state := read_status(folder).get("state")) in (PRUNED, DIVERGED):
        log.info("this job has %s: skipped", "been pruned" if state == PRUNED else state)
        return math.nan
    with (
        contextlib.suppress(Pruned),
        free_device(accelerator, side_by_side(accelerator), allowed=allowed) as device,
        at_work(folder, wait=True, explain=explain),
        open_dict(cfg),
    ):
        start = start_in(files)
        if start.finished:
            log.info("this job is finished already: skipped")
            return files.metrics()[read_status(folder).get("monitor") or cfg.monitor]
        check_start(cfg)  # refuses several devices
        forget_peak_memory()
        update(folder, device=device.name, monitor=cfg.monitor)
        cfg.trainer.devices = device.devices
        cfg.cores = device.threads if cfg.cores is None else cfg.cores
        cfg.callbacks.progress = None  # the sweep shows a bar for each job
        apply(cfg, start)
        return run(cfg, callbacks=pruning_of(folder))
    return math.nan


def run_alone(cfg: DictConfig, run: Callable[[DictConfig, bool], float], first: bool) -> float:
    """Runs a single run; with ``resume=auto``, resumes it or says that it is finished.

    Args:
        cfg: configuration of the run.
        run: function that runs a configuration, given also ``first``.
        first: whether this process prints and writes; one of the training processes does.

    Returns:
        The value of ``cfg.monitor``; nan on the other processes.

    Raises:
        ConfigError: a setting belongs to a sweep, or the folder has another run.
    """
    check_alone(cfg)
    files = RunFolder(Path(cfg.paths.run))

    def check_again() -> None:
        if files.finished:  # by a process that has just ended
            check_alone(cfg)

    if not files.finished:
        work = at_work(files.path, explain=explain, check=check_again)
        with work if first else contextlib.nullcontext():
            if not files.finished:  # by a process that has just ended
                if cfg.resume is not None:
                    apply(cfg, start_in(files))
                with on_interrupt(lambda: _resume_hint(files.path)):
                    return run(cfg, first)
    check_alone(cfg)
    remove_leftovers(files.status_file)  # of a process that was killed after its metrics
    state = State.read(Job(files.path.name, (), {}), files.path)
    if first:
        say(f"finished already: {line(state)}\nthe results are in {files.path}")
    return math.nan if state.validation is None else state.validation


def _resume_hint(folder: Path) -> str:
    """How to resume a single run that is interrupted."""
    typed = [word.partition("=")[0] for word in HydraConfig.get().overrides.hydra]
    place = "" if "hydra.run.dir" in typed else f"hydra.run.dir={folder} "
    return f"the same command with {place}resume=auto resumes"


def apply(cfg: DictConfig, start: Start) -> None:
    """Sets the checkpoint from which a run resumes, and logs it.

    A job resumes from its own checkpoint also if the command names another one: its own is later.
    """
    if start.remark is not None:
        log.warning(start.remark)
    cfg.resume = None  # it is decided
    if start.checkpoint is not None:
        log.info("resuming from %s", start.checkpoint)
        cfg.ckpt_path = str(start.checkpoint)


def _end_with_the_sweep() -> None:
    """Makes a worker process of joblib end when the process of the sweep ends.

    Otherwise the worker of a killed sweep would train on and then wait for more jobs.
    """
    if not multiprocessing.current_process().name.startswith("Loky"):
        return
    sweep = os.getppid()

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    if WATCH not in (thread.name for thread in threading.enumerate()):
        threading.Thread(target=watch, name=WATCH, daemon=True).start()


def explain(error: BaseException) -> str:
    """The message of an error, in the user's words if the user can correct the error."""
    return any_user_error(error) or str(error)


def check_alone(cfg: DictConfig) -> None:
    """Checks a single run for settings that belong to a sweep.

    Raises:
        ConfigError: the run has the name of a sweep, the folder of a finished run, or is to resume
            where there is no run, or one with other settings.
    """
    files = RunFolder(Path(cfg.paths.run))
    if cfg.resume is not None:
        folder: Any = OmegaConf.to_container(HydraConfig.get().run, resolve=False)
        if "${now:" in folder["dir"]:
            raise ConfigError(
                f"resume: found {cfg.resume} without a run folder, expected hydra.run.dir=FOLDER "
                "with it, the same in every command"
            )
        check_folder(files, cfg)
    elif files.finished:
        raise ConfigError(
            f"hydra.run.dir: found a finished run in {files.path}, expected a new folder"
        )
    if cfg.sweep is not None:
        raise ConfigError(f"sweep: found {cfg.sweep!r} in a single run, expected -m before it")
    if params := HydraConfig.get().sweeper.get("params"):
        keys = ", ".join(map(str, params))
        log.info("this is a single run; with -m it would be a sweep over %s", keys)


def side_by_side(accelerator: str) -> int:
    """Number of jobs that the launcher runs at once on one machine."""
    launcher = HydraConfig.get().launcher
    if "ray" in launcher and "remote" in launcher.ray:  # Ray counts one CPU for a job
        return max(1, CORES // max(1, int(launcher.ray.remote.get("num_cpus") or 1)))
    jobs = int(launcher.get("n_jobs") or 1)
    return jobs if jobs > 0 else jobs_at_once(accelerator)
