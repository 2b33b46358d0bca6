"""Content that W&B gets besides curves: data tables, charts, samples, results, checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger

from kgrec.evaluation.results import BASELINE
from kgrec.runs.checkpoints import checkpoint_files
from kgrec.tracking.logger import RunLogger, log_to_wandb, wandb_loggers


class ControlLine(Callback):
    """Logs the validation metrics of popularity in every epoch: a flat line to compare with.

    At the end W&B gets one chart with the model's curve and the flat line. A run that resumes keeps
    its curve.

    Args:
        monitor: metric of the chart.
    """

    def __init__(self, monitor: str) -> None:
        self.monitor = monitor
        self.metrics: dict[str, float] = {}
        self.curve: dict[int, float] = {}

    def show(self, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of the baseline; without them nothing is logged."""
        self.metrics = {k: v for k, v in metrics.items() if k.startswith("val/")}

    def state_dict(self) -> dict[str, Any]:
        """The model's curve so far, by epoch."""
        return {"curve": self.curve}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the curve of the run that is resumed."""
        self.curve = dict(state_dict["curve"])

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Adds the model's metric to the curve, before a checkpoint saves it."""
        if not trainer.sanity_checking:
            self.curve[trainer.current_epoch] = float(trainer.callback_metrics[self.monitor])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Logs the flat line."""
        if not self.metrics:
            return
        flat: dict[str, float] = {f"{BASELINE}/{k}": v for k, v in self.metrics.items()}
        for logger in trainer.loggers:  # the module's log would need the values on all processes
            logger.log_metrics(flat | {"epoch": trainer.current_epoch}, step=trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Draws the curve and the flat line."""
        if self.monitor not in self.metrics:
            return
        lines = {"model": list(self.curve.values())}
        lines[BASELINE] = [self.metrics[self.monitor]] * len(self.curve)

        def draw(logger: WandbLogger) -> None:
            chart = _lines(list(self.curve), lines, f"{self.monitor} and {BASELINE}", "epoch")
            logger.experiment.log({f"z_charts/{self.monitor}": chart})

        log_to_wandb(trainer.loggers, draw)


def log_dataset(loggers: Sequence[Logger], facts: Mapping[str, Any]) -> None:
    """Logs tables of the sizes of the data set, and of the rows that each step kept or dropped.

    Args:
        loggers: loggers of the run.
        facts: content of dataset.json.
    """
    counts = list(facts["counts"].items())
    account = [(e["step"], e["what"], e["count"]) for e in facts["account"]]

    def draw(logger: WandbLogger) -> None:
        tables = {
            "z_tables/counts": _table(("what", "count"), counts),
            "z_tables/account": _table(("step", "what", "count"), account),
        }
        logger.experiment.log(tables)

    log_to_wandb(loggers, draw)


def log_results(
    loggers: Sequence[Logger],
    metrics: Mapping[str, float],
    ks: Sequence[int],
    samples: Sequence[Mapping[str, Any]],
    checkpoint: Path,
) -> None:
    """Logs the results of a run at its end.

    Args:
        loggers: loggers of the run.
        metrics: content of metrics.json.
        ks: cut-offs of the ranking metrics.
        samples: result of :func:`kgrec.evaluation.samples.samples`.
        checkpoint: best checkpoint.
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            logger.log_metrics({k: v for k, v in metrics.items() if "test/" in k})
    for to_wandb in wandb_loggers(loggers):
        to_wandb.experiment.summary.update(summary(metrics))

    def finish(logger: WandbLogger) -> None:
        run = logger.experiment
        run.log({**topk_charts(metrics, ks), "z_tables/samples": _table(*sample_rows(samples))})
        if isinstance(logger, RunLogger) and logger.log_checkpoint:
            _log_checkpoint(run, checkpoint)

    log_to_wandb(loggers, finish)


def summary(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics of metrics.json under the names of W&B's table of runs.

    The model's validation metrics are from the best epoch; they are called ``best/…``, because
    ``val/…`` is the best value of each curve by itself.
    """
    return {
        f"best/{key.removeprefix('val/')}" if key.startswith("val/") else key: value
        for key, value in metrics.items()
    }


def topk_charts(metrics: Mapping[str, float], ks: Sequence[int]) -> dict[str, Any]:
    """Charts of recall and NDCG over the cut-off, for the model and popularity, where ranked."""
    charts = {}
    for metric in ("recall", "ndcg"):
        curves = {
            name: [metrics[f"{prefix}test/{metric}@{k}"] for k in ks]
            for name, prefix in (("model", ""), (BASELINE, f"{BASELINE}/"))
            if ks and all(f"{prefix}test/{metric}@{k}" in metrics for k in ks)
        }
        if curves:
            charts[f"z_charts/{metric}"] = _lines(list(ks), curves, f"test {metric}@k", "k")
    return charts


def sample_rows(samples: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """Columns, and one row for each item that is recommended to a sample user."""
    columns = ("user", "liked", "rank", "item", "name", "hit")
    return columns, [
        (record["user"], ", ".join(record["liked"]), rank, best["item"], best["name"], best["hit"])
        for record in samples
        for rank, best in enumerate(record["recommended"], 1)
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    # Without mixed types W&B refuses a column of names if some are missing.
    return wandb.Table(columns=list(columns), data=list(rows), allow_mixed_types=True)


def _lines(xs: list[int], ys: Mapping[str, list[float]], title: str, xname: str) -> Any:
    import wandb

    keys = list(ys)
    return wandb.plot.line_series(xs, list(ys.values()), keys=keys, title=title, xname=xname)


def _log_checkpoint(run: Any, checkpoint: Path) -> None:
    import wandb

    artifact = wandb.Artifact(f"{run.id}-best", type="model")
    # The files never change again, so W&B can send them without a copy.
    for file, name in checkpoint_files(checkpoint):
        artifact.add_file(str(file), name, policy="immutable")
    run.log_artifact(artifact, aliases=["best"])
