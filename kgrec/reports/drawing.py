"""Drawings for pages: SVG with text as text, in the text colour of the page."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Legible on white and on black.
BLUE, ORANGE, GREEN = "#3b82c4", "#e0822e", "#4c9f70"
# Placeholder for the page's text colour, light or dark.
INK = "#808080"


SETTINGS: Any = {
    # Text stays text: small files, searchable, in a font of the reader's machine.
    "svg.fonttype": "none", "svg.hashsalt": "kgrec", "text.parse_math": False,
    "font.size": 10, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
    "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "text.color": INK, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": INK, "grid.alpha": 0.2,
    "legend.frameon": False,
}  # fmt: skip


class Plot(NamedTuple):
    """A drawing with title and caption.

    Attributes:
        title: title above the drawing.
        caption: explanation below the drawing.
        svg: SVG element with a label for screen readers.
    """

    title: str
    caption: str
    svg: Markup


def svg_element(
    paint: Callable[[Figure], None], description: str, size: tuple[float, float] = (4.9, 3.4)
) -> Markup:
    """Draws a figure as an SVG element of a page.

    Args:
        paint: function that draws on an empty figure.
        description: content of the drawing, in words.
        size: width and height in inches.
    """
    svg = draw(paint, size, ("svg",))[0].decode()
    return as_element(svg, description)


def as_element(svg: str, description: str) -> Markup:
    """Turns an SVG file into an element of a page, in the page's text colour."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    # Escaped: names of relations are arbitrary text.
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1))


def draw(
    paint: Callable[[Figure], None], size: tuple[float, float], kinds: Sequence[str]
) -> list[bytes]:
    """Draws a figure once and returns it as files of several kinds, "svg" or "png"."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    files = []
    with rc_context(SETTINGS), warnings.catch_warnings():
        # The browser sets the text, with fonts that have these glyphs.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawing = Figure(figsize=size, layout="constrained")
        paint(drawing)
        for kind in kinds:
            out = io.BytesIO()
            if kind == "svg":
                no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
                drawing.savefig(out, format="svg", metadata=no_metadata, transparent=True)
            else:
                drawing.savefig(out, format=kind, dpi=150, facecolor="white")
            files.append(out.getvalue())
    return files


def thousands(value: float, _: float) -> str:
    """Tick label of a number, such as 12,000."""
    return f"{value:,.0f}"


def percent(value: float, _: float) -> str:
    """Tick label of a share, such as 12 %."""
    return f"{100 * value:g} %"


def logarithmic(axis: Any, low: float, high: float) -> None:
    """Makes an axis logarithmic if values span more than a factor of ten."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    if high <= 10 * low:
        axis.set_major_locator(MaxNLocator(5, integer=low >= 1))
        return
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high <= 100 * low else (1,)))
    axis.set_minor_formatter(NullFormatter())
