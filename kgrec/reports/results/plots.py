"""Plots of metrics and training in a report on finished runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kgrec.evaluation.results import BASELINE
from kgrec.reports.drawing import INK
from kgrec.reports.palette import COLOURS, Palette, Style, metric_name
from kgrec.reports.results.drawn import Drawn, Key, Panel
from kgrec.reports.results.paper_tables import Sweep, model_name, representatives
from kgrec.reports.results.published import DATA_SETS, SWEEPS, SYMBOLS
from kgrec.reports.results.systems import Summary, System
from kgrec.reports.results.tables import control, mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LINES = len(COLOURS)
PAPER = Style(INK, "dot")
BANDS = "Bands: one standard deviation over seeds."


def chosen(systems: Sequence[System], most: int = MOST_LINES) -> tuple[dict[str, System], str]:
    """The systems that one plot can show, and a sentence on the systems that are left out.

    Where there are too many, each model is shown with its best settings on validation, the best
    models first.
    """
    everyone = representatives(systems)
    if len(everyone) <= most:
        return everyone, ""
    ranked = sorted(everyone, key=lambda n: -mean(everyone[n].summary("val/auc")))
    of_each = {everyone[name].first.model: name for name in reversed(ranked)}
    shown = [name for name in ranked if name in of_each.values()][:most]
    missing = len(of_each) - len(shown)
    words = " Each model is shown with its best settings on validation."
    if missing:
        words += f" The {missing} models with the lowest AUC on validation are left out."
    return {name: everyone[name] for name in shown}, words


def legend(names: Iterable[str], palette: Palette) -> list[Key]:
    """Entries of some lines and of popularity."""
    return [Key(name, palette.style(name)) for name in dict.fromkeys([*names, BASELINE])]


def metric_bars(where: str, systems: Sequence[System], palette: Palette) -> Drawn | None:
    """Test metrics of each model as bars, with intervals over seeds."""
    from matplotlib.ticker import MaxNLocator

    bars, missing = chosen(systems, 3 * MOST_LINES)
    metrics = [m for m in ("auc", "recall@20") if any(s.values(f"test/{m}") for s in bars.values())]
    if len(bars) < 2 or not metrics:
        return None
    names = sorted(bars, key=lambda n: mean(bars[n].summary("test/auc")))

    def panel(metric: str) -> Panel:
        def paint(axes: Axes) -> None:
            summaries = [bars[name].summary(f"test/{metric}") for name in names]
            low = 0.5 if metric == "auc" and min(map(mean, summaries)) > 0.5 else 0.0
            for number, (name, summary) in enumerate(zip(names, summaries, strict=True)):
                if summary is None:
                    continue
                error = np.nan_to_num(summary.sd) or None
                colour = palette.style(name).colour
                axes.barh(
                    number, summary.mean - low, 0.7, left=low, color=colour, xerr=error, capsize=3,
                    ecolor=INK,
                )  # fmt: skip
            axes.set_yticks(range(len(names)), names)
            axes.grid(False, axis="y")
            axes.set(xlabel=f"test {metric_name(metric)}", xlim=(low, None))
            axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
            level = control(systems, BASELINE, f"test/{metric}")
            if level is not None:
                axes.axvline(level.mean, color=INK, ls="--", lw=1.5)

        return paint

    caption = "Broken line: popularity."
    if any(len(system.runs) > 1 for system in bars.values()):
        caption += " Intervals: one standard deviation over seeds."
    if "auc" in metrics:
        caption += " Bars of AUC begin at 0.5, which is chance, unless a model is below it."
    return Drawn(
        f"metrics-{where}", f"Test metrics by model: {where}", caption + missing,
        [panel(metric) for metric in metrics], height=0.9 + 0.34 * len(names),
    )  # fmt: skip


def recall_curves(where: str, systems: Sequence[System], palette: Palette) -> Drawn | None:
    """Recall@K and NDCG@K over K; Recall@K is Figure 2 of the paper."""
    lines, missing = chosen(systems, 2 * MOST_LINES)
    ks = _cutoffs(systems)
    if len(ks) < 2:
        return None

    def panel(metric: str) -> Panel:
        def paint(axes: Axes) -> None:
            for name, system in lines.items():
                summaries = [system.summary(f"test/{metric}@{k}") for k in ks]
                _curve(axes, ks, summaries, palette.style(name))
            if BASELINE not in lines:
                summaries = [control(systems, BASELINE, f"test/{metric}@{k}") for k in ks]
                _curve(axes, ks, summaries, palette.style(BASELINE))
            label = f"test {metric_name(metric)}@K"
            axes.set(xscale="log", xlabel="K", ylabel=label, ylim=(0, None))
            axes.set_xticks(ks, [str(k) for k in ks])
            axes.minorticks_off()

        return paint

    of_paper = " (Figure 2 of the paper)" if systems[0].first.data in DATA_SETS else ""
    return Drawn(
        f"recall-{where}", f"Recall@K{of_paper}: {where}",
        f"All items are ranked for all test users. {BANDS}{missing}",
        [panel("recall"), panel("ndcg")], legend(lines, palette),
    )  # fmt: skip


def _cutoffs(systems: Sequence[System]) -> list[int]:
    cutoffs = {
        int(key.removeprefix("test/recall@"))
        for system in systems
        for key in system.first.metrics
        if key.startswith("test/recall@")
    }
    return sorted(cutoffs)


def _curve(
    axes: Axes, xs: Sequence[float], summaries: Sequence[Summary | None], style: Style,
    marker: str = "o",
) -> None:  # fmt: skip
    points = [(x, s) for x, s in zip(xs, summaries, strict=True) if s is not None]
    if not points:
        return
    places, values = zip(*points, strict=True)
    means = np.array([s.mean for s in values])
    sds = np.nan_to_num(np.array([s.sd for s in values]))
    shown = marker if len(places) < 12 else None
    axes.plot(places, means, ls=style.matplotlib, marker=shown, ms=3, lw=1.5, color=style.colour)
    if sds.any():
        axes.fill_between(places, means - sds, means + sds, color=style.colour, alpha=0.15, lw=0)


def sweep_plot(swept: Sequence[Sweep], palette: Palette) -> Drawn:
    """AUC by one setting, with the paper's values and popularity."""
    key, data = swept[0].key, swept[0].any.first.data
    symbol, paper = SYMBOLS[key], SWEEPS[key].get(data, {})
    shown = swept[:MOST_LINES]
    values = sorted(
        {*paper, *(v for sweep in shown for v in sweep.systems)}, key=lambda v: (v == "all", v)
    )
    place = {v: i for i, v in enumerate(values)}
    names = [sweep.label if len(swept) > 1 else model_name(sweep.any) for sweep in shown]
    styles = palette.variants(model_name(shown[0].any), names)

    def paint(axes: Axes) -> None:
        for name, sweep in zip(names, shown, strict=True):
            summaries = [s.summary("test/auc") for s in sweep.systems.values()]
            _curve(axes, [place[v] for v in sweep.systems], summaries, styles[name])
        everyone = [s for sweep in shown for s in sweep.systems.values()]
        level = control(everyone, BASELINE, "test/auc")
        if level is not None:
            axes.axhline(level.mean, color=INK, ls="--", lw=1.2)
        if paper:
            spots = [place[v] for v in paper]
            axes.plot(spots, list(paper.values()), ls=PAPER.matplotlib, marker="s", ms=3, color=INK)
        axes.set_xticks(range(len(values)), [str(v) for v in values])
        axes.set(xlabel=symbol, ylabel="test AUC")

    keys = [Key(*pair) for pair in styles.items()] + [Key(BASELINE, palette.style(BASELINE))]
    keys += [Key("KGCN paper", PAPER)] if paper else []
    beyond = len(swept) - len(shown)
    words = f" {beyond} more are left out." if beyond > 0 else ""
    return Drawn(
        f"{symbol}-{swept[0].where}", f"AUC by {symbol}: {swept[0].where}", BANDS + words,
        [paint], keys,
    )  # fmt: skip


def training_curves(where: str, systems: Sequence[System], palette: Palette) -> Drawn | None:
    """Training loss and validation AUC after each epoch, one line for each run."""
    from matplotlib.ticker import MaxNLocator

    lines, missing = chosen([s for s in systems if s.first.curves.height])
    if not lines:
        return None

    def panel(metric: str, label: str) -> Panel:
        def paint(axes: Axes) -> None:
            for name, system in lines.items():
                style = palette.style(name)
                for run in system.runs:
                    if metric in run.curves.columns:
                        points = run.curves.select("epoch", metric).drop_nulls()
                        axes.plot(
                            points["epoch"] + 1, points[metric], ls=style.matplotlib,
                            color=style.colour, lw=1,
                        )  # fmt: skip
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.set(xlabel="epoch", ylabel=label)

        return paint

    panels = [panel("train/loss", "training loss"), panel("val/auc", "validation AUC")]
    keys = [Key(name, palette.style(name)) for name in lines]
    return Drawn(
        f"training-{where}", f"Training: {where}", "One line for each seed." + missing, panels, keys
    )
