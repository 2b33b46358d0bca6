"""The final model: the settings of a validated run, trained on all its data.

The run has chosen the settings, the number of epochs, and λ or k of EASE and ItemKNN, on
validation. Here the positives of all parts are training positives, so nothing is left to evaluate.
The number of epochs stays; an epoch has more rows, so the refit takes more optimiser steps.
"""

from __future__ import annotations

import logging
import shutil
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kgrec.config.checks import check
from kgrec.config.devices import chosen_devices, min_rows, world_size
from kgrec.config.messages import any_user_error
from kgrec.config.targets import check_foreign
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.whole import whole
from kgrec.errors import ConfigError, DataError
from kgrec.files import make_folder, quoted
from kgrec.inference.loading import LOGS, find_run
from kgrec.interrupts import kept_by_lightning, on_interrupt
from kgrec.models.importing import importing_only
from kgrec.models.recipes import PACKAGE
from kgrec.pipeline.in_process import composed, ignore_known_warnings, logged
from kgrec.pipeline.parts import Parts, build, make_loggers
from kgrec.pipeline.run import precompute, prepare, save_inputs, tracked
from kgrec.runs.folder import REFIT, VALIDATED, RunFolder
from kgrec.runs.status import at_work, held
from kgrec.sweeps.state import folder_name
from kgrec.tracking.logger import opened
from kgrec.tracking.results import log_dataset, log_results
from kgrec.training.accelerators import check_accelerator
from kgrec.training.memory import CORES, peak_memory_gb

log = logging.getLogger(__name__)

REFITS = LOGS / "refits"
# Settings that a refit may change: where and on what it runs, and where the data are.
PLACES = (
    "logger", "threads", "cores", "trainer.accelerator", "trainer.devices", "dataset.root",
    "dataset.data_dir", "dataset.cache", "model.cache", "callbacks.progress",
)  # fmt: skip
# Callbacks that need a validation.
VALIDATION_CALLBACKS = ("best", "last", "early_stopping")
# Settings that would end the training at another epoch than the best one.
LENGTHS = ("min_epochs", "max_steps", "min_steps", "max_time")


def refit(
    place: str | Path,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    trust: Iterable[str] = (),
) -> Path:
    """Trains the model of a finished run on its training, validation and test positives.

    If the training is interrupted, its folder is removed. The run may come from a stranger: its
    configuration calls only what conf/ of kgrec names, unless the caller trusts further packages.

    Args:
        place: run, as for :func:`kgrec.inference.loading.find_run`.
        out: new run folder; None: a folder in ``logs/refits``, named after the run.
        overrides: settings of :data:`PLACES`.
        trust: packages of your own that the configuration of the run may name.

    Returns:
        The new run folder, which :func:`kgrec.load` reads.

    Raises:
        DataError: there is no such run, or its data are gone or have changed.
        ConfigError: a setting that a refit cannot change, the folder is taken, or the run names
            code that is not trusted.
    """
    trusted = tuple(trust)
    found = find_run(place)
    source = found.folder
    if source.kind != VALIDATED:
        words = {REFIT: f"a refit of {source.environment().get('refit_of')}"}
        raise ConfigError(
            f"{source.path}: found {words.get(source.kind, 'scored lists')}, expected a run with "
            "a validation"
        )
    if found.reason:
        log.info("using %s, %s", source.path, found.reason)
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        if "=" not in word or not any(key == p or key.startswith(f"{p}.") for p in PLACES):
            raise ConfigError(
                f"{word}: found a setting that a refit takes from its run, expected one of "
                f"{', '.join(PLACES)}"
            )
    folder = RunFolder((Path(out) if out is not None else REFITS / _name(source.path)).absolute())
    marks = {"kind": REFIT, "refit_of": str(source.path.absolute())}
    _claim(folder, marks)
    try:
        with composed(
            [*overrides, f"hydra.run.dir={quoted(str(folder.path))}"], folder.path
        ) as fresh:
            cfg = _settings(source, fresh, overrides, folder.path, trusted)
            log_lines, quiet = logged(folder.log_file), warnings.catch_warnings()
            with at_work(folder.path), log_lines, quiet, importing_only((PACKAGE, *trusted)):
                ignore_known_warnings()
                _run(cfg, source, folder, marks)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder.path


def _name(run: Path) -> str:
    """A folder name that tells the refits of all runs in ``logs`` apart."""
    run = run.absolute()
    inside = run.relative_to(LOGS.absolute()) if run.is_relative_to(LOGS.absolute()) else None
    return folder_name(["-".join(inside.parts if inside else run.parts[-2:])])


def _claim(folder: RunFolder, marks: Mapping[str, Any]) -> None:
    """Makes the folder; what a killed refit of the same run left in it is removed.

    Raises:
        ConfigError: the folder has other files, or another process is at work in it.
    """
    path = folder.path
    if path.exists() and not path.is_dir():
        raise ConfigError(f"--out: found a file {path}, expected a new folder")
    if path.is_dir() and any(path.iterdir()):
        if folder.finished:
            raise ConfigError(f"--out: found a finished run in {path}, expected a new folder")
        if not folder.marked(marks):
            raise ConfigError(f"--out: found files in {path}, expected a new folder")
        if held(path):
            raise ConfigError(f"--out: found another process at work in {path}")
        shutil.rmtree(path)
    make_folder(path)
    folder.mark(marks)


def _settings(
    source: RunFolder,
    fresh: DictConfig,
    overrides: Sequence[str],
    path: Path,
    trust: Iterable[str],
) -> DictConfig:
    """The settings of the run, with what it has chosen on validation.

    Args:
        source: folder of the run.
        fresh: configuration composed from the overrides alone.
        overrides: overrides of the command.
        path: new run folder.
        trust: packages of the user's own that the run may name.
    """
    saved, metrics, environment = source.config(), source.metrics(), source.environment()
    cfg: DictConfig = OmegaConf.create(_moved(saved, str(saved["paths"]["run"]), str(path)))
    for key in fresh.keys() - cfg.keys():  # groups that came after the run
        cfg[key] = fresh[key]
    for key in map(str, fresh):
        if OmegaConf.is_dict(fresh[key]) and not OmegaConf.is_dict(cfg[key]):
            raise DataError(f"{source.config_file}: found no group {key}, expected one")
    for word in overrides:
        key = word.lstrip("+~").partition("=")[0]
        key = "logger" if key.startswith("logger.") else key
        OmegaConf.update(cfg, key, OmegaConf.select(fresh, key), merge=False, force_add=True)
    if world_size(cfg) > 1 or min_rows(cfg) is not None:
        log.info("a refit takes one device; its run had %d", world_size(cfg))
        cfg.trainer.devices, cfg.trainer.num_nodes, cfg.trainer.strategy = 1, None, None
    for key in cfg.model:
        value = metrics.get(f"precompute/{key}")
        if OmegaConf.is_list(cfg.model[key]) and value is not None:
            cfg.model[key] = [next(v for v in cfg.model[key] if float(v) == value)]
    # A model without training has no epochs; the setting must be 1 at least.
    cfg.epochs = max(1, round(metrics.get("train/best_epoch", 0)))
    cfg.trainer.max_epochs, cfg.trainer.check_val_every_n_epoch = cfg.epochs, 1
    for key in LENGTHS:
        cfg.trainer[key] = None
    cfg.ckpt_path = cfg.resume = cfg.sweep = None
    check_foreign(cfg, path, trust)
    check(cfg)
    for name in VALIDATION_CALLBACKS:
        cfg.callbacks[name] = None
    hydra: Any = HydraConfig.get()
    with read_write(hydra), open_dict(hydra):
        hydra.runtime.choices = environment["choices"]
        hydra.overrides.task = environment["overrides"]
    return cfg


def _moved(tree: Any, old: str, new: str) -> Any:
    """A plain configuration in which paths in the old run folder lie in the new one."""
    if isinstance(tree, dict):
        return {key: _moved(value, old, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_moved(value, old, new) for value in tree]
    inside = isinstance(tree, str) and (tree == old or tree.startswith(f"{old}/"))
    return new + tree[len(old) :] if inside else tree


def _run(cfg: DictConfig, source: RunFolder, folder: RunFolder, marks: Mapping[str, Any]) -> None:
    """Trains and saves the model."""
    check_accelerator(cfg.trainer.accelerator, chosen_devices(cfg))
    torch.set_num_threads(cfg.threads if isinstance(cfg.threads, int) else cfg.cores or CORES)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    data, split = _same_data(cfg, source)
    dataset = whole(split, data)
    parts = build(cfg, dataset, validates=False)
    before, after = len(split.train), len(dataset.train)
    log.info("refit of %s on all %d positives (the run trained on %d)", source.path, after, before)
    with opened(lambda: make_loggers(cfg), folder.wandb, tracked(cfg) | dict(marks)) as loggers:
        parts.trainer.loggers = list(loggers)
        log_dataset(loggers, save_inputs(folder, cfg, data, dataset, marks))
        metrics = {"refit": 1.0, **precompute(parts.recommender, dataset)}
        metrics |= _fit(parts, folder.checkpoint("best"))
        log_results(loggers, metrics, [], [], folder.checkpoint("best"))
    folder.write_metrics(metrics)  # last, after the loggers: with them the run is finished
    log.info("the final model is in %s; it has no test metrics, the run has them", folder.path)


def _same_data(cfg: DictConfig, source: RunFolder) -> tuple[PreparedData, RecDataset]:
    """The data of the run.

    Raises:
        DataError: they are gone, or have changed.
    """
    try:
        data, dataset = prepare(cfg)
    except (DataError, InstantiationException) as error:  # Hydra wraps errors of what it calls
        message = any_user_error(error)
        if message is None:
            raise
        raise DataError(
            f"{message} (a refit needs the data of its run again; if they have moved, use "
            "dataset.root=…)"
        ) from error
    expected = source.dataset()["fingerprint"]
    if dataset.fingerprint != expected:
        raise DataError(
            f"dataset {data.name}: found other data (fingerprint {dataset.fingerprint}), expected "
            f"those of {source.path} ({expected}); train a run on the new data first"
        )
    return data, dataset


def _fit(parts: Parts, checkpoint: Path) -> dict[str, float]:
    """Trains for all epochs and saves the model of the last one; returns what training took."""
    trainer, begin = parts.trainer, time.perf_counter()
    if not parts.recommender.trainable:
        trainer.strategy.connect(parts.module)
        trainer.save_checkpoint(checkpoint, weights_only=True)
        return {"train/epochs": 0.0}
    rows = parts.datamodule.train_batches
    log.info(
        "%d epochs of %d steps: as many epochs as the run's best one; their steps are more",
        trainer.max_epochs, rows.num_steps,
    )  # fmt: skip
    with (
        kept_by_lightning(),
        on_interrupt(lambda: "nothing is kept; the same command begins again"),
    ):
        trainer.fit(parts.module, datamodule=parts.datamodule)
    trainer.save_checkpoint(checkpoint, weights_only=True)
    loss = trainer.callback_metrics.get("train/loss")
    return {
        "train/peak_memory_gb": peak_memory_gb(trainer.strategy.root_device),
        "train/epochs": float(trainer.current_epoch),
        "train/seconds": time.perf_counter() - begin,
        "train/rows_per_epoch": float(rows.num_rows),
        **({} if loss is None else {"train/loss": float(loss)}),
    }
