"""Drawings for pages: SVG whose text stays text and whose ink is the page's own."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Readable on white and on black.
BLUE, ORANGE, GREEN = "#3b82c4", "#e0822e", "#4c9f70"
# Stands for the page's own colour of text, light or dark.
INK = "#808080"


SETTINGS: Any = {
    # Text stays text: small, searchable, and in a font that the reader's machine has.
    "svg.fonttype": "none", "svg.hashsalt": "kgrec", "text.parse_math": False,
    "font.size": 10, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": INK, "grid.alpha": 0.2,
    "legend.frameon": False,
}  # fmt: skip


class Plot(NamedTuple):
    """A drawing and what it shows.

    Attributes:
        title: above it.
        caption: below it, how to read it.
        svg: the drawing, with a text in its place for those who do not see it.
    """

    title: str
    caption: str
    svg: Markup


def svg_element(
    paint: Callable[[Figure], None], told: str, size: tuple[float, float] = (4.9, 3.4)
) -> Markup:
    """Draws, and turns the drawing into an element of a page.

    Args:
        paint: draws on an empty figure.
        told: what there is to see, in words.
        size: in inches.
    """
    svg = draw(paint, size, ("svg",))[0].decode()
    return as_element(svg, told)


def as_element(svg: str, told: str) -> Markup:
    """An SVG file as an element of a page, in the page's own ink; arguments as above."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # Escaped, because relations have whatever names they have.
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(told)}"', 1))


def draw(
    paint: Callable[[Figure], None], size: tuple[float, float], kinds: Sequence[str]
) -> list[bytes]:
    """Draws once, and writes it as files of several kinds: "svg" or "png"."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    files = []
    with rc_context(SETTINGS), warnings.catch_warnings():
        # Text is set by the browser, whose fonts have what this one may lack.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = Figure(figsize=size, layout="constrained")
        paint(drawing)
        for kind in kinds:
            out = io.BytesIO()
            if kind == "svg":
                nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                drawing.savefig(out, format="svg", metadata=nothing, transparent=True)
            else:
                drawing.savefig(out, format=kind, dpi=150, facecolor="white")
            files.append(out.getvalue())
    return files


def thousands(value: float, _: float) -> str:
    """An axis's numbers, such as 12,000."""
    return f"{value:,.0f}"


def percent(value: float, _: float) -> str:
    """An axis's shares, such as 12 %."""
    return f"{100 * value:g} %"


def logarithmic(axis: Any, low: float, high: float) -> None:
    """A logarithmic axis where values span more than a power of ten, else a plain one."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if high <= 10 * low:
        axis.set_major_locator(MaxNLocator(5, integer=low >= 1))
        return
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high <= 100 * low else (1,)))
    axis.set_minor_formatter(NullFormatter())
