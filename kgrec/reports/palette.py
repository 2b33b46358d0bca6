"""Colours of the lines and bars of one page, and the names of metrics on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kgrec.evaluation.results import BASELINE
from kgrec.reports.drawing import INK

# Distinct on white and on black, also for most colour-blind readers (Okabe and Ito).
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d46", "#7a5fd0",
)  # fmt: skip
DASHES = ("solid", "longdash", "dashdot", "dot")
STYLES = len(COLOURS) * len(DASHES)


class Style(NamedTuple):
    """Look of one line.

    Attributes:
        colour: hexadecimal RGB.
        dash: name in DASHES, or "dash" for the baseline.
    """

    colour: str
    dash: str

    @property
    def matplotlib(self) -> Any:
        """Line style of matplotlib."""
        names = {"solid": "-", "dot": ":", "dashdot": "-.", "dash": "--"}
        return names.get(self.dash, (0, (9, 2)))

    @property
    def svg(self) -> str:
        """Dash array of SVG."""
        arrays = {"solid": "none", "dot": "2 2", "dashdot": "6 2 2 2", "dash": "5 3"}
        return arrays.get(self.dash, "9 2")


class Palette:
    """Styles by name: one name has one style in all charts of a page.

    The baseline is grey and broken. The first eight names have a colour each, the next ones the
    same colours with other dashes.

    Args:
        names: names in the order in which they take styles; other names take the next styles.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._styles: dict[str, Style] = {}
        for name in names:
            self.style(name)

    def style(self, name: str) -> Style:
        """The style of a name."""
        if name == BASELINE:
            return Style(INK, "dash")
        if name not in self._styles:
            dash, colour = divmod(len(self._styles) % STYLES, len(COLOURS))
            self._styles[name] = Style(COLOURS[colour], DASHES[dash])
        return self._styles[name]

    def variants(self, model: str, names: Sequence[str]) -> dict[str, Style]:
        """Styles of lines that show one model: the model's colour with different dashes.

        Where there are more lines than dashes, each line has a colour.
        """
        if len(names) > len(DASHES):
            return {name: self.style(name) for name in names}
        colour = self.style(model).colour
        return {name: Style(colour, dash) for name, dash in zip(names, DASHES, strict=False)}


def metric_name(key: str) -> str:
    """``auc`` is "AUC", ``val/recall@20`` is "validation Recall@20"."""
    split, _, metric = key.rpartition("/")
    base, at, k = metric.partition("@")
    names = {"f1": "F1 (0.5)", "f1_val_threshold": "F1 (val)"}
    upper = base in ("auc", "ndcg", "mrr", "map")
    shown = names.get(base) or (base.upper() if upper else base.capitalize())
    return f"{'validation' if split == 'val' else split} {shown}{at}{k}".strip()
