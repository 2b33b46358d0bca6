"""Builds the objects of a run from its configuration, and checks the settings."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgrec.config.devices import min_rows, num_devices, world_size
from kgrec.config.memory import fitting
from kgrec.config.sizes import parse_bytes
from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.errors import ConfigError
from kgrec.models.objectives import Objective
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import read_checkpoint
from kgrec.runs.identity import check_resume, resume_settings
from kgrec.sharding.building import sharded_tables
from kgrec.sharding.table import tables_of
from kgrec.tracking.results import ControlLine
from kgrec.training.averaging import WeightAveraging
from kgrec.training.checkpoint_files import AtomicCheckpointIO
from kgrec.training.distributed import rank
from kgrec.training.losses import has_regularizer
from kgrec.training.memory import (
    CORES,
    Lists,
    check_memory,
    check_rows,
    evaluation_batch_size,
    threads_for,
)
from kgrec.training.module import RecommenderModule
from kgrec.training.testing import Evaluator
from kgrec.training.trainer_arguments import COUNTED, applied, passed_on, profiler
from kgrec.training.updates import UpdateRule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Objects of one run.

    Attributes:
        model: name of the model, as in ``model=``.
        monitor: validation metric by which the epoch is chosen.
        dataset: split data.
        recommender: the model.
        module: Lightning module around the model.
        datamodule: batches of all splits.
        trainer: Lightning Trainer, before loggers are added.
        control_line: callback that logs the main control next to the model.
        evaluator: evaluates the model and the controls.
    """

    model: str
    monitor: str
    dataset: RecDataset
    recommender: Recommender
    module: RecommenderModule
    datamodule: KGDataModule
    trainer: pl.Trainer
    control_line: ControlLine
    evaluator: Evaluator


def build(
    cfg: DictConfig,
    dataset: RecDataset,
    validates: bool = True,
    callbacks: Sequence[pl.Callback] = (),
) -> Parts:
    """Builds everything that a run needs.

    Args:
        cfg: the configuration.
        dataset: the data.
        validates: whether the data set has rows for validation; a refit has none.
        callbacks: callbacks that come after the configured ones.

    Raises:
        ConfigError: a setting that cannot work, too little memory, or nothing to resume.
        CheckpointError: the checkpoint to resume from is of another run.
    """
    facts = {"name": dataset.name, "protocol": dataset.protocol, "fingerprint": dataset.fingerprint}
    ks = cutoffs(cfg, dataset)
    fit_monitor(cfg, ks, dataset.num_candidates)  # first, because models may choose by it too
    with fitting("model", plain(cfg.model)), tables_in_shards(cfg):
        recommender: Recommender = instantiate(cfg.model, dataset)
    if recommender.trainable and min_rows(cfg) is not None:
        log.info(shared_rows(recommender))
    recommender.objective = make_objective(cfg, recommender)
    rank_validation = cfg.ranking.validation or "@" in cfg.monitor
    own = applied(trainer_settings(cfg))
    log_every_n_steps = own.pop("log_every_n_steps", None)
    module = RecommenderModule(
        recommender,
        instantiate(cfg.optimizer),
        cfg.seed,
        facts,
        resume_settings(cfg),
        parse_bytes(cfg.memory_budget),
        ks,
        rank_validation,
        UpdateRule(**own),
        log_every_n_steps,
    )
    datamodule = make_datamodule(cfg, dataset, recommender)
    control_line = ControlLine(cfg.monitor)
    trainer = make_trainer(cfg, [control_line], validates, callbacks)
    if recommender.trainable:
        device = trainer.strategy.root_device
        check_rows(cfg.negatives.ratio, datamodule.train_batches.num_rows, device)
        fit_to_machine(cfg, recommender, dataset, device)
    if cfg.ckpt_path is not None:
        if not recommender.trainable:
            raise ConfigError(
                f"ckpt_path: found {cfg.ckpt_path}, expected null: the model has nothing to train"
            )
        check_resume(read_checkpoint(Path(cfg.ckpt_path)), module.identity())
    return Parts(
        model=str(HydraConfig.get().runtime.choices["model"]),
        monitor=cfg.monitor,
        dataset=dataset,
        recommender=recommender,
        module=module,
        datamodule=datamodule,
        trainer=trainer,
        control_line=control_line,
        evaluator=Evaluator(datamodule, facts, ks, rank_validation, one_device(cfg)),
    )


def tables_in_shards(cfg: DictConfig) -> AbstractContextManager[None]:
    """Makes new embedding tables shard by shard, if the processes of this run share them."""
    least = min_rows(cfg)
    return nullcontext() if least is None else sharded_tables(rank(), world_size(cfg), least)


def shared_rows(recommender: Recommender) -> str:
    """One line that says which tables the processes share, and what that saves."""
    tables = tables_of(recommender)
    if not tables:
        return "sharded tables: none, each process has the whole model"
    ranks = next(iter(tables.values())).ranks
    names = ", ".join(
        f"{name.removesuffix('.weight')} ({len(table):,} × {table.shape[1]})"
        for name, table in tables.items()
    )
    rows = sum(len(table) for table in tables.values())
    own = sum(len(table.local) for table in tables.values())
    whole = sum(table.nbytes for table in tables.values())
    part = sum(table.local.nbytes for table in tables.values())
    return (
        f"sharded tables: {names}; each of {ranks} processes has at most {own:,} of {rows:,} rows, "
        f"{part / 1e6:,.3g} of {whole / 1e6:,.3g} MB"
    )


def cutoffs(cfg: DictConfig, dataset: RecDataset) -> list[int]:
    """Cut-offs of the ranking metrics that the catalogue is large enough for."""
    if cfg.ranking.name == "none":
        return []
    ks = [int(k) for k in cfg.ranking.ks]
    num_items = dataset.num_candidates
    if too_large := [k for k in ks if k > num_items]:
        listed = ", ".join(map(str, too_large))
        log.info("ranking.ks: left out %s, because there are %d items", listed, num_items)
    return [k for k in ks if k <= num_items]


def fit_monitor(cfg: DictConfig, ks: Sequence[int], num_items: int) -> None:
    """Makes sure that validation will have the metric by which the epoch is chosen.

    If a protocol has set the monitor, and its cut-off is larger than the catalogue, the cut-off
    becomes the largest one that fits.

    Raises:
        ConfigError: the user's own monitor has a cut-off larger than the catalogue.
    """
    metric, at, k = cfg.monitor.partition("@")
    if not at or int(k) in ks:
        return
    expected = [f"{metric}@{k}" for k in ks] or ["val/auc"]
    if any(word.startswith("monitor=") for word in HydraConfig.get().overrides.task):
        raise ConfigError(
            f"monitor: found {cfg.monitor} for a catalogue of {num_items} items, expected one of "
            f"{', '.join(expected)}"
        )
    log.info("monitor: %s instead of %s for %d items", expected[-1], cfg.monitor, num_items)
    cfg.monitor = expected[-1]


def make_objective(cfg: DictConfig, recommender: Recommender) -> Objective | None:
    """The objective of the training; None: the model's own loss, or nothing to train.

    Raises:
        ConfigError: the model's own loss has terms that it would lose.
    """
    if cfg.loss.name == "own" or not recommender.trainable:
        return None
    if len(recommender.batches) > 1 and not has_regularizer(recommender):
        raise ConfigError(
            f"loss: found {cfg.loss.name}, expected own: {type(recommender).__name__} has further "
            "terms in its loss, and no regularizer that keeps them"
        )
    temperature, correction = cfg.loss.get("temperature", 1.0), cfg.loss.get("correction", True)
    return Objective(cfg.loss.name, float(temperature), correction)


def fit_to_machine(
    cfg: DictConfig, recommender: Recommender, dataset: RecDataset, device: torch.device
) -> None:
    """Sets the number of CPU threads, and checks that a training step fits in memory.

    Raises:
        ConfigError: a training step does not fit, even in pieces.
    """
    items, budget = dataset.train.items, parse_bytes(cfg.memory_budget)
    rows = math.ceil(cfg.batch_size / world_size(cfg))
    name = cfg.negatives.name
    length = cfg.batch_size if name == "in_batch" else cfg.negatives.ratio
    lists = Lists(length, shared=name in ("in_batch", "shared"))
    if cfg.threads == "auto":
        cores = max(1, (cfg.cores or CORES) // num_devices(cfg))
        torch.set_num_threads(threads_for(recommender, items, rows, cores, lists))
    averages = cfg.averaging.name != "none"
    pieces = check_memory(recommender, items, rows, budget, device, lists, averages)
    if pieces > 1:
        log.info("memory_budget: a step is taken in about %d pieces", pieces)


def make_datamodule(cfg: DictConfig, dataset: RecDataset, recommender: Recommender) -> KGDataModule:
    """Batches of the sizes that the configuration or the free memory asks for."""
    negatives = cfg.negatives.name
    if not recommender.trainable and negatives in ("in_batch", "shared"):
        negatives = "resampled"  # nothing is drawn
    datamodule = KGDataModule(
        dataset,
        batch_size=cfg.batch_size,
        eval_batch_size=cfg.eval_batch_size
        or evaluation_batch_size(recommender, dataset.train.items, parse_bytes(cfg.memory_budget)),
        negatives=negatives,
        ratio=cfg.negatives.ratio,
        seed=cfg.seed,
        steps_per_call=steps_per_call(cfg),
        ranking=cfg.ranking.name,
        kinds=recommender.step_batches,
        power=cfg.negatives.get("power", 1.0),
        items=cfg.negatives.get("items", "catalogue"),
    )
    datamodule.check_devices(world_size(cfg))
    missing = datamodule.train_batches.sources[0].undrawable
    if recommender.trainable and missing:
        log.info("%d training negatives cannot be drawn: their users have every item", missing)
    if dataset.train_weights is not None and not recommender.trainable:
        log.warning("dataset.weights: the model is not trained and counts every positive once")
    return datamodule


def steps_per_call(cfg: DictConfig) -> int | None:
    """Optimiser steps in one call of training_step; None: the data module chooses."""
    # Lightning counts calls of training_step; the user means steps.
    counted = any(cfg.trainer.get(key) not in (None, -1) for key in COUNTED)
    if cfg.steps_per_call is None and (counted or world_size(cfg) > 1):
        return 1
    return cfg.steps_per_call  # type: ignore[no-any-return]


def one_device(cfg: DictConfig) -> dict[str, Any]:
    """Trainer arguments for the first device of the run, on which the model is tested."""
    devices = cfg.trainer.devices
    of_list = [devices[0]] if OmegaConf.is_list(devices) else 1
    return {"accelerator": cfg.trainer.accelerator, "devices": of_list}


def make_trainer(
    cfg: DictConfig,
    first_callbacks: Sequence[pl.Callback] = (),
    validates: bool = True,
    last_callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """A Lightning Trainer with the configured callbacks and without loggers.

    Args:
        cfg: the configuration.
        first_callbacks: callbacks that come before the configured ones.
        validates: whether epochs are validated and checkpoints kept by callbacks.
        last_callbacks: callbacks that come after the configured ones.
    """
    configured = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    used = [callback for callback in configured if callback is not None]
    callbacks = [*first_callbacks, *used, *last_callbacks]
    if cfg.averaging.name != "none":
        decay, start = cfg.averaging.get("decay"), cfg.averaging.get("start", 0)
        callbacks = [WeightAveraging(decay, start), *callbacks]
    settings = passed_on(trainer_settings(cfg))
    if isinstance(name := settings.get("profiler"), str):
        settings["profiler"] = profiler(name, cfg.paths.run)
    if not validates:
        settings |= {"limit_val_batches": 0, "enable_checkpointing": False}
    trainer: pl.Trainer = instantiate(
        settings,
        _convert_="all",
        logger=False,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
    )
    return trainer


def trainer_settings(cfg: DictConfig) -> dict[str, Any]:
    """Plain content of the group ``trainer``."""
    return plain(cfg.trainer)


def plain(group: DictConfig) -> dict[str, Any]:
    """Plain content of a group of the configuration."""
    settings: Any = OmegaConf.to_container(group, resolve=True)
    return dict(settings)


def make_loggers(cfg: DictConfig) -> list[Any]:
    """The configured loggers."""
    return [instantiate(node) for node in cfg.logger.values() if node is not None]
