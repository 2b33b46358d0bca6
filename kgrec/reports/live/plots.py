"""Charts of a sweep, drawn by plotly in the reader's browser."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import polars as pl

from kgrec.reports.drawing import INK
from kgrec.reports.live.charts import (
    EMPTY,
    SCALE,
    Axis,
    Chart,
    chart,
    metric_name,
    name,
    paired,
    said,
)
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.results.plots import COLOURS, MOST_LINES
from kgrec.reports.results.published import SWEEPS, TABLES
from kgrec.reports.results.tables import place
from kgrec.runs.finished import Run
from kgrec.sweeps.state import State

# Beyond these, a line an epoch would make the page slow.
MOST_POINTS = 400
# Pixels of parallel coordinates: a character of a label, and what a label has around it.
LETTER, AROUND = 8, 24


def sweep_charts(snapshot: Snapshot, searched: bool = False) -> list[Chart]:
    """Figures by each varied number, and parallel coordinates over all that is varied.

    Args:
        snapshot: of the sweep.
        searched: whether values are a search's, hardly two alike, so that no line joins them.
    """
    keys = [] if searched else [key for key in snapshot.varied if key != "seed"]
    made = [by_value(snapshot, key) for key in keys]
    found = paired([one for one in made if one is not None])
    return [one for one in (*found, parallel_coordinates(snapshot)) if one is not None]


def by_value(snapshot: Snapshot, key: str) -> Chart | None:
    """The test figure by one setting that is a number, a line for each of the other settings."""
    import plotly.graph_objects as go

    metric = snapshot.sweep.monitor.replace("val/", "test/", 1)
    lines: dict[str, dict[str, list[float]]] = {}
    for state in snapshot.states:
        run = snapshot.runs.get(state.job.name)
        value = None if run is None else run.figure(metric)
        if value is not None:
            others = _others(snapshot, state, key)
            at = str(state.job.varied.get(key, EMPTY))
            lines.setdefault(others, {}).setdefault(at, []).append(value)
    axis = Axis.of(at for line in lines.values() for at in line)
    if not axis.numeric or len(axis.places) < 2:
        return None
    kept = sorted(lines, key=lambda k: max(map(fmean, lines[k].values())), reverse=True)
    shown = [k for k in lines if k in kept[:MOST_LINES]]
    figure = go.Figure()
    for colour, label in zip(COLOURS, shown, strict=False):
        points = sorted(lines[label].items(), key=lambda pair: axis.at(pair[0]))
        spread = [stdev(v) if len(v) > 1 else 0.0 for _, v in points]
        told = [f"{name(key)}={said(at)}<br>{fmean(v):.4f}, {_runs(len(v))}" for at, v in points]
        figure.add_scatter(
            x=[axis.at(at) for at, _ in points], y=[fmean(v) for _, v in points],
            mode="lines+markers", name=said(label) or "ours", text=told,
            hovertemplate="%{text}", line={"color": colour, "width": 2},
            error_y={"array": spread, "visible": any(spread), "thickness": 1, "width": 3},
        )  # fmt: skip
    _popularity(figure, snapshot, metric, axis.span)
    papers = _papers(snapshot, key) if metric == "test/auc" else {}
    for data, paper in papers.items():
        spots = [(spot, k) for k in paper if (spot := axis.between(k)) is not None]
        figure.add_scatter(
            x=[spot for spot, _ in spots], y=[paper[k] for _, k in spots], mode="lines+markers",
            name=f"KGCN paper{f', {data}' if len(papers) > 1 else ''}",
            line={"color": INK, "dash": "dot", "width": 2}, marker={"symbol": "diamond-open"},
            text=[f"{name(key)}={k}<br>{paper[k]:.3f}" for _, k in spots],
            hovertemplate="%{text}",
        )  # fmt: skip
    figure.update_xaxes(title=said(name(key)), **axis.layout)
    _legend_above(figure, metric_name(metric))
    caption = "Means over runs, with standard deviations where there are several."
    caption += " Broken: popularity, tested beside."
    if papers:
        caption += f" Dotted: {TABLES[key]} of the KGCN paper."
    if len(lines) > len(shown):
        caption += f" The {len(shown)} of {len(lines)} settings with the highest figures are shown."
    title = f"{metric_name(metric)} by {name(key)}"
    return chart(title[0].upper() + title[1:], caption, figure, 380)


def parallel_coordinates(snapshot: Snapshot) -> Chart | None:
    """Every finished run as a line across its settings, coloured by its validation figure."""
    import plotly.graph_objects as go

    done = [s for s in snapshot.states if s.job.name in snapshot.runs and s.validation is not None]
    if len(done) < 2 or not snapshot.varied:
        return None
    dimensions: list[dict[str, Any]] = []
    widths = []
    for key in snapshot.varied:
        axis = Axis.of(state.job.varied.get(key) for state in done)
        spots = [axis.at(state.job.varied.get(key)) for state in done]
        low, high = axis.span
        room = 0.06 * (high - low) or 1.0
        dimensions.append(
            {"label": said(name(key)), "values": spots, "range": [low - room, high + room]}
            | axis.layout
        )
        widths.append(AROUND + LETTER * max(map(len, axis.labels)))
    monitor = snapshot.sweep.monitor
    figures = [float(state.validation or 0.0) for state in done]
    digits = 4 if max(figures) - min(figures) > 0.001 else 5
    dimensions.append(
        {"label": metric_name(monitor), "values": figures, "tickformat": f".{digits}f"}
    )
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": figures, "colorscale": SCALE, "showscale": False},
            unselected={"line": {"color": INK, "opacity": 0.08}}, labelfont={"size": 13},
            tickfont={"size": 12}, rangefont={"color": "rgba(0,0,0,0)", "size": 1},
        )
    )  # fmt: skip
    # Labels stand at the left of their axis, its name over it.
    left = max(widths[0], AROUND + LETTER * len(name(snapshot.varied[0])) // 2)
    figure.update_layout(margin={"l": left, "r": 72, "t": 52, "b": 24})
    caption = (
        f"A line a finished run; violet is the lowest {metric_name(monitor)}, orange the highest. "
        "Drag along an axis to pick runs (a click lets go), and an axis's name to move it."
    )
    least = left + sum(max(120, width) for width in widths)
    return chart("Parallel coordinates", caption, figure, 360, whole=True, least=least)


def training_curves(snapshot: Snapshot) -> Chart | None:
    """The validation figure by epoch, a line a run, running ones too."""
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    monitor = snapshot.sweep.monitor
    found = [(state, _thinned(snapshot.curves(state), monitor)) for state in snapshot.states]
    lines = [
        (state, (curve["epoch"] + 1).to_list(), curve[monitor].to_list())
        for state, curve in found
        if curve.height
    ]
    if not lines:
        return None
    heights = [float(s.validation or max(values)) for s, _, values in lines]
    low, high = min(heights), max(heights)
    few = len(lines) <= MOST_LINES
    figure = go.Figure()
    for number, ((state, epochs, values), height) in enumerate(zip(lines, heights, strict=True)):
        share = (height - low) / (high - low) if high > low else 1.0
        colour = COLOURS[number] if few else sample_colorscale(SCALE, [share])[0]
        figure.add_scatter(
            x=epochs, y=values, name=said(_label(snapshot, state)), showlegend=few,
            mode="lines" if len(epochs) > 1 else "markers",
            line={"color": colour, "width": 2 if few else 1.5}, marker={"color": colour},
            hovertemplate="epoch %{x}: %{y:.4f}",
        )  # fmt: skip
    last = max(epochs[-1] for _, epochs, _ in lines)
    _popularity(figure, snapshot, monitor, [1, max(last, 2)])
    figure.update_xaxes(title="epoch", dtick=1 if last <= 10 else None)
    _legend_above(figure, metric_name(monitor))
    caption = "A line a run; point at one to see which."
    if not few:
        caption += " Violet has the lowest best figure, orange the highest."
    if snapshot.runs:
        caption += " Broken: popularity."
    return chart(f"Training: {metric_name(monitor)} by epoch", caption, figure, 420, whole=True)


def _thinned(curve: pl.DataFrame, column: str) -> pl.DataFrame:
    """The epochs that have a number in a column, not more than a page can show."""
    if column not in curve.columns:
        return pl.DataFrame({"epoch": [], column: []})
    plain = curve.select("epoch", pl.col(column).cast(pl.Float64, strict=False)).drop_nulls()
    return plain.gather_every(max(1, -(-plain.height // MOST_POINTS)))


def _others(snapshot: Snapshot, state: State, key: str) -> str:
    return _label(snapshot, state, without=(key, "seed"))


def _label(snapshot: Snapshot, state: State, without: Sequence[str] = ()) -> str:
    kept = [k for k in snapshot.varied if k not in without]
    return ", ".join(f"{name(k)}={state.job.varied.get(k, EMPTY)}" for k in kept)


def _popularity(
    figure: Any, snapshot: Snapshot, metric: str, span: Sequence[float]
) -> None:  # fmt: skip
    """A broken line for each data set and protocol."""
    found: dict[str, list[float]] = {}
    for run in snapshot.runs.values():
        value = run.figure(metric, "popularity")
        if value is not None:
            found.setdefault(place(run), []).append(value)
    for where, values in found.items():
        mean = fmean(values)
        label = "popularity" if len(found) == 1 else f"popularity, {where}"
        figure.add_scatter(
            x=list(span), y=[mean, mean], mode="lines", name=said(label),
            line={"color": INK, "dash": "dash", "width": 1.5}, hovertemplate=f"{mean:.4f}",
        )  # fmt: skip


def _papers(snapshot: Snapshot, key: str) -> dict[str, dict[int, float]]:
    """The paper's figures of the data sets that KGCN was run on."""
    ours = {run.data for run in snapshot.runs.values() if _kgcn(run)}
    return {d: paper for d, paper in SWEEPS.get(key, {}).items() if d in ours}


def _kgcn(run: Run) -> bool:
    return "kgcn" in str(run.settings.get("model._target_"))


def _legend_above(figure: Any, title: str) -> None:
    figure.update_yaxes(title=title)
    figure.update_layout(
        margin={"l": 56, "r": 12, "t": 12, "b": 52}, hovermode="closest",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip


def _runs(count: int) -> str:
    return f"mean of {count} runs" if count > 1 else "1 run"
