"""What W&B is told beside curves: account of the data, charts, samples, results, checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger, WandbLogger

from kgrec.tracking.logger import RunLogger, tell, wandb_loggers

BASELINE = "popularity"


class ControlLine(Callback):
    """Logs popularity's validation figures every epoch, a flat line beside the model's curves.

    At the end W&B gets one chart with both. The curve of a run that was cut short stays with it
    when it goes on.

    Args:
        monitor: the figure of the chart.
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
        """Takes over the curve of the run that goes on."""
        self.curve = dict(state_dict["curve"])

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Notes the model's figure, before a checkpoint keeps the curve."""
        if not trainer.sanity_checking:
            self.curve[trainer.current_epoch] = float(trainer.callback_metrics[self.monitor])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Logs the flat line."""
        if not self.metrics:
            return
        flat: dict[str, float] = {f"{BASELINE}/{k}": v for k, v in self.metrics.items()}
        for logger in trainer.loggers:  # through the module all processes would have to know it
            logger.log_metrics(flat | {"epoch": trainer.current_epoch}, step=trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Draws both."""
        if self.monitor not in self.metrics:
            return
        lines = {"model": list(self.curve.values())}
        lines[BASELINE] = [self.metrics[self.monitor]] * len(self.curve)

        def draw(logger: WandbLogger) -> None:
            chart = _lines(list(self.curve), lines, f"{self.monitor} and {BASELINE}", "epoch")
            logger.experiment.log({f"charts/{self.monitor}": chart})

        tell(trainer.loggers, draw)


def log_dataset(loggers: Sequence[Logger], facts: Mapping[str, Any]) -> None:
    """Tables of the sizes of the data, and of what became of their rows.

    Args:
        loggers: those of the run.
        facts: what dataset.json has.
    """
    counts = list(facts["counts"].items())
    account = [(e["step"], e["what"], e["count"]) for e in facts["account"]]

    def draw(logger: WandbLogger) -> None:
        tables = {
            "dataset/counts": _table(("what", "count"), counts),
            "dataset/account": _table(("step", "what", "count"), account),
        }
        logger.experiment.log(tables)

    tell(loggers, draw)


def log_results(
    loggers: Sequence[Logger],
    metrics: Mapping[str, float],
    ks: Sequence[int],
    samples: Sequence[Mapping[str, Any]],
    checkpoint: Path,
) -> None:
    """Everything that is known at the end, once.

    Args:
        loggers: those of the run.
        metrics: what metrics.json has.
        ks: cutoffs of the ranking metrics.
        samples: what :func:`kgrec.evaluation.samples.samples` returned.
        checkpoint: the best one.
    """
    for logger in loggers:
        if not isinstance(logger, WandbLogger):
            logger.log_metrics({k: v for k, v in metrics.items() if "test/" in k})
    for to_wandb in wandb_loggers(loggers):
        to_wandb.experiment.summary.update(summary(metrics))

    def finish(logger: WandbLogger) -> None:
        run = logger.experiment
        run.log({**topk_charts(metrics, ks), "samples": _table(*sample_rows(samples))})
        if isinstance(logger, RunLogger) and logger.log_checkpoint:
            _log_checkpoint(run, checkpoint)

    tell(loggers, finish)


def summary(metrics: Mapping[str, float]) -> dict[str, float]:
    """metrics.json as W&B's table has it.

    The model's validation figures are those of the epoch that was kept and are called ``best/…``:
    ``val/…`` there is the best of each curve by itself. Popularity's are its flat line.
    """
    return {
        f"best/{key.removeprefix('val/')}" if key.startswith("val/") else key: value
        for key, value in metrics.items()
    }


def topk_charts(metrics: Mapping[str, float], ks: Sequence[int]) -> dict[str, Any]:
    """Recall and NDCG over the cutoff, of the model and of popularity; none without a ranking."""
    charts = {}
    for metric in ("recall", "ndcg"):
        curves = {
            name: [metrics[f"{prefix}test/{metric}@{k}"] for k in ks]
            for name, prefix in (("model", ""), (BASELINE, f"{BASELINE}/"))
            if ks and all(f"{prefix}test/{metric}@{k}" in metrics for k in ks)
        }
        if curves:
            charts[f"charts/{metric}"] = _lines(list(ks), curves, f"test {metric}@k", "k")
    return charts


def sample_rows(samples: Sequence[Mapping[str, Any]]) -> tuple[Sequence[str], list[Sequence[Any]]]:
    """Columns, and one row for each item that a sample user is recommended."""
    columns = ("user", "liked", "rank", "item", "name", "hit")
    return columns, [
        (record["user"], ", ".join(record["liked"]), rank, best["item"], best["name"], best["hit"])
        for record in samples
        for rank, best in enumerate(record["recommended"], 1)
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    import wandb

    # Without mixed types W&B refuses a column of names of which some are missing.
    return wandb.Table(columns=list(columns), data=list(rows), allow_mixed_types=True)


def _lines(xs: list[int], ys: Mapping[str, list[float]], title: str, xname: str) -> Any:
    import wandb

    keys = list(ys)
    return wandb.plot.line_series(xs, list(ys.values()), keys=keys, title=title, xname=xname)


def _log_checkpoint(run: Any, checkpoint: Path) -> None:
    import wandb

    artifact = wandb.Artifact(f"{run.id}-best", type="model")
    # It never changes again, so it is sent from where it lies, not from a copy.
    artifact.add_file(str(checkpoint), policy="immutable")
    run.log_artifact(artifact, aliases=["best"])
