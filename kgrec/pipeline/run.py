"""One run: prepare the data, build the model, fit it, test it and save the results.

The configuration is read here, in :mod:`kgrec.pipeline.parts` and in :mod:`kgrec.config`; the
code below takes plain arguments.
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

from kgrec.config.checks import check, check_start
from kgrec.config.devices import chosen_devices
from kgrec.config.location import applied_hparams, missing_settings
from kgrec.config.memory import fitting
from kgrec.config.targets import check_targets
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.evaluation.collapse import collapsed, mark, sentences, signs_of
from kgrec.evaluation.results import BASELINE, Evaluation
from kgrec.inference.kept_data import keep
from kgrec.interrupts import kept_by_lightning
from kgrec.models.recipes import trusted_by
from kgrec.models.recommender import Recommender
from kgrec.pipeline.parts import Parts, build, make_loggers, plain
from kgrec.reports.console import dataset_tables, results_table, slices_table
from kgrec.runs.checkpoints import load_recommender, read_checkpoint
from kgrec.runs.environment import environment
from kgrec.runs.folder import RunFolder
from kgrec.runs.results import shown_k, write_results
from kgrec.runs.status import Pruned, update
from kgrec.sharding.table import tables_of
from kgrec.sweeps.pruning import Pruning
from kgrec.tracking.logger import opened
from kgrec.tracking.results import log_dataset, log_results
from kgrec.training import distributed
from kgrec.training.accelerators import check_accelerator
from kgrec.training.callbacks import EpochLog
from kgrec.training.memory import CORES, peak_memory_gb
from kgrec.training.testing import evaluate_together

log = logging.getLogger(__name__)


def run(cfg: DictConfig, first: bool = True, callbacks: Sequence[pl.Callback] = ()) -> float:
    """Runs one configuration.

    Args:
        cfg: the configuration.
        first: whether this process prints, writes and tests; one of the training processes does.
        callbacks: callbacks that come after the configured ones.

    Returns:
        The validation metric by which the epoch was chosen; nan on the other processes.

    Raises:
        KgrecError: a mistake in data, configuration or checkpoint.
        Pruned: the run is a trial that was stopped early.
    """
    check(cfg)
    check_targets(cfg)
    check_start(cfg)
    check_accelerator(cfg.trainer.accelerator, chosen_devices(cfg))
    torch.set_num_threads(cfg.threads if isinstance(cfg.threads, int) else cfg.cores or CORES)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data, dataset = prepare(cfg)
    parts = build(cfg, dataset, callbacks=callbacks)
    folder = RunFolder(Path(cfg.paths.run))
    if first:
        update(folder.path, monitor=parts.monitor)  # a small catalogue has a smaller cut-off
    log.info(dataset_tables(data, dataset))
    log.info(applied_hparams(HydraConfig.get().runtime.choices))
    with opened(lambda: make_loggers(cfg) if first else [], folder.wandb, tracked(cfg)) as loggers:
        parts.trainer.loggers = list(loggers)
        if first:
            log_dataset(loggers, save_inputs(folder, cfg, data, dataset))
        metrics = precompute(parts.recommender, dataset)
        drawn = cfg.negatives.name, cfg.negatives.get("items", "catalogue")
        controls = parts.evaluator.controls(parts.model, *drawn) if first else {}
        metrics |= fit(parts, folder, cfg.ckpt_path, controls)
        tested = test(parts, folder, first)
        if tested is None:
            return math.nan
        evaluations = {parts.model: tested, **controls}
        slices = save(parts, folder, metrics, evaluations, loggers)
    show(parts, evaluations, slices, metrics)
    if warning := missing_settings(HydraConfig.get().runtime.choices):
        log.warning("warning: %s", warning)
    folder.write_metrics(metrics)  # last, after the loggers: with them the run is finished
    log.info("the results are in %s", folder.path)
    return metrics[cfg.monitor]


def prepare(cfg: DictConfig) -> tuple[PreparedData, RecDataset]:
    """Loads the data set and splits it as the protocol says."""
    with fitting("dataset", plain(cfg.dataset)):
        data: PreparedData = instantiate(cfg.dataset)
    dataset: RecDataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
    return data, dataset


def tracked(cfg: DictConfig) -> dict[str, Any]:
    """Configuration of the run for W&B: all settings, and the chosen configuration files."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    choices = HydraConfig.get().runtime.choices
    settings["choices"] = {k: v for k, v in choices.items() if "hydra" not in k}
    return dict(settings)


def save_inputs(
    folder: RunFolder,
    cfg: DictConfig,
    data: PreparedData,
    dataset: RecDataset,
    marks: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Writes configuration, environment, data facts, raw ids and the data that inference needs.

    Args:
        folder: run folder.
        cfg: the configuration.
        data: the data before the split.
        dataset: the split data.
        marks: further facts for environment.json and about.json, such as the kind of the run.

    Returns:
        The facts on the data.
    """
    hydra = HydraConfig.get()
    chosen = {"overrides": list(hydra.overrides.task), "choices": dict(hydra.runtime.choices)}
    chosen |= marks or {}
    facts = dataset_facts(data, dataset)
    folder.write_inputs(OmegaConf.to_yaml(cfg, resolve=True), environment() | chosen, facts)
    dataset.ids.save(folder.ids)
    about = {
        "model": hydra.runtime.choices["model"],
        "dataset": dataset.name,
        "monitor": cfg.monitor,
        "seed": cfg.seed,
        "weight_decay": cfg.optimizer.get("weight_decay", 0.0),
    }
    if dataset.items_apart:
        about["items_apart"] = True  # only the items of a part are ranked
    keep(folder, data, dataset, about | dict(marks or {}))
    return facts


def dataset_facts(data: PreparedData, dataset: RecDataset) -> dict[str, Any]:
    """Plain facts on a data set, for the run folder."""
    return {
        "name": dataset.name,
        "protocol": dataset.protocol,
        "seed": data.seed,
        "fingerprint": dataset.fingerprint,
        "counts": data.counts(),
        "published_counts": data.published_counts,
        "files": data.files,
        "account": dataset.account.as_list(),
    }


def precompute(recommender: Recommender, dataset: RecDataset) -> dict[str, float]:
    """Precomputes the model; returns the model's own metrics and the seconds."""
    begin = time.perf_counter()
    recommender.precompute(dataset)
    metrics = {"seconds": time.perf_counter() - begin, **recommender.precompute_metrics}
    return {f"precompute/{key}": value for key, value in metrics.items()}


def fit(
    parts: Parts, folder: RunFolder, ckpt_path: str | None, controls: dict[str, Evaluation]
) -> dict[str, float]:
    """Trains the model, which writes the best and the last checkpoint.

    A model without trained parameters is saved unchanged as the best checkpoint.

    Args:
        parts: objects of the run.
        folder: run folder.
        ckpt_path: checkpoint to resume from, or None.
        controls: evaluations of the controls.

    Returns:
        Epochs, seconds and memory; nothing on processes other than the first.

    Raises:
        Pruned: the training was stopped because other trials of the search are better.
    """
    start, trainer, best = time.perf_counter(), parts.trainer, folder.checkpoint("best")
    if not parts.recommender.trainable:
        trainer.strategy.connect(parts.module)
        trainer.save_checkpoint(best, weights_only=True)
        return {"train/epochs": 0.0}
    if BASELINE in controls:
        parts.control_line.show(controls[BASELINE].metrics)
    with kept_by_lightning():
        trainer.fit(
            parts.module, datamodule=parts.datamodule, ckpt_path=ckpt_path, weights_only=True
        )
    if any(isinstance(callback, Pruning) and callback.pruned for callback in trainer.callbacks):  # type: ignore[attr-defined]
        distributed.close()
        raise Pruned
    if not trainer.is_global_zero:
        return {}
    best_epoch = read_checkpoint(best)["epoch"] + 1
    log.info("best %s at epoch %d of %d", parts.monitor, best_epoch, trainer.current_epoch)
    if best_epoch == trainer.current_epoch == trainer.max_epochs:
        log.info("the best epoch is the last epoch: more epochs may be better (epochs=…)")
    clock = next((c for c in trainer.callbacks if isinstance(c, EpochLog)), None)  # type: ignore[attr-defined]
    metrics = {
        "train/peak_memory_gb": peak_memory_gb(trainer.strategy.root_device),
        "train/epochs": float(trainer.current_epoch),
        "train/best_epoch": float(best_epoch),
        "train/seconds": clock.elapsed if clock else time.perf_counter() - start,
        "train/rows_per_epoch": float(parts.datamodule.train_batches.num_rows),
    }
    if clock and clock.seconds:
        metrics["train/seconds_per_epoch"] = statistics.median(clock.seconds)
    for name, value in (clock.exchange if clock else {}).items():
        metrics[name.replace("speed/", "train/")] = value
    return metrics


def test(parts: Parts, folder: RunFolder, first: bool) -> Evaluation | None:
    """Evaluates the model of the best checkpoint, so that every run tests its checkpoint.

    Processes that share tables do so together, because none could hold the model. Otherwise the
    first process does so alone. The processes are disconnected then.

    Args:
        parts: objects of the run.
        folder: run folder.
        first: whether this process writes the results.

    Returns:
        The evaluation; None on processes other than the first.
    """
    best, evaluation = folder.checkpoint("best"), None
    if tables_of(parts.recommender):
        with kept_by_lightning():
            evaluation = evaluate_together(parts.trainer, parts.module, parts.datamodule, best)
    distributed.close()
    if not first:
        return None
    if evaluation is None:
        recommender = load_recommender(best, trusted_by(parts.recommender))
        evaluation = parts.evaluator.evaluate(recommender)
    return evaluation


def save(
    parts: Parts,
    folder: RunFolder,
    metrics: dict[str, float],
    evaluations: dict[str, Evaluation],
    loggers: Any,
) -> list[dict[str, Any]]:
    """Adds the evaluations to the metrics, writes and logs all results but ``metrics.json``.

    Returns:
        The slices.
    """
    for name, evaluation in evaluations.items():
        prefix = "" if name == parts.model else f"{name}/"
        metrics |= {f"{prefix}{key}": value for key, value in evaluation.metrics.items()}
    if parts.recommender.trainable:
        dataset, scores = parts.dataset, evaluations[parts.model].test.scores
        metrics |= collapsed(metrics["val/auc"], dataset.val, dataset.test, scores)
    ks = parts.evaluator.ks
    slices, samples = write_results(folder, parts.dataset, evaluations, ks)
    log_results(loggers, metrics, ks, samples, folder.checkpoint("best"))
    return slices


def show(
    parts: Parts,
    evaluations: dict[str, Evaluation],
    slices: list[dict[str, Any]],
    metrics: Mapping[str, float],
) -> None:
    """Prints test metrics of model and controls, and the slices; a collapsed model is marked."""
    dataset = parts.dataset
    k = shown_k(parts.evaluator.ks, dataset.num_items)
    title = f"{parts.model} on {dataset.name}, protocol={dataset.protocol}"
    rows = {name: evaluation.metrics for name, evaluation in evaluations.items()}
    if short := mark(metrics):
        rows = {f"{n} ({short})" if n == parts.model else n: row for n, row in rows.items()}
    log.info(results_table(title, rows, k))
    for sentence in sentences(parts.model, signs_of(metrics)):
        log.warning("warning: %s", sentence)
    log.info(slices_table(slices, k))
