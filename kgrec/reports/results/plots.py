"""Plots of a report, each from finished runs alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl

from kgrec.reports.drawing import INK, percent
from kgrec.reports.results.published import DATA_SETS, SWEEPS, SYMBOLS
from kgrec.reports.results.systems import Summary, System
from kgrec.reports.results.tables import Sweep, control, representatives
from kgrec.runs.finished import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct on white and on black, also to most who see colours differently (Okabe and Ito).
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d46", "#7a5fd0",
)  # fmt: skip
MOST_LINES = len(COLOURS)
BINS = 30


class Drawn(NamedTuple):
    """A plot before it is drawn.

    Attributes:
        name: of its file.
        title: above it.
        caption: below it, how to read it.
        paint: draws on an empty figure.
        size: in inches.
    """

    name: str
    title: str
    caption: str
    paint: Callable[[Figure], None]
    size: tuple[float, float] = (4.9, 3.4)


def chosen(systems: Sequence[System], most: int = MOST_LINES) -> tuple[dict[str, System], str]:
    """The systems that one plot can show, and words on those that it leaves out.

    Where there are more than it can show, every model has its best settings on validation, and
    the best models stand first.
    """
    found = representatives(systems)
    if len(found) <= most:
        return found, ""
    best = sorted(found, key=lambda n: -_mean(found[n].summary("val/auc")))
    of_each = {found[name].first.model: name for name in reversed(best)}
    shown = [name for name in best if name in of_each.values()][:most]
    missing = len(of_each) - len(shown)
    words = " Of each model the settings best on validation are shown."
    if missing:
        words += f" The {missing} models lowest on it are left out."
    return {name: found[name] for name in shown}, words


def _mean(summary: Summary | None) -> float:
    return -math.inf if summary is None or math.isnan(summary.mean) else summary.mean


def recall_curves(where: str, systems: Sequence[System]) -> Drawn | None:
    """The paper's Figure 2: Recall@K."""
    lines, missing = chosen(systems, 2 * MOST_LINES)
    ks = _cutoffs(systems)
    if len(ks) < 2:
        return None

    def paint(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for axes, metric, label in zip(
            panels, ("recall", "ndcg"), ("Recall@K", "NDCG@K"), strict=True
        ):
            for number, (name, system) in enumerate(lines.items()):
                found = [system.summary(f"test/{metric}@{k}") for k in ks]
                style = "-" if number < MOST_LINES else ":"
                _curve(axes, ks, found, name, COLOURS[number % MOST_LINES], style)
            if "popularity" not in lines:
                found = [control(systems, "popularity", f"test/{metric}@{k}") for k in ks]
                _curve(axes, ks, found, "popularity", INK, "--")
            axes.set(xscale="log", xlabel="K", ylabel=label, ylim=(0, None))
            axes.set_xticks(ks, [str(k) for k in ks])
            axes.minorticks_off()
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside right center", fontsize=8
        )

    caption = (
        "All items are ranked for all test users; bands are one standard deviation over seeds."
    )
    of_paper = " (Figure 2 of the paper)" if systems[0].first.data in DATA_SETS else ""
    return Drawn(
        f"recall-{where}", f"Recall@K{of_paper}: {where}",
        caption + missing, paint, (10.6, 3.4),
    )  # fmt: skip


def _cutoffs(systems: Sequence[System]) -> list[int]:
    found = {
        int(key.removeprefix("test/recall@"))
        for system in systems
        for key in system.first.metrics
        if key.startswith("test/recall@")
    }
    return sorted(found)


def _curve(
    axes: Axes, xs: Sequence[float], found: Sequence[Summary | None], name: str, colour: str,
    style: str = "-",
) -> None:  # fmt: skip
    known = [(x, s) for x, s in zip(xs, found, strict=True) if s is not None]
    if not known:
        return
    places, summaries = zip(*known, strict=True)
    means = np.array([s.mean for s in summaries])
    sds = np.nan_to_num(np.array([s.sd for s in summaries]))
    marker = "o" if len(places) < 12 else None
    axes.plot(places, means, style, marker=marker, ms=3, lw=1.5, color=colour, label=name)
    if sds.any():
        axes.fill_between(places, means - sds, means + sds, color=colour, alpha=0.15, lw=0)


def sweep_plot(found: Sequence[Sweep]) -> Drawn:
    """AUC by one setting, the paper's figures and popularity beside."""
    key, data = found[0].key, found[0].any.first.data
    symbol = SYMBOLS[key]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        values = list(dict.fromkeys(v for sweep in found for v in sweep.systems))
        paper = SWEEPS[key].get(data, {})
        values = sorted({*values, *paper}, key=lambda v: (v == "all", v))
        place = {v: i for i, v in enumerate(values)}
        for sweep, colour in zip(found, COLOURS, strict=False):
            summaries = [s.summary("test/auc") for s in sweep.systems.values()]
            name = sweep.label if len(found) > 1 else "kgrec"
            _curve(axes, [place[v] for v in sweep.systems], summaries, name, colour)
        everyone = [s for sweep in found for s in sweep.systems.values()]
        level = control(everyone, "popularity", "test/auc")
        if level is not None:
            axes.axhline(level.mean, color=INK, ls="--", lw=1.2, label="popularity")
        if paper:
            axes.plot(
                [place[v] for v in paper], list(paper.values()), ":", marker="s", ms=3, color=INK,
                label="KGCN paper",
            )  # fmt: skip
        axes.set_xticks(range(len(values)), [str(v) for v in values])
        axes.set(xlabel=symbol, ylabel="test AUC")
        axes.legend(fontsize=8)

    beyond = len(found) - MOST_LINES
    words = f" {beyond} more are left out." if beyond > 0 else ""
    return Drawn(
        f"{symbol}-{found[0].where}", f"AUC by {symbol}: {found[0].where}",
        "Bands are one standard deviation over seeds." + words, paint,
    )  # fmt: skip


def training_curves(where: str, systems: Sequence[System]) -> Drawn | None:
    """The validation figure after each epoch, a line a run."""
    lines, missing = chosen([s for s in systems if s.first.curves.height])
    if not lines:
        return None

    def paint(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        for (name, system), colour in zip(lines.items(), COLOURS, strict=False):
            for number, run in enumerate(system.runs):
                curves, label = run.curves, name if number == 0 else None
                for axes, metric in ((left, "train/loss"), (right, "val/auc")):
                    if metric in curves.columns:
                        known = curves.select("epoch", metric).drop_nulls()
                        axes.plot(
                            known["epoch"] + 1, known[metric], color=colour, lw=1, label=label
                        )
        left.set(xlabel="epoch", ylabel="training loss")
        right.set(xlabel="epoch", ylabel="validation AUC")
        right.legend(fontsize=8)

    return Drawn(
        f"training-{where}", f"Training: {where}", "A line a seed." + missing, paint,
        (9.4, 3.4),
    )  # fmt: skip


def score_plots(where: str, systems: Sequence[System]) -> Drawn | None:
    """Calibration and the scores of positives and negatives, a row a system."""
    lines, missing = chosen([s for s in systems if _has_logits(s.first)], 4)
    if not lines:
        return None

    def paint(figure: Figure) -> None:
        grid = figure.subplots(len(lines), 2, squeeze=False)
        for (name, system), (left, right) in zip(lines.items(), grid, strict=True):
            rows = system.first.rows()
            _calibration(left, rows)
            _histogram(right, rows)
            left.set_title(name, fontsize=10)
            right.set_title(name, fontsize=10)
        for axes in grid[-1]:
            axes.xaxis.label.set_visible(True)

    return Drawn(
        f"scores-{where}", f"Calibration and scores: {where}",
        "Left: the share of positives in ten equal groups of test rows by predicted probability; "
        "on the broken line predictions are right. Right: scores before the sigmoid. One seed each."
        + missing,
        paint, (9.4, 0.4 + 2.7 * len(lines)),
    )  # fmt: skip


def _has_logits(run: Run) -> bool:
    kept = run.files.rows_file(run.model)
    return "test/log_loss" in run.metrics and kept.is_file()


def _calibration(axes: Axes, rows: pl.DataFrame) -> None:
    probs = 1 / (1 + np.exp(-np.clip(rows["score"].to_numpy().astype(float), -500, 500)))
    order = np.argsort(probs, kind="stable")
    groups = np.array_split(order, 10)
    groups = [group for group in groups if len(group)]
    labels = rows["label"].to_numpy()
    axes.plot([0, 1], [0, 1], color=INK, ls="--", lw=1)
    axes.plot(
        [probs[g].mean() for g in groups], [labels[g].mean() for g in groups],
        "o-", ms=4, lw=1.5, color=COLOURS[0],
    )  # fmt: skip
    axes.set(xlabel="predicted probability", ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(percent)


def _histogram(axes: Axes, rows: pl.DataFrame) -> None:
    scores = rows["score"].to_numpy()
    low, high = np.quantile(scores, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    for label, name, colour in ((1, "positives", COLOURS[0]), (0, "negatives", COLOURS[1])):
        part = np.clip(scores[rows["label"].to_numpy() == label], edges[0], edges[-1])
        axes.hist(
            part, bins=edges.tolist(), histtype="stepfilled", alpha=0.45, color=colour, label=name
        )
    axes.set(xlabel="score", ylabel="test rows")
    axes.legend(fontsize=8)


def slice_plot(where: str, systems: Sequence[System]) -> Drawn | None:
    """Recall and AUC by training positives of the user and of the item."""
    lines, missing = chosen([s for s in systems if s.first.slices])
    if not lines:
        return None
    panels = (("user", "recall@20"), ("user", "auc"), ("item", "recall@20"), ("item", "auc"))

    def paint(figure: Figure) -> None:
        grid = figure.subplots(2, 2)
        for axes, (by, metric) in zip(grid.flat, panels, strict=True):
            records = lines[next(iter(lines))].first.slices
            names = list(dict.fromkeys(r["positives"] for r in records if r["by"] == by))
            bars = [(n, s, s.first.model) for n, s in lines.items()]
            if "popularity" not in lines:
                bars.append(("popularity", bars[0][1], "popularity"))
            width = 0.8 / len(bars)
            for number, (name, system, model) in enumerate(bars):
                colour = INK if name == "popularity" else COLOURS[number]
                values = [_slice(system, model, by, n, metric) for n in names]
                places = np.arange(len(names)) + (number - (len(bars) - 1) / 2) * width
                if metric == "auc":  # which has no zero to stand on
                    axes.plot(places, values, "o", ms=5, color=colour, label=name)
                else:
                    axes.bar(places, values, width, color=colour, label=name)
            axes.set_xticks(range(len(names)), names)
            axes.grid(False, axis="x")
            label = "AUC" if metric == "auc" else "Recall@20"
            axes.set(xlabel=f"training positives of the {by}", ylabel=label)
            if metric == "auc":
                axes.axhline(0.5, color=INK, lw=1, ls="--")
        handles, labels = grid[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=6, fontsize=8)

    return Drawn(
        f"slices-{where}", f"By training positives: {where}",
        "Above: users by how many training positives they have; below: items. Means over seeds. "
        "The AUC of items compares items of like popularity, so popularity does little there."
        + missing,
        paint, (9.4, 6.2),
    )  # fmt: skip


def _slice(system: System, model: str, by: str, positives: str, metric: str) -> float:
    found: list[Any] = [
        record.get(metric)
        for run in system.runs
        for record in run.slices
        if (record["model"], record["by"], record["positives"]) == (model, by, positives)
    ]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else math.nan
