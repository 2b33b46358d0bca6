"""HTML page on a data set: one file that contains its plots and loads nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from torch import Tensor

from kgrec import __version__
from kgrec.data.advice import advice
from kgrec.data.describe import Description
from kgrec.reports.dataset.tables import (
    INVERSES,
    LOOKALIKES,
    distribution_rows,
    fact,
    label,
    moment,
    share,
)
from kgrec.reports.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    Plot,
    logarithmic,
    percent,
    svg_element,
    thousands,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHOWN = 20  # relations in the plot, and in the table before it is unfolded
_LONGEST = 44  # characters of a relation's name next to its bar
_DATES = (-62_135_596_800, 253_402_300_799)  # the years 1 to 9999, in seconds since 1970


def render(description: Description) -> str:
    """The page on a data set.

    Args:
        description: result of :func:`kgrec.data.describe.describe`.
    """
    environment = Environment(
        loader=PackageLoader("kgrec.reports"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters.update(label=label, share=share)
    return environment.get_template("dataset.html").render(
        description=description, warnings=advice(description),
        plots=plots(description), relations=relation_plot(description),
        distribution_rows=distribution_rows(description), fact=fact, shown=_SHOWN,
        inverses_note=INVERSES, lookalikes_note=LOOKALIKES, version=__version__,
    )  # fmt: skip


def plots(description: Description) -> list[Plot]:
    """The plots of counts, and the plot of times where the data have times."""
    samples, distributions = description.samples, description.distributions
    per_user, per_item = samples["positives_per_user"], samples["positives_per_item"]
    users, items = distributions["positives_per_user"], distributions["positives_per_item"]
    neighbors = distributions["neighbors_per_item"]
    of_both = [("users", per_user, BLUE), ("items", per_item, ORANGE)]
    around = [
        ("items", samples["neighbors_per_item"], ORANGE),
        ("all entities", samples["neighbors_per_entity"], GREEN),
    ]
    drawn = [
        Plot(
            "Positives of users and items",
            "Share of the users, and of the items, with at least this many positives.",
            svg_element(
                lambda figure: _survival(figure.add_subplot(), of_both, "positives"),
                f"Half of the users have at most {users.median:,.0f} positives, the most active "
                f"user {users.max:,.0f}; half of the items at most {items.median:,.0f}, the most "
                f"popular item {items.max:,.0f}.",
            ),
        ),
        Plot(
            "Concentration of the positives",
            "Share of all positives that belong to the most active users, and to the most popular "
            "items. The dashed line is for equal counts.",
            svg_element(
                lambda figure: _concentration(figure.add_subplot(), of_both),
                f"The top 10 % of the users have {users.top10:.0%} of the positives, the top 10 % "
                f"of the items {items.top10:.0%}.",
            ),
        ),
        Plot(
            "Neighbours in the graph",
            "Share of the items, and of all entities, with at least this many neighbours.",
            svg_element(
                lambda figure: _survival(figure.add_subplot(), around, "neighbours"),
                f"Half of the items have at most {neighbors.median:,.0f} neighbours, the item with "
                f"the most has {neighbors.max:,.0f}.",
            ),
        ),
    ]
    times = samples.get("times")
    if times is not None and float(times.max()) > float(times.min()):
        first, last = (moment(float(t), "%Y-%m-%d") for t in (times.min(), times.max()))
        drawn.append(
            Plot(
                "Positives over time",
                "Number of positives in each of 60 equal spans of time.",
                svg_element(
                    lambda figure: _history(figure.add_subplot(), times),
                    f"{len(times):,} positives from {first} to {last}.",
                ),
            )
        )
    return drawn


def relation_plot(description: Description) -> Plot:
    """The plot of the most frequent relations, with panels side by side and below each other."""
    rows = description.relations.head(_SHOWN).to_dicts()
    subject = f"The {len(rows)} most frequent of {description.relations.height:,} relations"
    words = f"{subject}; {rows[0]['relation']} has the most triples, {rows[0]['triples']:,}."
    height = 0.27 * len(rows) + 0.9
    wide = svg_element(lambda figure: _bars(figure, rows, stacked=False), words, (9.4, height))
    narrow = svg_element(lambda figure: _bars(figure, rows, stacked=True), words, (4.9, 2 * height))
    return Plot(
        "Relations",
        f"{subject}: number of triples, and share of the items with the relation.",
        Markup('<div class="side-by-side">{}</div><div class="stacked">{}</div>').format(
            wide, narrow
        ),
    )


def _survival(axes: Axes, lines: list[tuple[str, Tensor, str]], counted: str) -> None:
    ends = []
    for name, counts, colour in lines:
        values, owners = np.unique(counts[counts > 0].numpy(), return_counts=True)
        if not len(values):
            continue
        at_least = owners[::-1].cumsum()[::-1] / len(counts)
        axes.step(values, at_least, where="pre", label=name, color=colour, lw=2)
        if len(values) == 1:
            axes.plot(values, at_least, "o", color=colour)
        ends.append((values[0], values[-1], at_least[-1], at_least[0]))
    if ends:
        left, right, bottom, top = (np.array(end) for end in zip(*ends, strict=True))
        if left.min() == right.max():  # all counts are equal
            axes.set_xlim(left.min() - 1, right.max() + 1)
        logarithmic(axes.xaxis, left.min(), right.max())
        logarithmic(axes.yaxis, bottom.min(), top.max())
        axes.legend()
    axes.set(xlabel=counted, ylabel="share with at least this many")
    axes.xaxis.set_major_formatter(thousands)
    axes.yaxis.set_major_formatter(percent)


def _concentration(axes: Axes, lines: list[tuple[str, Tensor, str]]) -> None:
    for name, counts, colour in lines:
        ordered = counts.double().sort(descending=True).values
        owned = torch.cat([torch.zeros(1).double(), ordered.cumsum(0) / ordered.sum()])
        owners = torch.linspace(0, 1, len(owned), dtype=torch.float64)
        # More points would only make the file larger.
        keep = np.unique(np.linspace(0, len(owned) - 1, 500).astype(int))
        axes.plot(owners[keep].numpy(), owned[keep].numpy(), label=name, color=colour, lw=2)
    axes.plot([0, 1], [0, 1], color=INK, lw=1, ls="--")
    axes.set(xlabel="share of the users or items, top ones first", ylabel="share of the positives")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(percent)
    axes.legend(loc="lower right")


def _bars(drawing: Figure, rows: list[dict[str, Any]], stacked: bool) -> None:
    if stacked:
        left, right = drawing.subplots(2, 1)
    else:
        left, right = drawing.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = range(len(rows))
    for axes, key, colour, as_text in (
        (left, "triples", GREEN, lambda value: f"{value:,}"),
        (right, "coverage", ORANGE, _roughly),
    ):
        bars = axes.barh(places, [row[key] for row in rows], color=colour, height=0.7)
        axes.bar_label(bars, [as_text(row[key]) for row in rows], padding=3, fontsize=8)
        axes.grid(False, axis="y")
        axes.margins(x=0.16, y=0.02)
    left.set_yticks(places, [_short(row["relation"]) for row in rows], fontsize=9)
    left.invert_yaxis()
    left.set_xlabel("triples")
    left.locator_params(axis="x", nbins=5, integer=True)
    left.xaxis.set_major_formatter(thousands)
    right.set(xlabel="share of the items with the relation", xlim=(0, 1.18))
    right.set_xticks([0, 0.25, 0.5, 0.75, 1])
    right.xaxis.set_major_formatter(percent)
    if stacked:
        right.set_yticks(places, [_short(row["relation"]) for row in rows], fontsize=9)
        right.invert_yaxis()
    else:
        right.tick_params(axis="y", left=False)


def _roughly(value: float) -> str:
    return "< 0.1 %" if 0 < value < 0.001 else share(round(value, 3))


def _short(name: str) -> str:
    """A relation's name; of a long name the end, which is the most specific part."""
    return name if len(name) <= _LONGEST else "…" + name[1 - _LONGEST :]


def _history(axes: Axes, times: Tensor) -> None:
    from matplotlib import dates

    counts, edges = torch.histogram(times.double(), bins=60)
    dated = _DATES[0] <= float(edges[0]) and float(edges[-1]) <= _DATES[1]
    places = (edges / 86_400 if dated else edges).numpy()  # matplotlib's dates are days since 1970
    axes.bar(places[:-1], counts.numpy(), width=np.diff(places), align="edge", color=BLUE)
    if dated:
        locator = dates.AutoDateLocator(maxticks=7)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    else:
        axes.locator_params(axis="x", nbins=3)
        axes.xaxis.set_major_formatter(thousands)
    axes.set(xlabel="time (UTC)" if dated else "time, as in the files", ylabel="positives")
    axes.yaxis.set_major_formatter(thousands)
