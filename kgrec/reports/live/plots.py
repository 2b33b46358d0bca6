"""Charts of a sweep, drawn by plotly in the reader's browser."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

import polars as pl

from kgrec.evaluation.results import BASELINE
from kgrec.reports.drawing import INK
from kgrec.reports.live.charts import EMPTY, SCALE, Axis, Chart, chart, escaped, name, paired
from kgrec.reports.live.parallel import parallel_coordinates
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.palette import COLOURS, DASHES, Palette, Style, metric_name
from kgrec.reports.results.published import SWEEPS, TABLES
from kgrec.reports.results.tables import place
from kgrec.runs.finished import Run
from kgrec.sweeps.state import SEEDS, State

MOST_LINES = len(COLOURS)
# More points of one line would make the page slow.
MOST_POINTS = 400


def settings_of(snapshot: Snapshot) -> list[str]:
    """Varied keys without the seeds."""
    return [key for key in snapshot.varied if key not in SEEDS]


def page_palette(snapshot: Snapshot) -> Palette:
    """Styles of the models of the page."""
    varied = "model" in snapshot.varied
    return Palette(_model(state) for state in snapshot.states if varied)


def _model(state: State) -> str:
    return str(state.job.varied.get("model", EMPTY))


def line_styles(
    snapshot: Snapshot, palette: Palette, without: Sequence[str] = SEEDS
) -> dict[str, Style]:
    """Style of each line of a chart.

    Where models are varied, a line has the colour of its model and a dash of its own.

    Args:
        snapshot: the sweep.
        palette: styles of the models.
        without: keys in which the runs of one line differ.
    """
    models = {_label(snapshot, state, without): _model(state) for state in snapshot.states}
    if "model" not in snapshot.varied or "model" in without:
        own = Palette(models)
        return {label: own.style(label) for label in models}
    styles: dict[str, Style] = {}
    dashes: Counter[str] = Counter()
    for label, model in models.items():
        styles[label] = palette.style(model)
        if model != BASELINE:
            styles[label] = Style(styles[label].colour, DASHES[dashes[model] % len(DASHES)])
            dashes[model] += 1
    return styles


def sweep_charts(snapshot: Snapshot, palette: Palette, searched: bool = False) -> list[Chart]:
    """Test metrics by each varied setting, and parallel coordinates over several settings.

    Args:
        snapshot: the sweep.
        palette: styles of the page.
        searched: whether a search chose the values. Then few values are equal, and no line joins
            them.
    """
    keys = settings_of(snapshot)
    by_setting = [by_value(snapshot, key, palette) for key in ([] if searched else keys)]
    bars = None if searched else value_bars(snapshot, palette)
    charts = paired([one for one in (bars, *by_setting) if one is not None])
    coordinates = parallel_coordinates(snapshot) if len(keys) > 1 or searched else None
    return charts if coordinates is None else [*charts, coordinates]


def value_bars(snapshot: Snapshot, palette: Palette) -> Chart | None:
    """The test metric of each value of a setting that is not a number, as bars with intervals."""
    import plotly.graph_objects as go

    keys = settings_of(snapshot)
    if len(keys) != 1:
        return None
    metric = _test_metric(snapshot)
    values: dict[str, list[float]] = {}
    for state in snapshot.states:
        run = snapshot.runs.get(state.job.name)
        if run is not None and (value := run.figure(metric)) is not None:
            values.setdefault(str(state.job.varied.get(keys[0], EMPTY)), []).append(value)
    if len(values) < 2 or Axis.of(values).numeric:
        return None
    names = sorted(values, key=lambda value: fmean(values[value]))
    means = [fmean(values[value]) for value in names]
    spread = [stdev(v) if len(v := values[value]) > 1 else 0.0 for value in names]
    low = 0.5 if metric == "test/auc" and min(means) > 0.5 else 0.0
    label = {v: v if keys[0] == "model" else f"{name(keys[0])}={v}" for v in names}
    styles = line_styles(snapshot, palette)
    figure = go.Figure()
    figure.add_bar(
        x=[mean - low for mean in means], y=list(range(len(names))), base=low,
        orientation="h", width=0.7, showlegend=False,
        marker={"color": [styles[label[value]].colour for value in names]},
        text=[
            f"{escaped(value)}: {mean:.4f}, {_runs(len(values[value]))}"
            for mean, value in zip(means, names, strict=True)
        ],
        textposition="none", hovertemplate="%{text}<extra></extra>",
        error_x={"array": spread, "visible": any(spread), "color": INK, "thickness": 1.5},
    )  # fmt: skip
    for where, level in _levels(snapshot, metric).items():
        figure.add_scatter(
            x=[level, level], y=[-0.5, len(names) - 0.5], mode="lines", name=escaped(where),
            line={"color": INK, "dash": "dash", "width": 1.5}, hovertemplate=f"{level:.4f}",
        )  # fmt: skip
    ends = [mean + sd for mean, sd in zip(means, spread, strict=True)]
    top = max(*ends, *_levels(snapshot, metric).values())
    figure.update_xaxes(title=metric_name(metric), range=[low, top + 0.04 * (top - low)])
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=[escaped(value) for value in names],
        range=[-0.5, len(names) - 0.5], showgrid=False,
    )  # fmt: skip
    figure.update_layout(
        margin={"l": 12, "r": 12, "t": 12, "b": 52},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    caption = "Broken line: popularity."
    if any(spread):
        caption += " Intervals: one standard deviation over seeds."
    if low:
        caption += " Bars begin at 0.5, which is chance."
    title = f"{metric_name(metric)} by {name(keys[0])}"
    return chart(_capital(title), caption, figure, 130 + 34 * len(names), whole=True)


def by_value(snapshot: Snapshot, key: str, palette: Palette) -> Chart | None:
    """The test metric by one numeric setting, one line for each of the other settings."""
    import plotly.graph_objects as go

    metric = _test_metric(snapshot)
    lines: dict[str, dict[str, list[float]]] = {}
    for state in snapshot.states:
        run = snapshot.runs.get(state.job.name)
        value = None if run is None else run.figure(metric)
        if value is not None:
            others = _label(snapshot, state, without=(key, *SEEDS))
            at = str(state.job.varied.get(key, EMPTY))
            lines.setdefault(others, {}).setdefault(at, []).append(value)
    axis = Axis.of(at for line in lines.values() for at in line)
    if not axis.numeric or len(axis.places) < 2:
        return None
    ranked = sorted(lines, key=lambda k: max(map(fmean, lines[k].values())), reverse=True)
    shown = [label for label in lines if label in ranked[:MOST_LINES]]
    styles = line_styles(snapshot, palette, (key, *SEEDS))
    figure = go.Figure()
    for label in shown:
        points = sorted(lines[label].items(), key=lambda pair: axis.at(pair[0]))
        spread = [stdev(v) if len(v) > 1 else 0.0 for _, v in points]
        texts = [
            f"{escaped(name(key))}={escaped(at)}<br>{fmean(v):.4f}, {_runs(len(v))}"
            for at, v in points
        ]
        style = styles[label]
        figure.add_scatter(
            x=[axis.at(at) for at, _ in points], y=[fmean(v) for _, v in points],
            mode="lines+markers", name=escaped(label or _trained(snapshot)), text=texts,
            hovertemplate="%{text}", line={"color": style.colour, "dash": style.dash, "width": 2},
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
    figure.update_xaxes(title=escaped(name(key)), **axis.layout)
    _legend_above(figure, metric_name(metric))
    caption = "Broken line: popularity."
    if any(len(values) > 1 for line in lines.values() for values in line.values()):
        caption = f"Means over runs, with standard deviations. {caption}"
    if papers:
        caption += f" Dotted: {TABLES[key]} of the KGCN paper."
    if len(lines) > len(shown):
        caption += f" The {len(shown)} of {len(lines)} settings with the highest values are shown."
    title = f"{metric_name(metric)} by {name(key)}"
    return chart(_capital(title), caption, figure, 380)


def _test_metric(snapshot: Snapshot) -> str:
    return snapshot.sweep.monitor.replace("val/", "test/", 1)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def training_curves(snapshot: Snapshot, palette: Palette) -> Chart | None:
    """The validation metric by epoch, one line per run, running jobs included."""
    import plotly.graph_objects as go
    from plotly.colors import sample_colorscale

    monitor = snapshot.sweep.monitor
    curves = [(state, _thinned(snapshot.curves(state), monitor)) for state in snapshot.states]
    lines = [
        (state, (curve["epoch"] + 1).to_list(), curve[monitor].to_list())
        for state, curve in curves
        if curve.height
    ]
    if not lines:
        return None
    heights = [float(s.validation or max(values)) for s, _, values in lines]
    low, high = min(heights), max(heights)
    styles = line_styles(snapshot, palette)
    groups = [_label(snapshot, state, without=SEEDS) for state, *_ in lines]
    few = len(set(groups)) <= MOST_LINES
    figure = go.Figure()
    for number, ((state, epochs, values), group) in enumerate(zip(lines, groups, strict=True)):
        style = styles[group]
        if not few:
            share = (heights[number] - low) / (high - low) if high > low else 1.0
            style = Style(sample_colorscale(SCALE, [share])[0], "solid")
        figure.add_scatter(
            x=epochs, y=values, name=escaped(group or _trained(snapshot)),
            legendgroup=escaped(group),
            showlegend=few and group not in groups[:number],
            mode="lines" if len(epochs) > 1 else "markers",
            line={"color": style.colour, "dash": style.dash, "width": 2 if few else 1.5},
            marker={"color": style.colour},
            hovertemplate=f"{escaped(_label(snapshot, state))}<br>epoch %{{x}}: %{{y:.4f}}"
            "<extra></extra>",
        )  # fmt: skip
    last = max(epochs[-1] for _, epochs, _ in lines)
    _popularity(figure, snapshot, monitor, [1, max(last, 2)])
    figure.update_xaxes(title="epoch", dtick=1 if last <= 10 else None)
    _legend_above(figure, metric_name(monitor))
    caption = "One line per run; point at a line for its settings."
    if not few:
        caption += " Violet: lowest value of all runs. Orange: highest."
    if snapshot.runs:
        caption += " Broken line: popularity."
    return chart(f"Training: {metric_name(monitor)} by epoch", caption, figure, 420, whole=True)


def _thinned(curve: pl.DataFrame, column: str) -> pl.DataFrame:
    """The epochs that have a number in a column, at most as many as a page can show."""
    if column not in curve.columns:
        return pl.DataFrame({"epoch": [], column: []})
    plain = curve.select("epoch", pl.col(column).cast(pl.Float64, strict=False)).drop_nulls()
    return plain.gather_every(max(1, -(-plain.height // MOST_POINTS)))


def _label(snapshot: Snapshot, state: State, without: Sequence[str] = ()) -> str:
    """The varied settings of a job, such as ``K=2, seed=1``; without any, the model's name."""
    keys = [key for key in snapshot.varied if key not in without]
    if keys == ["model"]:
        return str(state.job.varied.get("model", EMPTY))
    return ", ".join(f"{name(key)}={state.job.varied.get(key, EMPTY)}" for key in keys)


def _trained(snapshot: Snapshot) -> str:
    """Name of a line of which no setting is varied: the model."""
    models = {run.model for run in snapshot.runs.values()}
    return models.pop() if len(models) == 1 else "this sweep"


def _levels(snapshot: Snapshot, metric: str) -> dict[str, float]:
    """Popularity's mean for each data set and protocol, by the name of its line."""
    values: dict[str, list[float]] = {}
    for run in snapshot.runs.values():
        value = run.figure(metric, BASELINE)
        if value is not None:
            values.setdefault(place(run), []).append(value)
    if len(values) == 1:
        return {BASELINE: fmean(*values.values())}
    return {f"{BASELINE}, {where}": fmean(levels) for where, levels in values.items()}


def _popularity(figure: Any, snapshot: Snapshot, metric: str, span: Sequence[float]) -> None:
    """Draws a broken line for each data set and protocol."""
    for label, level in _levels(snapshot, metric).items():
        figure.add_scatter(
            x=list(span), y=[level, level], mode="lines", name=escaped(label),
            line={"color": INK, "dash": "dash", "width": 1.5}, hovertemplate=f"{level:.4f}",
        )  # fmt: skip


def _papers(snapshot: Snapshot, key: str) -> dict[str, dict[int, float]]:
    """The paper's values for the data sets on which KGCN was trained."""
    trained = {run.data for run in snapshot.runs.values() if _kgcn(run)}
    return {data: paper for data, paper in SWEEPS.get(key, {}).items() if data in trained}


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
