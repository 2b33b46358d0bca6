"""One run: data, model, training, test, and the folder that it leaves.

Here and in :mod:`kgrec.build` configuration meets code; below there are plain arguments.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgrec.build import (
    check_before_training,
    checkpoint_path,
    cutoffs,
    make_datamodule,
    make_loggers,
    make_trainer,
    one_device,
)
from kgrec.config.checks import check, check_start
from kgrec.config.location import applied_hparams
from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.files import write_json, write_text
from kgrec.models.recipes import trusted_by
from kgrec.models.recommender import Recommender
from kgrec.reports.console import (
    dataset_tables,
    results_table,
    slices_table,
)
from kgrec.runs.checkpoints import load_recommender, read_checkpoint
from kgrec.runs.evaluation import shown_k, write_evaluation
from kgrec.runs.folder import dataset_facts, environment
from kgrec.tracking.logger import opened
from kgrec.tracking.results import BESIDE, ControlLine, log_dataset, log_results
from kgrec.training import distributed
from kgrec.training.callbacks import EpochLog
from kgrec.training.memory import (
    CORES,
    parse_bytes,
    peak_memory_gb,
)
from kgrec.training.module import RecommenderModule
from kgrec.training.testing import Evaluated, evaluate, evaluate_controls

log = logging.getLogger(__name__)


def run(cfg: DictConfig, first: bool = True) -> float:
    """Runs one configuration and returns the validation figure by which the epoch was chosen.

    Args:
        cfg: the configuration.
        first: whether this process is the one, of those that train the model, that speaks, writes
            and tests; the others return nan.

    Raises:
        KgrecError: a mistake in data, configuration or checkpoint.
    """
    check(cfg)
    check_start(cfg)
    folder, choices = Path(cfg.paths.run), HydraConfig.get().runtime.choices
    torch.set_num_threads(cfg.threads if isinstance(cfg.threads, int) else cfg.cores or CORES)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data = instantiate(cfg.dataset)
    dataset: RecDataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
    log.info(dataset_tables(data, dataset))
    log.info(applied_hparams(choices))

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

    model, device = str(choices["model"]), one_device(cfg)
    how = datamodule, facts, ks, ranked, device
    told = resolved | {"choices": {k: v for k, v in choices.items() if "hydra" not in k}}
    with opened(lambda: make_loggers(cfg) if first else [], folder, told) as loggers:
        if first:
            log_dataset(loggers, write_account(cfg, data, dataset))
        metrics = precompute(recommender, dataset)
        controls = evaluate_controls(model, cfg.negatives.name, *how) if first else {}
        metrics |= fit(cfg, module, datamodule, loggers, controls)
        if not first:
            return math.nan
        best = checkpoint_path(cfg, "best")
        found = {model: evaluate(load_recommender(best, trusted_by(recommender)), *how), **controls}
        for name, evaluated in found.items():
            prefix = "" if name == model else f"{name}/"
            metrics |= {f"{prefix}{key}": value for key, value in evaluated.figures.items()}
        slices, samples = write_evaluation(folder, dataset, found, ks)
        write_json(folder / "metrics.json", metrics)
        log_results(loggers, metrics, ks, samples, best)
    title = f"{model} on {dataset.name}, protocol={dataset.protocol}"
    k = shown_k(ks, dataset.num_items)
    log.info(results_table(title, {n: e.figures for n, e in found.items()}, k))
    log.info(slices_table(slices, k))
    log.info("everything was written to %s", folder)
    return metrics[cfg.monitor]


def write_account(cfg: DictConfig, data: PreparedData, dataset: RecDataset) -> dict[str, Any]:
    """Leaves in the run folder what was asked for, where, and on which data; returns the last."""
    folder, about = Path(cfg.paths.run), HydraConfig.get()
    facts = dataset_facts(data, dataset)
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    how = {"overrides": list(about.overrides.task), "choices": dict(about.runtime.choices)}
    write_json(folder / "environment.json", environment() | how)
    write_json(folder / "dataset.json", facts)
    dataset.ids.save(folder / "ids")
    return facts


def precompute(recommender: Recommender, dataset: RecDataset) -> dict[str, float]:
    """Computes what is not trained; returns what the model found meanwhile, and the seconds."""
    begin = time.perf_counter()
    recommender.precompute(dataset)
    found = {"seconds": time.perf_counter() - begin, **recommender.precompute_metrics}
    return {f"precompute/{key}": value for key, value in found.items()}


def fit(
    cfg: DictConfig,
    module: RecommenderModule,
    datamodule: KGDataModule,
    loggers: Sequence[Any],
    controls: Mapping[str, Evaluated],
) -> dict[str, float]:
    """Trains, leaving checkpoints/best.ckpt and last.ckpt, and says how long it took.

    A model with nothing to train leaves best.ckpt as it is.
    """
    start = time.perf_counter()
    beside = [ControlLine(cfg.monitor, controls[BESIDE].figures)] if BESIDE in controls else []
    trainer, best = make_trainer(cfg, loggers, beside), checkpoint_path(cfg, "best")
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
