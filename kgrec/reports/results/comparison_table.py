"""The table that ``kgrec compare`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from kgrec.errors import DataError
from kgrec.reports.results.compare import Comparison, Contender

METRICS = ("auc", "f1_val_threshold", "recall@20", "ndcg@20")


def usual_metrics(listed: Sequence[Contender]) -> list[str]:
    """Those of METRICS that every run has.

    Raises:
        DataError: there are none.
    """
    found = [
        metric
        for metric in METRICS
        if all(run.figure(f"test/{metric}", c.model) is not None for c in listed for run in c.runs)
    ]
    if not found:
        raise DataError(f"{listed[0].runs[0].folder}: found none of {', '.join(METRICS)}")
    return found


def comparison_table(listed: Sequence[Contender], found: Sequence[Comparison]) -> Table:
    """One row a system and metric, with intervals and corrected p-values."""
    run, splits = listed[0].runs[0], found[0].splits
    title = f"{run.data}, protocol={run.protocol}: against {listed[0].label} on {splits} split"
    table = Table(
        title=escape(title + ("s" if splits > 1 else "")),
        caption="95 % interval and p of a paired bootstrap over users; Wilcoxon per user, with the "
        "rank-biserial correlation; unpaired t-test over seeds. p after Holm's correction "
        f"for {len(listed) - 1} compared. Positive: better than {escape(listed[0].label)}.",
        caption_justify="left",
    )
    table.add_column("", no_wrap=True)
    for column in ("figure", "difference", "95 % interval", "p", "Wilcoxon p", "r", "t p"):
        table.add_column(column, justify="right", no_wrap=True)
    for metric in dict.fromkeys(c.metric for c in found):
        of_metric = [c for c in found if c.metric == metric]
        table.add_section()
        first = f"{metric}: {escape(listed[0].label)}"
        table.add_row(first, f"{of_metric[0].bootstrap.first:.4f}")
        for c in of_metric:
            b, w = c.bootstrap, c.wilcoxon
            per_user = ["", ""] if w is None else [_p(c.corrected["wilcoxon"]), f"{w.effect:+.2f}"]
            table.add_row(
                f"  {escape(c.second)}", f"{b.second:.4f}", f"{b.value:+.4f}",
                f"{b.low:+.4f} to {b.high:+.4f}", _p(c.corrected["bootstrap"]), *per_user,
                _p(c.corrected["t"]),
            )  # fmt: skip
    return table


def _p(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
