"""One run: data, model, training, test, and the folder that it leaves.

The only room where configuration meets code; below it there are plain arguments.
"""

from __future__ import annotations

import logging
import math
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kgrec import config
from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.errors import ConfigError
from kgrec.files import write_json, write_text
from kgrec.models.recommender import Recommender
from kgrec.training import distributed
from kgrec.training.callbacks import EpochLog
from kgrec.training.console import dataset_tables, results_table, slices_table
from kgrec.training.evaluated import shown_k, write_evaluation
from kgrec.training.memory import (
    check_memory,
    evaluation_batch_size,
    parse_bytes,
    peak_memory_gb,
    threads_for,
)
from kgrec.training.module import (
    RecommenderModule,
    check_checkpoint,
    load_recommender,
    read_checkpoint,
)
from kgrec.training.run_folder import dataset_facts, environment
from kgrec.training.testing import evaluate, with_controls

log = logging.getLogger(__name__)


def main() -> None:
    """The command line: ``python train.py`` and ``kgrec train``."""
    # Hydra would print a stack trace for every error; with this it hands them over.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Lightning 2.6 calls what torch has deprecated; and the loss is logged once an epoch.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message="The number of training batches")
    # A run may go on in its own folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    conf = str(config.conf_dir())
    distributed.agree_on_start()
    try:
        hydra.main(version_base="1.3", config_path=conf, config_name="train")(_job)()
    except ReportedError:
        sys.exit(1)
    except OSError as error:  # such as a run folder that cannot be written
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {config.explain(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


class ReportedError(Exception):
    """A user's mistake that has been logged already."""


def _job(cfg: DictConfig) -> float:
    try:
        return run(cfg)
    except Exception as error:
        known = config.user_error(error)
        if known is None:
            log.exception("the run failed")
            raise
        log.error("error: %s", known)
        raise ReportedError(known) from error


def run(cfg: DictConfig) -> float:
    """Runs one configuration and returns the validation figure by which the epoch was chosen.

    Raises:
        KgrecError: a mistake in data, configuration or checkpoint.
    """
    first = distributed.begin(config.world_size(cfg))
    config.check(cfg)
    config.check_start(cfg)
    folder, choices = Path(cfg.paths.run), HydraConfig.get().runtime.choices
    if (folder / "metrics.json").exists():
        raise ConfigError(f"hydra.run.dir: found a finished run in {folder}, expected a new folder")
    if isinstance(cfg.threads, int):
        torch.set_num_threads(cfg.threads)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data = instantiate(cfg.dataset)
    dataset: RecDataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
    log.info(dataset_tables(data, dataset))
    log.info(config.applied_hparams(choices))

    recommender: Recommender = instantiate(cfg.model, dataset)
    facts = {"name": dataset.name, "protocol": dataset.protocol, "fingerprint": dataset.fingerprint}
    kept = ("seed", "monitor", "batch_size", "memory_budget", "negatives", "optimizer")
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    settings = {key: resolved[key] for key in kept}
    optimizer, budget = instantiate(cfg.optimizer), parse_bytes(cfg.memory_budget)
    ks = cutoffs(cfg, dataset)
    ranked = cfg.ranking.validation or "@" in cfg.monitor
    module = RecommenderModule(
        recommender, optimizer, cfg.seed, facts, settings, budget, ks, ranked
    )
    datamodule = make_datamodule(cfg, dataset, recommender)
    check_before_training(cfg, module, dataset)

    if first:
        write_account(cfg, data, dataset)
    loggers = make_loggers(cfg) if first else []
    try:
        metrics = precompute(recommender, dataset)
        metrics |= fit(cfg, module, datamodule, loggers)
        if not first:
            return float("nan")
        model = str(choices["model"])
        best = load_recommender(checkpoint_path(cfg, "best"))
        rows = with_controls(model, best, dataset, cfg.negatives.name)
        found = evaluate(rows, datamodule, facts, ks, ranked, cfg.trainer.accelerator)
        for name, evaluated in found.items():
            prefix = "" if name == model else f"{name}/"
            metrics |= {f"{prefix}{key}": value for key, value in evaluated.figures.items()}
        for logger in loggers:
            logger.log_metrics({k: v for k, v in metrics.items() if "test/" in k})
        slices = write_evaluation(folder, dataset, found, ks)
    finally:
        finish(loggers)
    write_json(folder / "metrics.json", metrics)
    title = f"{model} on {dataset.name}, protocol={dataset.protocol}"
    k = shown_k(ks, dataset.num_items)
    log.info(results_table(title, {n: e.figures for n, e in found.items()}, k))
    log.info(slices_table(slices, k))
    log.info("everything was written to %s", folder)
    return metrics[cfg.monitor]


def write_account(cfg: DictConfig, data: PreparedData, dataset: RecDataset) -> None:
    """Leaves in the run folder what was asked for, on which machine, and on which data."""
    folder, about = Path(cfg.paths.run), HydraConfig.get()
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    how = {"overrides": list(about.overrides.task), "choices": dict(about.runtime.choices)}
    write_json(folder / "environment.json", environment() | how)
    write_json(folder / "dataset.json", dataset_facts(data, dataset))
    dataset.ids.save(folder / "ids")


def precompute(recommender: Recommender, dataset: RecDataset) -> dict[str, float]:
    """Computes what is not trained; returns what the model found meanwhile, and the seconds."""
    begin = time.perf_counter()
    recommender.precompute(dataset)
    found = {"seconds": time.perf_counter() - begin, **recommender.found}
    return {f"precompute/{key}": value for key, value in found.items()}


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
        rows = math.ceil(cfg.batch_size / config.world_size(cfg))
        if cfg.threads == "auto":
            devices = config.num_devices(cfg)
            torch.set_num_threads(max(1, threads_for(recommender, items, rows) // devices))
        device = make_trainer(cfg, []).strategy.root_device
        pieces = check_memory(recommender, items, rows, budget, device)
        if pieces > 1:
            log.info("memory_budget: a step is taken in about %d pieces", pieces)
    if cfg.ckpt_path is not None:
        if not recommender.trainable:
            raise ConfigError(f"ckpt_path: found {cfg.ckpt_path}, but there is nothing to train")
        check_checkpoint(read_checkpoint(Path(cfg.ckpt_path)), module)


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
    datamodule.check_devices(config.world_size(cfg))
    missing = datamodule.train_batches.sources[0].undrawable
    if recommender.trainable and missing:
        log.info("%d training negatives cannot be drawn: their users have every item", missing)
    return datamodule


def steps_per_call(cfg: DictConfig) -> int | None:
    """How many steps share one call of training_step; None: as the data module thinks best."""
    # These count calls, and are meant to count steps.
    counting = ("limit_train_batches", "val_check_interval", "max_steps", "overfit_batches")
    counted = any(cfg.trainer.get(key) is not None for key in counting)
    if cfg.steps_per_call is None and (counted or config.world_size(cfg) > 1):
        return 1
    return cfg.steps_per_call  # type: ignore[no-any-return]


def make_trainer(cfg: DictConfig, loggers: list[Any]) -> pl.Trainer:
    """A Lightning Trainer with the configured callbacks."""
    found = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    callbacks = [callback for callback in found if callback is not None]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        logger=loggers,
        callbacks=callbacks,
        enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
    )
    return trainer


def make_loggers(cfg: DictConfig) -> list[Any]:
    """The configured loggers; W&B gets the resolved configuration."""
    loggers = [instantiate(node) for node in cfg.logger.values() if node is not None]
    for logger in loggers:
        if isinstance(logger, pl.loggers.WandbLogger):
            logger.experiment.config.update(OmegaConf.to_container(cfg, resolve=True))
    return loggers


def fit(
    cfg: DictConfig, module: RecommenderModule, datamodule: KGDataModule, loggers: list[Any]
) -> dict[str, float]:
    """Trains, leaving checkpoints/best.ckpt and last.ckpt, and says how long it took.

    A model with nothing to train leaves best.ckpt as it is.
    """
    start = time.perf_counter()
    trainer, best = make_trainer(cfg, loggers), checkpoint_path(cfg, "best")
    if not module.recommender.trainable:
        trainer.strategy.connect(module)
        trainer.save_checkpoint(best, weights_only=True)
        return {"train/epochs": 0.0}
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    except SystemExit:  # what Lightning makes of Ctrl-C
        last = checkpoint_path(cfg, "last")
        log.info(
            "interrupted; %s",
            f"go on with ckpt_path={last}" if last.exists() else "in the first epoch",
        )
        raise
    distributed.close()
    if not trainer.is_global_zero:
        return {}
    kept = read_checkpoint(best)["epoch"] + 1
    log.info("best %s at epoch %d of %d", cfg.monitor, kept, trainer.current_epoch)
    clocks = [c for c in trainer.callbacks if isinstance(c, EpochLog)]  # type: ignore[attr-defined]
    metrics = {
        "train/peak_memory_gb": peak_memory_gb(trainer.strategy.root_device),
        "train/epochs": float(trainer.current_epoch),
        "train/best_epoch": float(kept),
        "train/seconds": clocks[0].elapsed if clocks else time.perf_counter() - start,
        "train/rows_per_epoch": float(datamodule.train_batches.num_rows),
    }
    if clocks and clocks[0].seconds:
        metrics["train/seconds_per_epoch"] = statistics.median(clocks[0].seconds)
    return metrics


def checkpoint_path(cfg: DictConfig, name: str) -> Path:
    """Where the run keeps its "best" and its "last" checkpoint."""
    return Path(cfg.paths.run) / "checkpoints" / f"{name}.ckpt"


def finish(loggers: list[Any]) -> None:
    """Closes what is open, so that the next job of a multirun begins anew."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, pl.loggers.WandbLogger):
            import wandb

            wandb.finish()
