"""One run: data, model, training, test, and the folder that it leaves.

The only room where configuration meets code; below it there are plain arguments.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
import time
import warnings
from collections.abc import Mapping
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

from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.errors import ConfigError, KgrecError
from kgrec.models.controls import AllPositive, Popularity, PopularityBalance, UnseenItem
from kgrec.models.recommender import Recommender, import_object
from kgrec.training.callbacks import EpochLog
from kgrec.training.console import dataset_tables, results_table
from kgrec.training.memory import check_memory, evaluation_batch_size
from kgrec.training.module import (
    RecommenderModule,
    check_checkpoint,
    load_recommender,
    read_checkpoint,
)
from kgrec.training.run_folder import dataset_facts, environment, write_json, write_text

log = logging.getLogger(__name__)

TOP_LEVEL_KEYS = frozenset(
    "seed epochs patience batch_size eval_batch_size threads ckpt_path dataset protocol split "
    "negatives optimizer trainer callbacks logger paths model settings".split()
)


def conf_dir() -> Path:
    """The configuration: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"


def main() -> None:
    """The command line: ``python train.py`` and ``kgrec train``."""
    # Hydra would print a stack trace for every error; with this it hands them over.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    # Lightning 2.6 calls what torch has deprecated.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(_job)()
    except Reported:
        sys.exit(1)
    except (HydraException, OmegaConfBaseException) as error:
        print(f"error: {explain(error)}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


class Reported(Exception):
    """A user's mistake that has been logged already."""


def _job(cfg: DictConfig) -> float:
    try:
        return run(cfg)
    except Exception as error:
        known = _user_error(error)
        if known is None:
            log.exception("the run failed")
            raise
        log.error("error: %s", known)  # noqa: TRY400
        raise Reported(str(known)) from error


def _user_error(error: BaseException | None) -> str | None:
    """The user's mistake behind an exception, if there is one."""
    while error is not None:
        if isinstance(error, KgrecError):
            return str(error)
        if isinstance(error, OmegaConfBaseException):
            return explain(error)
        error = error.__cause__
    return None


def explain(error: Exception) -> str:
    """Found and expected, for an error of Hydra or OmegaConf."""
    inner = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(inner, OmegaConfBaseException):
        parent, key = inner.parent_node, inner.full_key
        if isinstance(parent, DictConfig) and inner.key not in parent and key:
            return f"{key}: found an unknown key, expected one of {_listed(parent.keys())}"
        if "Missing mandatory value" in str(inner):
            return f"{key}: found nothing, expected a value (set it with {key}=…)"
    return str(error)


def _listed(names: Any) -> str:
    return ", ".join(sorted(str(name) for name in names if not str(name).startswith("_")))


def check_keys(cfg: DictConfig) -> None:
    """Refuses keys that nothing would read.

    Raises:
        ConfigError: names the key and what is expected in its place.
    """
    unknown = sorted(set(map(str, cfg)) - TOP_LEVEL_KEYS)
    if unknown:
        raise ConfigError(
            f"{unknown[0]}: found an unknown key, expected one of {_listed(TOP_LEVEL_KEYS)}"
        )
    for group in ("dataset", "protocol", "split", "model", "optimizer"):
        node = OmegaConf.to_container(cfg[group], resolve=True)
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise ConfigError(f"{group}: found no _target_, expected a file of conf/{group}")
        try:
            known = inspect.signature(import_object(node["_target_"])).parameters
        except ConfigError as error:
            raise ConfigError(f"{group}._target_: {error}") from error
        if any(p.kind is p.VAR_KEYWORD for p in known.values()):
            continue
        expected = [name for name in known if name not in ("dataset", "params", "data")]
        for key in node:
            if not str(key).startswith("_") and key not in expected:
                raise ConfigError(
                    f"{group}.{key}: found an unknown key, expected one of {_listed(expected)}"
                )


def run(cfg: DictConfig) -> float:
    """Runs one configuration and returns its best validation AUC.

    Raises:
        KgrecError: a mistake in data, configuration or checkpoint.
    """
    check_keys(cfg)
    folder = Path(cfg.paths.run)
    choices = HydraConfig.get().runtime.choices
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    data = instantiate(cfg.dataset)
    dataset: RecDataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
    log.info(dataset_tables(data, dataset))
    log.info(applied_hparams(choices))

    recommender: Recommender = instantiate(cfg.model, dataset)
    recommender.precompute(dataset)
    eval_batch_size = cfg.eval_batch_size or evaluation_batch_size(recommender, dataset.train.items)
    datamodule = KGDataModule(
        dataset, cfg.batch_size, eval_batch_size, cfg.negatives.name, cfg.negatives.ratio, cfg.seed
    )
    facts = {"name": dataset.name, "protocol": dataset.protocol, "fingerprint": dataset.fingerprint}
    optimizer = instantiate(cfg.optimizer) if recommender.trainable else None
    module = RecommenderModule(recommender, optimizer, cfg.seed, facts)
    if cfg.ckpt_path is not None:
        check_checkpoint(read_checkpoint(Path(cfg.ckpt_path)), recommender, facts)

    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    write_json(folder / "environment.json", environment())
    write_json(folder / "dataset.json", dataset_facts(data, dataset))
    dataset.ids.save(folder / "ids")

    loggers = [instantiate(node) for node in cfg.logger.values()]
    try:
        metrics = _fit(cfg, module, datamodule, loggers)
        trained = load_recommender(folder / "checkpoints" / "best.ckpt")
        rows = {str(choices["model"]): evaluate(trained, datamodule, facts, cfg)}
        for name, control in controls(dataset, cfg.negatives.name).items():
            if name != choices["model"]:
                control.precompute(dataset)
                rows[name] = evaluate(control, datamodule, facts, cfg)
        metrics |= rows[str(choices["model"])]
        for name, figures in list(rows.items())[1:]:
            metrics |= {f"{name}/{key}": value for key, value in figures.items()}
        for logger in loggers:
            logger.log_metrics({k: v for k, v in metrics.items() if "test/" in k})
    finally:
        finish(loggers)
    write_json(folder / "metrics.json", metrics)
    log.info(
        results_table(f"{choices['model']} on {dataset.name}, protocol={dataset.protocol}", rows)
    )
    log.info("everything was written to %s", folder)
    return metrics["val/auc"]


def applied_hparams(choices: Mapping[str, Any]) -> str:
    """Says which settings file was applied, or that there is none."""
    wanted = f"{choices['settings']}/{choices['dataset']}-{choices['model']}"
    if (conf_dir() / "hparams" / f"{wanted}.yaml").is_file():
        return f"hyper-parameters: conf/hparams/{wanted}.yaml"
    return f"hyper-parameters: the model's own (there is no conf/hparams/{wanted}.yaml)"


def controls(dataset: RecDataset, negatives: str) -> dict[str, Recommender]:
    """The models that stand beside every other one under this protocol."""
    found: dict[str, Recommender] = {"popularity": Popularity.from_dataset(dataset)}
    if dataset.protocol == "clean":
        found["unseen_item"] = UnseenItem.from_dataset(dataset)
    elif negatives == "static":
        found["popularity_balance"] = PopularityBalance.from_dataset(dataset)
    found["all_positive"] = AllPositive.from_dataset(dataset)
    return found


def _fit(
    cfg: DictConfig, module: RecommenderModule, datamodule: KGDataModule, loggers: list[Any]
) -> dict[str, float]:
    """Trains, leaving checkpoints/best.ckpt; a model without parameters is saved as it is."""
    found = [instantiate(node) for node in cfg.callbacks.values() if node is not None]
    callbacks = [callback for callback in found if callback is not None]
    for logger in loggers:
        if isinstance(logger, pl.loggers.WandbLogger):
            logger.experiment.config.update(OmegaConf.to_container(cfg, resolve=True))
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        logger=loggers,
        callbacks=callbacks,
        enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
    )
    if not module.recommender.trainable:
        if cfg.ckpt_path is not None:
            raise ConfigError(
                f"ckpt_path: found {cfg.ckpt_path}, expected null: "
                f"{type(module.recommender).__name__} has nothing to train"
            )
        trainer.strategy.connect(module)
        trainer.save_checkpoint(Path(cfg.paths.run) / "checkpoints" / "best.ckpt")
        return {"train/epochs": 0}
    device = trainer.strategy.root_device
    check_memory(module.recommender, datamodule.dataset.train.items, cfg.batch_size, device)
    if undrawable := datamodule.train_batches.undrawable:
        log.info("%d training negatives an epoch cannot be drawn: their users have every item",
                 undrawable)  # fmt: skip
    start = time.perf_counter()
    trainer.fit(module, datamodule=datamodule, ckpt_path=cfg.ckpt_path, weights_only=True)
    if trainer.interrupted:
        raise KgrecError(f"interrupted; go on with ckpt_path={cfg.paths.run}/checkpoints/last.ckpt")
    epochs = [c for c in callbacks if isinstance(c, EpochLog)]
    seconds = sorted(epochs[0].seconds) if epochs else []
    figures = {
        "train/epochs": trainer.current_epoch,
        "train/seconds": time.perf_counter() - start,
        "train/rows_per_epoch": datamodule.train_batches.num_rows,
    }
    if seconds:
        figures["train/seconds_per_epoch"] = seconds[len(seconds) // 2]
    return figures


def evaluate(
    recommender: Recommender, datamodule: KGDataModule, facts: dict[str, Any], cfg: DictConfig
) -> dict[str, float]:
    """Validation, then test with the threshold that validation chose; models and controls alike."""
    module = RecommenderModule(recommender, None, cfg.seed, facts)
    trainer = pl.Trainer(
        accelerator=cfg.trainer.accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    figures: dict[str, float] = {}
    for step in (trainer.validate, trainer.test):
        for loader in step(module, datamodule=datamodule, verbose=False):
            figures |= loader
    return figures


def finish(loggers: list[Any]) -> None:
    """Closes what is open, so that the next job of a multirun begins anew."""
    for logger in loggers:
        logger.finalize("success")
        if isinstance(logger, pl.loggers.WandbLogger):
            import wandb

            wandb.finish()
