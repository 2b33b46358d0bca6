"""Weights & Biases: no prompt, no long wait, and one W&B run for each run folder."""

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
from kgrec.files import make_folder, write_text
from kgrec.runs.status import Pruned
from kgrec.tracking.access import answers, drop_empty_mode, key_problem, server

if TYPE_CHECKING:
    from wandb import Run

log = logging.getLogger(__name__)

# Seconds. By itself W&B waits 90 for a server that does not answer, and for ever to send data.
INIT_TIMEOUT, FINISH_TIMEOUT = 10, 60

MODES = ("online", "offline", "disabled", "shared")

EPOCH, STEP = "trainer/epoch", "trainer/global_step"

# W&B and `wandb leet` sort curves by name, and should open on the loss and the validation. So all
# other curves, charts and tables have names that come later: prefixes here and names to W&B.
RENAMED = {
    "epoch": EPOCH,
    "popularity/val/": "val_popularity/",
    "speed/": "z_speed/",
    "norms/": "z_norms/",
}

# Curves by epoch, and the value that W&B's table of runs shows (None: the last value).
CURVES = {
    "train/loss": "min",
    "val/log_loss": "min",
    "val/matched/log_loss": "min",
    "val/threshold": "none",
    "val/*": "max",
    "train/*": None,
    "val_popularity/*": None,
    "z_speed/*": "mean",
    "z_norms/*": None,
}


class RunLogger(WandbLogger):
    """Lightning's logger for a W&B run that has started.

    Args:
        run: W&B run; None on processes other than the first, which log nothing.
        save_dir: run folder.
        project: W&B project.
        log_checkpoint: whether the best checkpoint is kept as an artifact.
    """

    def __init__(
        self, run: Run | None, save_dir: str, project: str, log_checkpoint: bool = False
    ) -> None:
        super().__init__(save_dir=save_dir, project=project, experiment=run)
        self.log_checkpoint = log_checkpoint

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs values of curves, under W&B's names."""
        super().log_metrics({wandb_name(key): value for key, value in metrics.items()}, step)


def wandb_name(key: str) -> str:
    """The name of a curve at W&B."""
    for prefix, name in RENAMED.items():
        if key.startswith(prefix):
            return name + key.removeprefix(prefix)
    return key


def wandb_mode() -> str:
    """``WANDB_MODE`` if it is set; else "online".

    Raises:
        ConfigError: W&B has no such mode.
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
    """Starts the W&B run of a run folder, or resumes it.

    Args:
        run_dir: run folder; all files of W&B are in it.
        project: W&B project.
        group: W&B group; None: the name of the sweep's folder for a job of a sweep, else no group.
        tags: W&B tags; the names of model and protocol are added.
        log_checkpoint: whether the best checkpoint is logged as an artifact.
    """
    if not _first_process():
        return RunLogger(None, run_dir, project)
    folder, sweep = Path(run_dir), _sweep()
    run = _start(
        dir=run_dir,
        project=project,
        group=group or sweep,
        job_type="run" if sweep is None else "sweep",
        name=f"{folder.parent.name}/{folder.name}",
        tags=[tag[:64] for tag in (*tags, *_chosen())],  # W&B refuses longer tags
        id=_kept_id(folder / "wandb"),
        resume="allow",
    )
    _log_without_traces()
    run.define_metric(EPOCH, hidden=True)
    run.define_metric("train/step_loss", step_metric=STEP)
    for name, summary in CURVES.items():
        run.define_metric(name, step_metric=EPOCH, summary=summary)
    return RunLogger(run, run_dir, project, log_checkpoint)


def _log_without_traces() -> None:
    """On a full disk W&B's own logs are not complete, and its process may die.

    Python would print a stack trace for every line, and a line for every message to the process.
    """
    for handler in logging.getLogger("wandb").handlers:
        handler.handleError = lambda record: None  # type: ignore[method-assign]
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _sweep() -> str | None:
    """Name of the sweep's folder if this process runs a job of a sweep; otherwise None."""
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


def _kept_id(folder: Path) -> str:
    """An id that is drawn once, so that a run and its resumed parts are one W&B run."""
    path = folder / "run-id.txt"
    if not path.exists():
        make_folder(folder)
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8").strip()


def _start(**arguments: Any) -> Run:
    """Starts a W&B run; an offline run if there is no key or the server cannot be reached."""
    mode: Any = wandb_mode()
    drop_empty_mode()
    import wandb

    settings = wandb.Settings()
    if "WANDB_INIT_TIMEOUT" not in os.environ:
        settings.init_timeout = INIT_TIMEOUT
    if "WANDB_FINISH_TIMEOUT" not in os.environ:
        settings.finish_timeout = FINISH_TIMEOUT
    if mode != "online":
        return wandb.init(mode=mode, settings=settings, **arguments)
    if (problem := key_problem()) is None:
        if answers(address := server()):
            try:
                return wandb.init(mode=mode, settings=settings, **arguments)
            except wandb.errors.Error as error:
                problem = (str(error).splitlines() or ["no answer"])[0]
                wandb.teardown()  # otherwise the run's id would be in use
        else:
            problem = f"{address} does not answer"
    log.info("W&B: %s: the run is kept offline; kgrec sync can send it later", problem)
    return wandb.init(mode="offline", settings=settings, **arguments)


@contextmanager
def opened(
    make: Callable[[], Sequence[Logger]], folder: Path, config: Mapping[str, Any]
) -> Iterator[Sequence[Logger]]:
    """Opens the loggers of one run, and closes them also after an error.

    Args:
        make: function that makes the loggers.
        folder: folder of all files of W&B.
        config: all settings of the run.
    """
    loggers: Sequence[Logger] = ()
    failed = True
    with _files_in(folder):
        try:
            loggers = make()
            for to_wandb in wandb_loggers(loggers):
                to_wandb.experiment.config.update(dict(config), allow_val_change=True)
            yield loggers
            failed = False
        except Pruned:
            failed = False
            raise
        finally:
            for logger in loggers:
                logger.finalize("failed" if failed else "success")
            _end(int(failed))


def _end(exit_code: int) -> None:
    """Ends the W&B run, if there is one, and the process of W&B, which keeps its folders open.

    An error of W&B is a warning: the results of the run are still to be written.
    """
    if (wandb := sys.modules.get("wandb")) is not None:
        try:
            wandb.finish(exit_code=exit_code)
            wandb.teardown(exit_code=exit_code)
        except Exception as error:  # of many types
            log.warning("W&B: the run could not be closed: %s", error)


def wandb_loggers(loggers: Sequence[Logger]) -> list[WandbLogger]:
    """The loggers that log to W&B from this process."""
    if not _first_process():
        return []
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]


def log_to_wandb(loggers: Sequence[Logger], write: Callable[[WandbLogger], None]) -> None:
    """Logs what needs W&B's server, such as tables; an error is a warning, and the run continues.

    Args:
        loggers: loggers of the run.
        write: function that logs to one logger.
    """
    for logger in wandb_loggers(loggers):
        run = logger.experiment
        try:
            if not (run.offline or run.disabled or answers(address := server())):
                raise ConnectionError(f"{address} does not answer any more")
            write(logger)
        except Exception as error:  # of many types: the network's, the server's, W&B's own
            log.warning("W&B: not everything could be logged: %s", error)


def _first_process() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


@contextmanager
def _files_in(folder: Path) -> Iterator[None]:
    """Keeps settings, caches and artifacts of W&B in a folder, not in the home folder."""
    names = ("config", "cache", "data")
    variables = {f"WANDB_{name.upper()}_DIR": str(folder / name) for name in names}
    variables["WANDB_SILENT"] = "true"
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
