"""Picture of an item's receptive field with one user's weights as widths of edges.

The tree of :mod:`kgrec.inference.receptive_field` grows to the right, with one row per leaf, so
labels cannot overlap.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgrec.errors import DataError
from kgrec.files import atomic_file
from kgrec.inference.naming import Namer
from kgrec.inference.receptive_field import FieldNode, field_tree
from kgrec.models.reasons import Term

KINDS = (".svg", ".png")
WIDEST, NARROWEST = 9.0, 0.6  # points
ROW, EDGE_LENGTH, MARGIN = 0.52, 1.1, 0.25  # inches
TITLE_SIZE, LABEL_SIZE, DETAIL_SIZE = 10, 9, 7.5  # points
TITLE_WIDTH, LABEL_WIDTH = 24, 34  # characters
INK, MUTED, EDGE, LIKED = "#222222", "#666666", "#8fb3d1", "#d55e00"
SETTINGS: Any = {
    "svg.fonttype": "none", "svg.hashsalt": "kgrec", "text.parse_math": False,
    "font.size": LABEL_SIZE, "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
}  # fmt: skip


@dataclass
class Node:
    """An entity at its place in the tree.

    Attributes:
        label: name.
        detail: relation and weight, or empty.
        weight: weight of the edge to the parent.
        liked: whether the user liked the entity, or items that share it.
        children: nodes one hop further.
        row: position from the top.
    """

    label: str
    detail: str = ""
    weight: float = 1.0
    liked: bool = False
    children: list[Node] = field(default_factory=list)
    row: float = 0.0


def draw(
    namer: Namer, item: int, terms: Sequence[Term], left_out: int, title: str, path: Path
) -> None:
    """Writes the picture.

    Args:
        namer: names terms.
        item: number of the item.
        terms: paths from the item.
        left_out: number of further paths.
        title: title of the picture.
        path: file, .svg or .png.

    Raises:
        DataError: the file name has another ending, or the folder does not exist.
    """
    if path.suffix not in KINDS or not path.parent.is_dir():
        raise DataError(
            f"picture: found {path}, expected a file {' or '.join(KINDS)} in a folder that exists"
        )
    root = tree(namer, item, terms)
    left_out += len(terms) - len(_weights(root))
    rows = _place(root, 0)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        columns = _columns(root)
        width, height = max(MARGIN + columns[-1], 5.5), ROW * rows + 1.2
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        axes.text(0.15, 0.3, _cut(title, int(11 * width)), fontsize=11, color=INK, va="center")
        note = "width: the user's weight; orange: liked, or shared with a liked item"
        if left_out:
            note += f"; {left_out:,} weaker not drawn"
        axes.text(0.15, height - 0.22, note, fontsize=DETAIL_SIZE, color=MUTED, va="center")
        _paint(axes, root, columns, max(_weights(root), default=1.0))
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        options: dict[str, Any] = {"metadata": metadata} if path.suffix == ".svg" else {"dpi": 150}
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], facecolor="white", **options)


def tree(namer: Namer, item: int, terms: Sequence[Term]) -> Node:
    """The item with its paths of the largest weights."""
    root = field_tree(namer, item, terms)
    title = "\n".join(textwrap.wrap(_cut(root.name, 3 * TITLE_WIDTH), TITLE_WIDTH)[:4])
    return Node(title, children=[_labelled(child) for child in root.children])


def _labelled(node: FieldNode) -> Node:
    """A node of the field, and those beyond it, with labels of a width that fits."""
    detail = f"{_cut(node.relation_name or '', LABEL_WIDTH)} · {node.weight:.2f}"
    children = [_labelled(child) for child in node.children]
    return Node(_cut(node.name, LABEL_WIDTH), detail, node.weight, node.liked, children)


def _weights(root: Node) -> list[float]:
    """Weights of all edges."""
    return [w for child in root.children for w in (child.weight, *_weights(child))]


def _columns(root: Node) -> list[float]:
    """Left end of every column, wide enough for the labels to its left, and the right end."""
    level, columns = [root], [MARGIN]
    while level:
        labels = [line for node in level for line in (*node.label.split("\n"), node.detail)]
        widest = max(_width(label, bold=len(columns) == 1) for label in labels)
        columns.append(columns[-1] + 0.3 + widest + EDGE_LENGTH)
        level = [child for node in level for child in node.children]
    columns[-1] -= EDGE_LENGTH
    return columns


def _width(text: str, bold: bool) -> float:
    """Width of a label in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight="bold" if bold else "normal")
    size = TITLE_SIZE if bold else LABEL_SIZE
    return float(TextPath((0, 0), text, size=size, prop=font).get_extents().x1) / 72 if text else 0


def _cut(text: str, length: int) -> str:
    """A text of at most ``length`` letters."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _place(node: Node, row: float) -> float:
    """Gives rows to a subtree that begins at ``row``; returns the first row below it."""
    if not node.children:
        node.row = row
        return row + 1
    for child in node.children:
        row = _place(child, row)
    node.row = (node.children[0].row + node.children[-1].row) / 2
    return row


def _paint(axes: Any, node: Node, columns: Sequence[float], largest: float) -> None:
    """Draws a subtree: edges first, then dots and labels."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    x, y = columns[0], _y(node.row)
    for child in node.children:
        start, end, height = columns[1] - EDGE_LENGTH, columns[1], _y(child.row)
        middle = (start + end) / 2
        curve = Curve([(start, y), (middle, y), (middle, height), (end, height)],
                      [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])  # fmt: skip
        width = max(NARROWEST, WIDEST * child.weight / largest)
        colour = LIKED if child.liked else EDGE
        axes.add_patch(PathPatch(curve, fill=False, lw=width, ec=colour, alpha=0.75))
        _paint(axes, child, columns[1:], largest)
    axes.plot(x, y, "o", ms=7, color=LIKED if node.liked else INK, zorder=3)
    if not node.detail:
        axes.text(
            x + 0.13, y, node.label, fontsize=TITLE_SIZE, weight="bold", color=INK, va="center"
        )
    else:
        axes.text(x + 0.13, y - 0.09, node.label, color=INK, va="center")
        axes.text(x + 0.13, y + 0.11, node.detail, fontsize=DETAIL_SIZE, color=MUTED, va="center")


def _y(row: float) -> float:
    return 0.85 + ROW * row
