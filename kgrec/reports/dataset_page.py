"""A page on a data set: one HTML file with its plots inside, nothing fetched from anywhere."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
import torch
from jinja2 import Environment, PackageLoader
from torch import Tensor

from kgrec import __version__
from kgrec.data.describe import Description
from kgrec.reports.dataset_tables import figure, label

# Readable on white and on black; text takes the colour of the page.
_BLUE, _ORANGE, _GREEN = "#3b82c4", "#e0822e", "#4c9f70"
_INK = "#808080"


class Plot(NamedTuple):
    """A drawing and what it shows.

    Attributes:
        title: above it.
        caption: below it, how to read it.
        svg: the drawing.
    """

    title: str
    caption: str
    svg: str


def render(found: Description) -> str:
    """The page.

    Args:
        found: what :func:`kgrec.data.describe.describe` returned.
    """
    environment = Environment(loader=PackageLoader("kgrec.reports"), autoescape=True)
    environment.filters["label"] = label
    return environment.get_template("dataset.html").render(
        found=found, plots=plots(found), figure=figure, version=__version__
    )


def plots(found: Description) -> list[Plot]:
    """Every plot that the data allow."""
    samples = found.samples
    made = [
        Plot(
            "Positives of users and items",
            "Share of the users (items) that have at least so many positives; a straight line is "
            "a power law.",
            _draw(lambda axes: _survival(axes, [
                ("users", samples["positives of a user"], _BLUE),
                ("items", samples["positives of an item"], _ORANGE),
            ], "positives", "share that has at least so many")),
        ),
        Plot(
            "Who has the positives",
            "Share of all positives that the most active users (most popular items) have; on the "
            "diagonal all would have the same.",
            _draw(lambda axes: _concentration(axes, [
                ("users", samples["positives of a user"], _BLUE),
                ("items", samples["positives of an item"], _ORANGE),
            ])),
        ),
        Plot(
            "Neighbours in the graph",
            "Share of the items (of all entities) that have at least so many neighbours.",
            _draw(lambda axes: _survival(axes, [
                ("items", samples["neighbours of an item"], _ORANGE),
                ("all entities", samples["neighbours of an entity"], _GREEN),
            ], "neighbours", "share that has at least so many")),
        ),
        Plot(
            "Relations",
            "The commonest relations: their triples, and the share of the items that have them.",
            _draw(lambda axes: _bars(axes, found),
                  height=0.3 * min(found.relations.height, 20) + 1.3),
        ),
    ]  # fmt: skip
    times = samples.get("times")
    if times is not None and float(times.max()) > float(times.min()):
        text = "Positives by the time at which they came."
        made.append(Plot("Positives over time", text, _draw(lambda axes: _history(axes, times))))
    return made


def _draw(paint: Callable[[Any], None], height: float = 3.6) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none", "svg.hashsalt": "kgrec", "font.size": 10,
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
        "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
        "text.color": _INK, "axes.spines.top": False, "axes.spines.right": False,
        "axes.grid": True, "grid.color": _INK, "grid.alpha": 0.2, "legend.frameon": False,
    }  # fmt: skip
    with rc_context(settings):
        drawing = Figure(figsize=(6.2, height), layout="constrained")
        drawing.patch.set_alpha(0)
        axes = drawing.add_subplot()
        axes.patch.set_alpha(0)
        paint(axes)
        out = io.StringIO()
        drawing.savefig(out, format="svg", metadata={"Date": None}, transparent=True)
    svg = out.getvalue()
    # Ink becomes the page's own, light or dark.
    return svg[svg.index("<svg") :].replace(_INK, "currentColor")


def _survival(axes: Any, lines: list[tuple[str, Tensor, str]], x: str, y: str) -> None:
    for name, counts, colour in lines:
        values, owners = np.unique(counts[counts > 0].numpy(), return_counts=True)
        at_least = owners[::-1].cumsum()[::-1] / len(counts)
        axes.step(values, at_least, where="pre", label=name, color=colour, lw=2)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    _plain_logs(axes.xaxis)
    axes.yaxis.set_major_formatter(_percent)
    axes.legend()


def _percent(value: float, _: int) -> str:
    return f"{100 * value:g} %"


def _plain_logs(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.set_minor_formatter(NullFormatter())


def _concentration(axes: Any, lines: list[tuple[str, Tensor, str]]) -> None:
    for name, counts, colour in lines:
        ordered = counts.double().sort(descending=True).values
        owned = torch.cat([torch.zeros(1).double(), ordered.cumsum(0) / ordered.sum()])
        owners = torch.linspace(0, 1, len(owned), dtype=torch.float64)
        keep = np.unique(np.linspace(0, len(owned) - 1, 500).astype(int))
        axes.plot(owners[keep].numpy(), owned[keep].numpy(), label=name, color=colour, lw=2)
    axes.plot([0, 1], [0, 1], color=_INK, lw=1, ls="--")
    axes.set(xlabel="share of the users (items), the most active first",
             ylabel="share of the positives")  # fmt: skip
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent)
    axes.legend(loc="lower right")


def _bars(axes: Any, found: Description) -> None:
    rows = found.relations.head(20).to_dicts()[::-1]
    names = [_short(row["relation"]) for row in rows]
    places = range(len(rows))
    axes.barh(places, [row["triples"] for row in rows], color=_GREEN)
    widest = max(row["triples"] for row in rows)
    for place, row in zip(places, rows, strict=True):
        text = f" {row['triples']:,}, {row['coverage']:.0%} of the items"
        axes.text(row["triples"], place, text, va="center", fontsize=8)
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set(xlabel="triples", xlim=(0, widest * 1.45))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(_few_ticks())
    axes.grid(False, axis="y")


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(5)


def _short(name: str) -> str:
    """A relation's name, of a long one the end; dollars would start a formula."""
    name = name if len(name) <= 42 else "…" + name[-41:]
    return name.replace("$", r"\$")


def _history(axes: Any, times: Tensor) -> None:
    counts, edges = torch.histogram(times.double(), bins=60)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    width = float(edges[1] - edges[0])
    axes.bar(middles, counts.numpy(), width=width, color=_BLUE)
    axes.set(ylabel="positives")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.xaxis.set_major_locator(_few_ticks())
    span = float(edges[-1] - edges[0])
    style = "%Y-%m" if span > 2e7 else "%Y-%m-%d" if span > 4e5 else "%d, %H:%M"

    def date(value: float, _: int) -> str:
        try:
            return datetime.fromtimestamp(value, UTC).strftime(style)
        except (ValueError, OverflowError, OSError):
            return f"{value:g}"

    axes.xaxis.set_major_formatter(date)
