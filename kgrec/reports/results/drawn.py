"""A plot of a report before it is drawn: panels, legend, size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from kgrec.reports.drawing import as_element, draw
from kgrec.reports.palette import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Size of one panel in inches.
WIDTH, HEIGHT = 4.9, 3.3
LEGEND_COLUMNS = 4

Panel = Callable[["Axes"], None]


class Key(NamedTuple):
    """One entry of a legend.

    Attributes:
        name: name of the line.
        style: look of the line.
    """

    name: str
    style: Style


class Drawn(NamedTuple):
    """A plot of one or more panels with a common legend.

    A page gets each panel as a drawing of its own, so that panels are placed below each other where
    the page is narrow. A file has all panels.

    Attributes:
        name: name of the file.
        title: title above the plot.
        caption: explanation below the plot.
        panels: function that draws each panel.
        legend: entries of the legend; empty where one line needs no legend.
        height: height of a panel in inches.
    """

    name: str
    title: str
    caption: str
    panels: Sequence[Panel]
    legend: Sequence[Key] = ()
    height: float = HEIGHT

    def files(self) -> tuple[bytes, bytes]:
        """SVG and PNG of all panels with the legend."""
        columns = min(2, len(self.panels))
        rows = math.ceil(len(self.panels) / columns)
        legend = 0.3 * math.ceil(len(self.legend) / LEGEND_COLUMNS)
        size = (WIDTH * columns, self.height * rows + legend)
        svg, png = draw(lambda figure: self._paint(figure, rows, columns), size, ("svg", "png"))
        return svg, png

    def _paint(self, figure: Figure, rows: int, columns: int) -> None:
        from matplotlib.lines import Line2D

        grid = figure.subplots(rows, columns, squeeze=False).flat
        for panel, axes in zip(self.panels, grid, strict=False):
            panel(axes)
        for axes in list(grid)[len(self.panels) :]:
            axes.remove()
        if self.legend:
            lines = [
                Line2D([], [], color=style.colour, ls=style.matplotlib, lw=2, label=name)
                for name, style in self.legend
            ]
            columns = min(LEGEND_COLUMNS, len(lines))
            figure.legend(handles=lines, loc="outside upper center", ncols=columns, fontsize=8)

    def elements(self) -> list[Markup]:
        """Each panel as an element of a page."""
        elements = []
        for panel in self.panels:
            [svg] = draw(lambda f, p=panel: p(f.add_subplot()), (WIDTH, self.height), ("svg",))  # type: ignore[misc]
            elements.append(as_element(svg.decode(), self.title))
        return elements
