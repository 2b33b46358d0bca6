"""Weights & Biases without surprises: never a prompt, never a long wait, one run a run folder."""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from kgrec.errors import ConfigError
from kgrec.files import write_text
from kgrec.tracking.access import answers, drop_empty_mode, has_key, server

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger(__name__)

# Seconds. W&B itself waits 90 for a server that does not answer, and for ever to send the rest.
INIT_TIMEOUT, FINISH_TIMEOUT = 10, 60

MODES = ("online", "offline", "disabled", "shared")

# What is drawn over the epoch, and what W&B's table shows of the curve (None: its last value).
CURVES = {
    "train/loss": "min",
    "val/log_loss": "min",
    "val/matched/log_loss": "min",
    "val/threshold": "none",
    "val/*": "max",
    "train/*": None,
    "popularity/val/*": None,
    "speed/*": "mean",
    "norms/*": None,
}


class RunLogger(WandbLogger):
    """Lightning's logger of a W&B run that has begun.

    Args:
        run: the W&B run; None on the processes beside the first, which log nothing.
        save_dir: the run folder.
        project: W&B project.
        log_checkpoint: whether the best checkpoint is kept as an artifact.
    """

    def __init__(
        self, run: Run | None, save_dir: str, project: str, log_checkpoint: bool = False
    ) -> None:
        super().__init__(save_dir=save_dir, project=project, experiment=run)
        self.log_checkpoint = log_checkpoint


def wandb_mode() -> str:
    """``WANDB_MODE`` if it is set; else "online".

    Raises:
        ConfigError: W&B knows no such mode.
    """
    mode = os.environ.get("WANDB_MODE") or "online"
    if mode not in MODES:
        raise ConfigError(f"WANDB_MODE: found {mode!r}, expected one of {', '.join(MODES)}")
    return mode


def wandb_logger(
    run_dir: str,
    project: str,
    group: str | None = None,
    tags: Sequence[str] = (),
    log_checkpoint: bool = False,
) -> RunLogger:
    """Begins the W&B run of a run folder, or goes on with it.

    Args:
        run_dir: the run folder; every file lies in it.
        project: W&B project.
        group: W&B group; None: the name of the sweep's folder, for a job of a sweep.
        tags: W&B tags, to which the names of model and protocol are added.
        log_checkpoint: whether the best checkpoint is kept as an artifact.
    """
    if not _first_process():
        return RunLogger(None, run_dir, project)
    folder, sweep = Path(run_dir), _sweep()
    run = _begin(
        dir=run_dir,
        project=project,
        group=group or sweep,
        job_type="run" if sweep is None else "sweep",
        name=f"{folder.parent.name}/{folder.name}",
        tags=[tag[:64] for tag in (*tags, *_chosen())],  # longer ones are refused
        id=_kept_id(folder / "wandb"),
        resume="allow",
    )
    run.define_metric("epoch", hidden=True)
    for name, summary in CURVES.items():
        run.define_metric(name, step_metric="epoch", summary=summary)
    return RunLogger(run, run_dir, project, log_checkpoint)


def _sweep() -> str | None:
    """Name of the folder of the sweep that this process runs a job of, if it does."""
    if not HydraConfig.initialized():
        return None
    hydra = HydraConfig.get()
    return Path(hydra.sweep.dir).name if hydra.mode == RunMode.MULTIRUN else None


def _chosen() -> list[str]:
    """Names of the model and the protocol, as on the command line."""
    if not HydraConfig.initialized():
        return []
    choices = HydraConfig.get().runtime.choices
    return [str(choices[group]) for group in ("model", "protocol")]


def _kept_id(own: Path) -> str:
    """An id drawn once, so that a run that was cut short and goes on is one W&B run."""
    path = own / "run-id.txt"
    if not path.exists():
        own.mkdir(parents=True, exist_ok=True)
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8").strip()


def _begin(**what: Any) -> Run:
    """A W&B run, offline where the server cannot be reached."""
    mode: Any = wandb_mode()
    drop_empty_mode()
    import wandb

    settings = wandb.Settings()
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        settings.init_timeout = INIT_TIMEOUT
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        settings.finish_timeout = FINISH_TIMEOUT
    if mode != "online":
        return wandb.init(mode=mode, settings=settings, **what)
    if not has_key():
        why = "found no key"
    elif not answers(address := server()):
        why = f"{address} does not answer"
    else:
        try:
            return wandb.init(mode=mode, settings=settings, **what)
        except wandb.errors.Error as error:
            why = (str(error).splitlines() or ["no answer"])[0]
            wandb.teardown()  # or the run's id would be in use
    log.info("W&B: %s: the run is kept offline, and kgrec sync sends it later", why)
    return wandb.init(mode="offline", settings=settings, **what)


@contextmanager
def opened(
    make: Callable[[], Sequence[Logger]], own: Path, config: Mapping[str, Any]
) -> Iterator[Sequence[Logger]]:
    """Loggers of one run, closed whatever happens; nothing of them is left for the next run.

    Args:
        make: makes the loggers.
        own: folder where W&B keeps all its files.
        config: everything that the run was configured with.
    """
    loggers: Sequence[Logger] = ()
    failed = True
    with _files_in(own):
        try:
            loggers = make()
            for to_wandb in wandb_loggers(loggers):
                to_wandb.experiment.config.update(dict(config), allow_val_change=True)
            yield loggers
            failed = False
        finally:
            for logger in loggers:
                logger.finalize("failed" if failed else "success")
            _end(int(failed))


def _end(exit_code: int) -> None:
    """Ends the W&B run, if there is one, and W&B's own process, which holds on to its folders."""
    if (wandb := sys.modules.get("wandb")) is not None:
        wandb.finish(exit_code=exit_code)
        wandb.teardown(exit_code=exit_code)


def wandb_loggers(loggers: Sequence[Logger]) -> list[WandbLogger]:
    """Those that log to W&B from this process."""
    found = [logger for logger in loggers if isinstance(logger, WandbLogger)]
    return found if _first_process() else []


def tell(loggers: Sequence[Logger], say: Callable[[WandbLogger], None]) -> None:
    """Tells W&B what needs its server, as tables do; what goes wrong is said, and harms no run."""
    for logger in wandb_loggers(loggers):
        run = logger.experiment
        try:
            if not (run.offline or run.disabled or answers(address := server())):
                raise ConnectionError(f"{address} does not answer any more")
            say(logger)
        except Exception as error:  # of many kinds: the network's, the server's, W&B's own
            log.warning("W&B: not everything could be logged: %s", error)


def _first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def _files_in(own: Path) -> Iterator[None]:
    """W&B also writes settings, caches and artifacts to the home folder, unless told where."""
    wanted = {f"WANDB_{name.upper()}_DIR": str(own / name) for name in ("config", "cache", "data")}
    added = {k: v for k, v in (wanted | {"WANDB_SILENT": "true"}).items() if k not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
