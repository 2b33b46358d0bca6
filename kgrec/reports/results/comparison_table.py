"""The table that ``kgrec compare`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from kgrec.errors import DataError
from kgrec.reports.console import fitted
from kgrec.reports.foreign_text import rich_text
from kgrec.reports.palette import metric_name
from kgrec.reports.results.compare import Comparison
from kgrec.reports.results.compared_systems import ComparedSystems
from kgrec.reports.results.verdict import p_text

METRICS = ("auc", "f1_val_threshold", "recall@20", "ndcg@20")
VALUE, GAP, INTERVAL, P, SIGNED_RANK, EFFECT, T = COLUMNS = (
    "value", "difference", "95 % interval", "p", "Wilcoxon\np", "r", "t-test\np",
)  # fmt: skip
# Groups that may be left out, the least important first.
OPTIONAL = ((EFFECT,), (SIGNED_RANK,), (T,), (INTERVAL,))
NOTES = {
    INTERVAL: "95 % interval, p: paired bootstrap over users; a user brings the rows of all seeds.",
    SIGNED_RANK: "Wilcoxon: signed-rank test on each user's mean over seeds.",
    EFFECT: "r: rank-biserial correlation.",
    T: "t-test: unpaired, over seeds.",
}


def usual_metrics(group: ComparedSystems) -> list[str]:
    """The entries of METRICS that every run has.

    Raises:
        DataError: no run has one.
    """
    everyone = [group.reference, *group.others]
    metrics = [
        metric
        for metric in METRICS
        if all(len(c.values(f"test/{metric}")) == len(c.runs) for c in everyone)
    ]
    if not metrics:
        folder = group.reference.runs[0].folder
        raise DataError(f"{folder}: found none of {', '.join(METRICS)}, expected one in every run")
    return metrics


def comparison_table(
    group: ComparedSystems, comparisons: Sequence[Comparison], width: int | None = None
) -> Table:
    """One row of each metric and system, with intervals and corrected p-values.

    Args:
        group: systems.
        comparisons: comparisons of the systems.
        width: characters in a line; None: as in the terminal.
    """

    def build(shown: Sequence[str]) -> Table:
        table = Table(
            title=rich_text(_title(group, comparisons)), caption=rich_text(_caption(group, shown)),
            caption_justify="left",
        )  # fmt: skip
        table.add_column("", overflow="fold")
        for column in shown:
            table.add_column(column, justify="right", no_wrap=True)
        for metric in dict.fromkeys(c.metric for c in comparisons):
            of_metric = [c for c in comparisons if c.metric == metric]
            table.add_section()
            cells = {VALUE: f"{of_metric[0].bootstrap.first:.4f}"}
            first = rich_text(f"{metric_name(metric)} {group.reference.label}")
            table.add_row(first, *(cells.get(column, "") for column in shown))
            for c in of_metric:
                cells = _cells(c)
                table.add_row(f"  {rich_text(c.second)}", *(cells[column] for column in shown))
        return table

    return fitted(build, COLUMNS, OPTIONAL, width)


def _cells(c: Comparison) -> dict[str, str]:
    b, w = c.bootstrap, c.wilcoxon
    return {
        VALUE: f"{b.second:.4f}",
        GAP: f"{b.value:+.4f}",
        INTERVAL: f"{b.low:+.4f} to {b.high:+.4f}",
        P: p_text(c.corrected["bootstrap"]),
        SIGNED_RANK: "" if w is None else p_text(c.corrected["wilcoxon"]),
        EFFECT: "" if w is None else f"{w.effect:+.2f}",
        T: p_text(c.corrected["t"]),
    }


def _title(group: ComparedSystems, comparisons: Sequence[Comparison]) -> str:
    run, seeds = group.reference.runs[0], comparisons[0].seeds
    return (
        f"{run.data}, protocol={run.protocol}, {seeds} seed{'s' if seeds > 1 else ''}: "
        f"difference from {group.reference.label}"
    )


def _caption(group: ComparedSystems, shown: Sequence[str]) -> str:
    lines = [NOTES[column] for column in shown if column in NOTES]
    if len(group.others) > 1:
        lines.append(f"p-values: Holm's correction for {len(group.others)} comparisons.")
    if missing := [column for column in COLUMNS if column not in shown]:
        names = ", ".join(column.replace("\n", " ") for column in missing)
        lines.append(f"Left out for lack of width: {names}; --json has all columns.")
    return "\n".join(lines)
