"""Plots of scores and of slices in a report on finished runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from kgrec.evaluation.results import BASELINE
from kgrec.reports.drawing import INK, percent
from kgrec.reports.palette import Palette, metric_name
from kgrec.reports.results.drawn import Drawn, Panel
from kgrec.reports.results.plots import chosen, legend
from kgrec.reports.results.systems import System
from kgrec.runs.finished import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 30
MOST_SYSTEMS = 4


def score_plots(where: str, systems: Sequence[System], palette: Palette) -> Drawn | None:
    """Calibration and the scores of positives and negatives, two panels for each system."""
    shown, missing = chosen([s for s in systems if _has_logits(s.first)], MOST_SYSTEMS)
    if not shown:
        return None
    panels: list[Panel] = []
    for name, system in shown.items():
        rows, colour = system.first.rows(), palette.style(name).colour
        panels += [_calibration(name, rows, colour), _histogram(name, rows, colour)]
    return Drawn(
        f"scores-{where}", f"Calibration and scores: {where}",
        "Calibration: share of positives in ten equal groups of test rows, by predicted "
        "probability; on the broken line predictions are right. Scores: before the sigmoid, in "
        "colour of positives and in grey of negatives. One seed of each system." + missing,
        panels, height=2.9,
    )  # fmt: skip


def _has_logits(run: Run) -> bool:
    return "test/log_loss" in run.metrics and run.files.rows_file(run.model).is_file()


def _calibration(name: str, rows: pl.DataFrame, colour: str) -> Panel:
    probs = 1 / (1 + np.exp(-np.clip(rows["score"].to_numpy().astype(float), -500, 500)))
    order = np.argsort(probs, kind="stable")
    groups = [group for group in np.array_split(order, 10) if len(group)]
    labels = rows["label"].to_numpy()

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=1)
        axes.plot(
            [probs[g].mean() for g in groups], [labels[g].mean() for g in groups],
            "o-", ms=4, lw=1.5, color=colour,
        )  # fmt: skip
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="predicted probability", ylabel="share of positives")
        axes.set(xlim=(0, 1), ylim=(0, 1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(percent)

    return paint


def _histogram(name: str, rows: pl.DataFrame, colour: str) -> Panel:
    scores, labels = rows["score"].to_numpy(), rows["label"].to_numpy()
    low, high = np.quantile(scores, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)

    def paint(axes: Axes) -> None:
        for label, ink in ((0, INK), (1, colour)):
            part = np.clip(scores[labels == label], edges[0], edges[-1])
            axes.hist(part, bins=edges.tolist(), histtype="stepfilled", alpha=0.45, color=ink)
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="score", ylabel="test rows")

    return paint


def slice_plot(where: str, systems: Sequence[System], palette: Palette) -> Drawn | None:
    """Recall and AUC by training positives of the user and of the item."""
    shown, missing = chosen([s for s in systems if s.first.slices])
    if not shown:
        return None
    bars = [(name, system, system.first.model) for name, system in shown.items()]
    if BASELINE not in shown:
        bars.append((BASELINE, bars[0][1], BASELINE))
    records = bars[0][1].first.slices

    def panel(by: str, metric: str) -> Panel:
        names = list(dict.fromkeys(r["positives"] for r in records if r["by"] == by))
        width = 0.8 / len(bars)

        def paint(axes: Axes) -> None:
            for number, (name, system, model) in enumerate(bars):
                colour = palette.style(name).colour
                values = [_slice(system, model, by, n, metric) for n in names]
                places = np.arange(len(names)) + (number - (len(bars) - 1) / 2) * width
                if metric == "auc":  # chance is 0.5, so a bar from 0 would mislead
                    axes.plot(places, values, "o", ms=5, color=colour)
                else:
                    axes.bar(places, values, width, color=colour)
            axes.set_xticks(range(len(names)), names)
            axes.grid(False, axis="x")
            axes.set(xlabel=f"training positives of the {by}", ylabel=f"test {metric_name(metric)}")
            if metric == "auc":
                axes.axhline(0.5, color=INK, lw=1, ls="--")

        return paint

    panels = [panel(by, metric) for by in ("user", "item") for metric in ("recall@20", "auc")]
    return Drawn(
        f"slices-{where}", f"By training positives: {where}",
        "First users, then items, by their number of training positives. Means over seeds. The "
        "AUC of items compares items of about the same popularity, so popularity does little "
        "there." + missing,
        panels, legend(shown, palette), height=3.0,
    )  # fmt: skip


def _slice(system: System, model: str, by: str, positives: str, metric: str) -> float:
    cells: list[Any] = [
        record.get(metric)
        for run in system.runs
        for record in run.slices
        if (record["model"], record["by"], record["positives"]) == (model, by, positives)
    ]
    values = [value for value in cells if value is not None]
    return float(np.mean(values)) if values else math.nan
