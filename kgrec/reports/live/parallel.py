"""Parallel coordinates of a sweep, drawn by plotly in the reader's browser."""

from __future__ import annotations

from typing import Any

from kgrec.reports.drawing import INK
from kgrec.reports.live.charts import SCALE, Axis, Chart, chart, escaped, name
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.palette import metric_name

# Pixels of parallel coordinates: a character of a label, and the space around a label.
LETTER, AROUND = 8, 24


def parallel_coordinates(snapshot: Snapshot) -> Chart | None:
    """Every finished run as a line across its settings, coloured by its validation value."""
    import plotly.graph_objects as go

    states = snapshot.states
    finished = [s for s in states if s.job.name in snapshot.runs and s.validation is not None]
    if len(finished) < 2 or not snapshot.varied:
        return None
    dimensions: list[dict[str, Any]] = []
    widths = []
    for key in snapshot.varied:
        axis = Axis.of(state.job.varied.get(key) for state in finished)
        spots = [axis.at(state.job.varied.get(key)) for state in finished]
        low, high = axis.span
        margin = 0.06 * (high - low) or 1.0
        dimensions.append(
            {"label": escaped(name(key)), "values": spots, "range": [low - margin, high + margin]}
            | axis.layout
        )
        widths.append(AROUND + LETTER * max(map(len, axis.labels)))
    monitor = snapshot.sweep.monitor
    values = [float(state.validation or 0.0) for state in finished]
    digits = 4 if max(values) - min(values) > 0.001 else 5
    dimensions.append(
        {"label": metric_name(monitor), "values": values, "tickformat": f".{digits}f"}
    )
    figure = go.Figure(
        go.Parcoords(
            dimensions=dimensions,
            line={"color": values, "colorscale": SCALE, "showscale": False},
            unselected={"line": {"color": INK, "opacity": 0.08}}, labelfont={"size": 13},
            tickfont={"size": 12}, rangefont={"color": "rgba(0,0,0,0)", "size": 1},
        )
    )  # fmt: skip
    # Labels are to the left of their axis, its name is above it.
    left_margin = max(widths[0], AROUND + LETTER * len(name(snapshot.varied[0])) // 2)
    figure.update_layout(margin={"l": left_margin, "r": 72, "t": 52, "b": 24})
    caption = (
        f"One line for each finished run, from the lowest {metric_name(monitor)} (violet) to the "
        "highest (orange). Drag along an axis to select runs, click to clear the selection, drag "
        "the name of an axis to move it."
    )
    least = left_margin + sum(max(120, width) for width in widths)
    return chart("Parallel coordinates", caption, figure, 360, whole=True, least=least)
