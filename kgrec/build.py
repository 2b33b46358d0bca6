"""What a run is made of, from its configuration; and whether it can work."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgrec.config.devices import num_devices, world_size
from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.errors import ConfigError
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import check_identity, read_checkpoint
from kgrec.training.memory import (
    CORES,
    check_memory,
    evaluation_batch_size,
    parse_bytes,
    threads_for,
)
from kgrec.training.module import RecommenderModule

log = logging.getLogger(__name__)


def cutoffs(cfg: DictConfig, dataset: RecDataset) -> list[int]:
    """Cutoffs of the ranking metrics that the catalogue is large enough for."""
    if cfg.ranking.name == "none":
        return []
    ks = [int(k) for k in cfg.ranking.ks]
    if beyond := [k for k in ks if k > dataset.num_items]:
        what = ", ".join(map(str, beyond))
        log.info("ranking.ks: left out %s, as there are %d items", what, dataset.num_items)
    return [k for k in ks if k <= dataset.num_items]


def check_before_training(cfg: DictConfig, module: RecommenderModule, dataset: RecDataset) -> None:
    """Finds out now what would break in the middle of the run.

    Raises:
        ConfigError: the batch does not fit in memory, or there is nothing to resume.
        CheckpointError: the checkpoint is of another model or data set.
    """
    recommender = module.recommender
    if recommender.trainable:
        items, budget = dataset.train.items, parse_bytes(cfg.memory_budget)
        rows = math.ceil(cfg.batch_size / world_size(cfg))
        if cfg.threads == "auto":
            cores = max(1, (cfg.cores or CORES) // num_devices(cfg))
            torch.set_num_threads(threads_for(recommender, items, rows, cores))
        device = make_trainer(cfg, []).strategy.root_device
        pieces = check_memory(recommender, items, rows, budget, device)
        if pieces > 1:
            log.info("memory_budget: a step is taken in about %d pieces", pieces)
    if cfg.ckpt_path is not None:
        if not recommender.trainable:
            raise ConfigError(f"ckpt_path: found {cfg.ckpt_path}, but there is nothing to train")
        check_identity(read_checkpoint(Path(cfg.ckpt_path)), module.identity())


def make_datamodule(cfg: DictConfig, dataset: RecDataset, recommender: Recommender) -> KGDataModule:
    """Batches of the sizes that the configuration, or the memory at hand, asks for."""
    datamodule = KGDataModule(
        dataset,
        batch_size=cfg.batch_size,
        eval_batch_size=cfg.eval_batch_size
        or evaluation_batch_size(recommender, dataset.train.items, parse_bytes(cfg.memory_budget)),
        negatives=cfg.negatives.name,
        ratio=cfg.negatives.ratio,
        seed=cfg.seed,
        steps_per_call=steps_per_call(cfg),
        ranking=cfg.ranking.name,
        kinds=recommender.batches,
    )
    datamodule.check_devices(world_size(cfg))
    missing = datamodule.train_batches.sources[0].undrawable
    if recommender.trainable and missing:
        log.info("%d training negatives cannot be drawn: their users have every item", missing)
    return datamodule


def steps_per_call(cfg: DictConfig) -> int | None:
    """How many steps share one call of training_step; None: as the data module thinks best."""
    # These count calls, and are meant to count steps.
    counting = ("limit_train_batches", "val_check_interval", "max_steps", "overfit_batches")
    counted = any(cfg.trainer.get(key) is not None for key in counting)
    if cfg.steps_per_call is None and (counted or world_size(cfg) > 1):
        return 1
    return cfg.steps_per_call  # type: ignore[no-any-return]


def one_device(cfg: DictConfig) -> dict[str, Any]:
    """Where the run is tested, as Lightning's Trainer takes it: the first of its devices."""
    devices = cfg.trainer.devices
    of_list = [devices[0]] if OmegaConf.is_list(devices) else 1
    return {"accelerator": cfg.trainer.accelerator, "devices": of_list}


def make_trainer(
    cfg: DictConfig, loggers: Sequence[Any], more: Sequence[pl.Callback] = ()
) -> pl.Trainer:
    """A Lightning Trainer with the configured callbacks, and more."""
    found = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    callbacks = [*more] + [callback for callback in found if callback is not None]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        logger=loggers,
        callbacks=callbacks,
        enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
    )
    return trainer


def make_loggers(cfg: DictConfig) -> list[Any]:
    """The configured loggers."""
    return [instantiate(node) for node in cfg.logger.values() if node is not None]


def checkpoint_path(cfg: DictConfig, name: str) -> Path:
    """Where the run keeps its "best" and its "last" checkpoint."""
    return Path(cfg.paths.run) / "checkpoints" / f"{name}.ckpt"
