"""A run in this process, without Hydra's command line: for ``kgrec.fit`` and ``kgrec refit``."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kgrec.config.checks import check, check_words
from kgrec.config.location import conf_dir
from kgrec.config.messages import explain
from kgrec.errors import ConfigError
from kgrec.files import quoted
from kgrec.pipeline.run import run
from kgrec.runs.folder import RunFolder
from kgrec.runs.log_file import LogFile
from kgrec.runs.status import at_work


def ignore_known_warnings() -> None:
    """Leaves out warnings of other libraries that say nothing about a run."""
    # Lightning 2.6 calls what torch has deprecated; and the loss is logged once per epoch.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message="The number of training batches")
    # Processes that share tables test their best checkpoint without callbacks.
    warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks")
    # A run may resume in its own folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")


def run_in_process(overrides: Sequence[str], folder: Path, quiet: bool = False) -> float:
    """Composes a configuration and runs it in this process.

    Args:
        overrides: settings as for ``kgrec train``.
        folder: run folder.
        quiet: whether to print nothing; ``train.log`` has the lines in either case.

    Returns:
        The validation metric by which the epoch was chosen.

    Raises:
        KgrecError: a mistake in data or settings.
    """
    with composed([*overrides, f"hydra.run.dir={quoted(str(folder))}"], folder) as cfg:
        check(cfg)
        lines = logged(RunFolder(folder).log_file, quiet)
        with at_work(folder), lines, warnings.catch_warnings():
            ignore_known_warnings()
            return run(cfg)


@contextmanager
def composed(overrides: list[str], folder: Path) -> Iterator[DictConfig]:
    """The configuration, with Hydra's own part where the pipeline looks for it."""
    check_words(overrides)
    instance, before = HydraConfig.instance(), HydraConfig.instance().cfg
    was = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        try:
            with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
                whole = compose("train", overrides, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain(error)) from error
        with open_dict(whole.hydra):
            whole.hydra.runtime.output_dir = str(folder)
            whole.hydra.job.num = 0
            whole.hydra.job.id = folder.name
        instance.set_config(whole)
        cfg = whole.copy()
        OmegaConf.set_struct(cfg, False)
        cfg.pop("hydra")
        OmegaConf.set_struct(cfg, True)
        yield cfg
    finally:
        instance.cfg = before
        GlobalHydra.instance().clear()
        GlobalHydra.instance().hydra = was


@contextmanager
def logged(file: Path, quiet: bool = False) -> Iterator[None]:
    """Messages of kgrec go to a file and, unless ``quiet``, to the standard output."""
    logger = logging.getLogger("kgrec")
    level, handlers = logger.level, [LogFile(file, encoding="utf-8")]
    handlers[0].setFormatter(logging.Formatter("[%(asctime)s] %(message)s", "%H:%M:%S"))
    if not quiet:
        handlers.append(logging.StreamHandler(sys.stdout))  # type: ignore[arg-type]
    lightning = logging.getLogger("pytorch_lightning")
    lightning_level = lightning.level
    lightning.setLevel(logging.WARNING)
    logger.setLevel(logging.INFO)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        logger.setLevel(level)
        lightning.setLevel(lightning_level)
        for handler in handlers:
            logger.removeHandler(handler)
            if isinstance(handler, logging.FileHandler):
                handler.close()
