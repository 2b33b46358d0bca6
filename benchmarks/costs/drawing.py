"""Predicted against measured steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def draw(points: list[dict[str, Any]], path: Path) -> None:
    """Milliseconds of a step's computation, and megabytes that it sends; both logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for ranks, mark in ((1, "o"), (2, "s")):
        chosen = [p for p in points if p["sizes"]["ranks"] == ranks]
        measured = [1e3 * p["measured"]["cpu"] for p in chosen]
        label = "1 process" if ranks == 1 else f"{ranks} processes"
        left.loglog(measured, [1e3 * busy(p) for p in chosen], mark, label=label, alpha=0.8)
        if ranks > 1:
            sent = [p["measured"]["sent"] / 1e6 for p in chosen]
            right.loglog(sent, [p["expected_sent"] / 1e6 for p in chosen], mark, color="C1")
    for axes, title in ((left, "CPU time of a step, ms"), (right, "sent in a step, MB")):
        low, high = axes.get_xlim()
        line = [low, high]
        axes.plot(line, line, color="grey", linewidth=1)
        axes.fill_between(line, [0.7 * x for x in line], [1.3 * x for x in line],
                          color="grey", alpha=0.15, linewidth=0, label="within 30 %")  # fmt: skip
        axes.set_xlim(low, high)
        axes.set_title(title)
        axes.set_xlabel("measured")
        axes.set_ylabel("predicted")
        axes.grid(alpha=0.3)
    left.legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})


def busy(point: dict[str, Any]) -> float:
    """Predicted seconds of a step without exchanges."""
    parts = point["predicted"]
    return float(sum(v for k, v in parts.items() if k not in ("exchange", "average")))
