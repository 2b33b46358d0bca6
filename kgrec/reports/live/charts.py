"""Interactive charts of a page: colours, scales and axes."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

from kgrec.reports.drawing import INK

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# From low to high; each legible on white and on black.
SCALE = [[0.0, "#8a6fd8"], [0.5, "#1b96a8"], [1.0, "#e08a00"]]
GRID = "rgba(128,128,128,0.22)"
MOST_TICKS = 8
# Shares of the shortest axis: width of a character of a label, and height of a label.
CHARACTER, LINE = 0.016, 0.06
EMPTY = "not set"


class Chart(NamedTuple):
    """A chart with title and caption.

    Attributes:
        title: title above the chart.
        caption: explanation below the chart.
        figure: plotly figure as JSON.
        height: height in pixels.
        whole: whether the chart takes the whole width of the page.
        least: width in pixels below which the chart scrolls.
    """

    title: str
    caption: str
    figure: Markup
    height: int = 320
    whole: bool = False
    least: int = 0


def chart(
    title: str, caption: str, figure: Figure, height: int = 320, whole: bool = False, least: int = 0
) -> Chart:
    """Styles a figure for the page; the page sets the text colour, light or dark."""
    figure.update_layout(
        template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"color": INK, "size": 12, "family": "system-ui, sans-serif"}, autosize=True,
        hoverlabel={"font": {"color": "#ffffff"}, "bgcolor": "#323b47", "namelength": -1},
    )  # fmt: skip
    axes: dict[str, Any] = {
        "gridcolor": GRID, "zeroline": False, "automargin": True, "linecolor": GRID,
        "title": {"standoff": 8},
    }  # fmt: skip
    figure.update_xaxes(**axes)
    figure.update_yaxes(**axes)
    plain = json.loads(figure.to_json())
    plain["layout"].pop("template", None)
    # "<" could end the script element that holds the JSON.
    text = json.dumps(plain, separators=(",", ":")).replace("<", "\\u003c")
    return Chart(title, caption, Markup(text), height, whole, least)


def paired(charts: Sequence[Chart]) -> list[Chart]:
    """Charts for two columns; the last one of an odd number takes the whole width."""
    last = [last._replace(whole=True) for last in charts[-1:]] if len(charts) % 2 else charts[-1:]
    return [*charts[:-1], *last]


def escaped(text: object) -> str:
    """Text for plotly, which interprets some HTML."""
    return html.escape(str(text), quote=False)


@dataclass(frozen=True)
class Axis:
    """Positions of a setting's values on an axis, numbers by their size.

    Attributes:
        places: value to position.
        ticks: positions with a label.
        labels: labels of the ticks.
        log: whether positions are logarithms.
        numeric: whether all values are numbers; "all" counts as the largest number.
    """

    places: dict[str, float]
    ticks: list[float]
    labels: list[str]
    log: bool = False
    numeric: bool = True

    @classmethod
    def of(cls, values: Iterable[str | None]) -> Axis:
        """Numbers on a linear or logarithmic scale; other values in their order."""
        words = list(dict.fromkeys(EMPTY if v is None else str(v) for v in values))
        numbers = {w: n for w in words if (n := number(w)) is not None}
        if set(words) - set(numbers) - {"all"} or not numbers:
            places = {word: float(i) for i, word in enumerate(words)}
            return cls(places, list(places.values()), [short(w) for w in words], False, False)
        ordered = sorted(set(numbers.values()))
        log = _logarithmic(ordered)
        spots = [math.log10(n) if log else n for n in ordered]
        step = (spots[-1] - spots[0]) / (len(spots) - 1) if len(spots) > 1 else 1.0
        places = {w: math.log10(n) if log else n for w, n in numbers.items()}
        marks = ordered
        if len(ordered) > MOST_TICKS or not _legible(ordered, log):
            marks = _round_numbers(ordered[0], ordered[-1], log)
        marks = list({_digits(n): n for n in marks}.values())
        ticks = [math.log10(n) if log else n for n in marks]
        labels = [_digits(n) for n in marks]
        if "all" in words:
            places["all"] = spots[-1] + step
            ticks, labels = [*ticks, places["all"]], [*labels, "all"]
        return cls(places, ticks, labels, log, True)

    def at(self, value: str | None) -> float:
        """Position of a value."""
        return self.places[EMPTY if value is None else str(value)]

    def between(self, value: float) -> float | None:
        """Position of any number between the values; None outside."""
        place = math.log10(value) if self.log else float(value)
        spots = [p for w, p in self.places.items() if w != "all"]
        return place if min(spots) <= place <= max(spots) else None

    @property
    def span(self) -> tuple[float, float]:
        """First and last position."""
        return min(self.places.values()), max(self.places.values())

    @property
    def layout(self) -> dict[str, Any]:
        """Layout of the axis for plotly."""
        return {"tickvals": self.ticks, "ticktext": [escaped(label) for label in self.labels]}


def number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _logarithmic(ordered: Sequence[float]) -> bool:
    """Whether a scale is logarithmic.

    Few values: if they are not evenly spaced. Many values: if they span more than a power of ten.
    """
    if len(ordered) < 2 or ordered[0] <= 0:
        return False
    ratio = ordered[-1] / ordered[0]
    if len(ordered) > MOST_TICKS:
        return ratio > 10
    gaps = [b - a for a, b in pairwise(ordered)]
    return ratio >= 4 and max(gaps) > 1.5 * min(gaps)


def _round_numbers(low: float, high: float, log: bool) -> list[float]:
    """Round numbers from low to high, such as 0.01, 0.1, 1 or 20, 40, 60; few enough to read."""
    if not log:
        rough = (high - low) / 5
        power = 10 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
        first, last = math.ceil(low / step), math.floor(high / step)
        return [round(i * step, 12) for i in range(first, last + 1)]
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    finest = (1, 2, 5) if high >= 10 * low else (1, 2, 3, 5, 7)
    for factors, stride in chain([(finest, 1)], (((1,), stride) for stride in count(1))):
        powers = range(first - first % stride, last + 1, stride)
        marks = [n for p in powers for f in factors if low <= (n := float(f"{f}e{p}")) <= high]
        if len(marks) <= MOST_TICKS and _legible(marks, log):
            break
    return marks


def _legible(marks: Sequence[float], log: bool) -> bool:
    """Whether the labels of ascending numbers do not overlap."""
    spots = [math.log10(n) if log else n for n in marks]
    labels = [_digits(n) for n in marks]
    min_gap = max(LINE, CHARACTER * (1 + max(map(len, labels), default=0)))
    return all(b - a >= min_gap * (spots[-1] - spots[0]) for a, b in pairwise(spots))


def _digits(value: float) -> str:
    """A whole number in full, any other with three significant digits."""
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"


def short(text: str, most: int = 24) -> str:
    """The end of a long text, such as a dotted path."""
    return text if len(text) <= most else "…" + text[1 - most :]


def name(key: str) -> str:
    """Short name of a setting: ``model.K`` is K."""
    return key.removeprefix("model.").removeprefix("optimizer.")
