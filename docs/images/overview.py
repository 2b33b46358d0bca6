"""Draws overview.svg, the picture of the README, from the table of music in docs/results.md.

``python docs/images/overview.py``
"""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
# Row of the table, name in the picture; the first is the model of the house, the last the control.
ROWS = {
    "kgcn sum, grid": "KGCN",
    "lightgcn, grid": "LightGCN",
    "cke, grid": "CKE",
    "bprmf, grid": "BPR-MF",
    "libfm, grid": "LibFM",
    "svd, grid": "SVD",
    "itemknn": "ItemKNN (not trained)",
    "popularity": "popularity",
}
COLORS = {"KGCN": "#d9480f", "popularity": "#868e96"}
INK, OTHER = "#808080", "#4c6ef5"


def results() -> dict[str, dict[str, tuple[float, float]]]:
    """Name to metric to (mean, standard deviation), from Table 2 of music."""
    text = (HERE.parent / "results.md").read_text(encoding="utf-8")
    section = text.split("### Table 2 of the paper: music, protocol=paper\n")[1]
    table = section.strip().split("\n\n")[0]
    header, _, *lines = ([c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines())
    rows = {line[0]: dict(zip(header, line, strict=True)) for line in lines}
    number = re.compile(r"([\d.]+) ± ([\d.]+)")
    return {
        name: {
            metric: tuple(map(float, number.match(rows[row][metric]).groups()))  # type: ignore
            for metric in ("AUC", "Recall@20")
        }
        for row, name in ROWS.items()
    }


def main() -> None:
    """Writes overview.svg."""
    shown = results()
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "kgrec", "font.size": 10}
    names = sorted(shown, key=lambda name: shown[name]["AUC"][0])
    figure, panels = plt.subplots(1, 2, figsize=(5.6, 2.3), layout="constrained", sharey=True)
    for axes, (metric, start) in zip(panels, {"AUC": 0.5, "Recall@20": 0.0}.items(), strict=True):
        for y, name in enumerate(names):
            mean, deviation = shown[name][metric]
            axes.barh(y, mean - start, left=start, height=0.7, color=COLORS.get(name, OTHER))
            axes.errorbar(mean, y, xerr=deviation, color=INK, linewidth=1)
            axes.annotate(
                f"{mean:.3f}", (mean + deviation, y), (4, 0), textcoords="offset points",
                va="center", color=INK, fontsize=9,
            )  # fmt: skip
        axes.set_yticks(range(len(names)), names)
        axes.set_title(f"{metric}, test", fontsize=10, color=INK, loc="left")
        axes.tick_params(colors=INK, length=0)
        axes.set_xlim(right=start + 1.35 * (max(shown[n][metric][0] for n in names) - start))
        for side in ("top", "right", "bottom", "left"):
            axes.spines[side].set_visible(False)
        axes.set_xticks([])
    figure.savefig(HERE / "overview.svg", transparent=True, metadata={"Date": None})


if __name__ == "__main__":
    main()
