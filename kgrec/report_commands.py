"""``kgrec report`` and ``kgrec compare``: evidence from finished runs."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kgrec.errors import ConfigError, DataError
from kgrec.files import write_text
from kgrec.reports.compare import Comparison, Contender, compare, contenders
from kgrec.reports.runs import Run, find_runs, unfinished

METRICS = ("auc", "f1_val_threshold", "recall@20", "ndcg@20")


def run(arguments: argparse.Namespace) -> None:
    """Runs the subcommand that was parsed."""
    places = [Path(place) for place in arguments.places]
    if arguments.command == "report" and (arguments.watch or arguments.once):
        _watch(arguments, places)
        return
    runs = find_runs(places)
    if left := unfinished(places):
        told = f"{len(left)} unfinished runs are left out, such as {left[0]}"
        print(told, file=sys.stderr)  # noqa: T201
    (_report if arguments.command == "report" else _compare)(arguments, runs)


def _watch(arguments: argparse.Namespace, places: list[Path]) -> None:
    from kgrec.reports.watch import watch

    if len(places) > 1 or arguments.into is not None:
        asked = "--watch" if arguments.watch else "--once"
        raise ConfigError(
            f"{asked}: found {len(places)} folders{' and --into' if arguments.into else ''}, "
            "expected the folder of one sweep"
        )
    if not arguments.every > 0:
        raise ConfigError(f"--every: found {arguments.every:g}, expected seconds above 0")
    out = None if arguments.out is None else Path(arguments.out)
    watch(places[0], out, arguments.every, arguments.once)


def _report(arguments: argparse.Namespace, runs: list[Run]) -> None:
    from kgrec.reports.report import write_into, write_report

    if arguments.into is not None:
        write_into(runs, Path(arguments.into))
        print(arguments.into)  # noqa: T201
        return
    for path in write_report(runs, Path(arguments.out or "logs/report")):
        print(path)  # noqa: T201


def _compare(arguments: argparse.Namespace, runs: list[Run]) -> None:
    listed = contenders(_in_given_order(arguments.places, runs), arguments.against)
    metrics = arguments.metric or _metrics(listed)
    found = compare(listed, metrics, arguments.samples)
    if arguments.json is not None:
        text = json.dumps([c.as_dict() for c in found], indent=2, allow_nan=False) + "\n"
        if arguments.json == "-":
            print(text, end="")  # noqa: T201
            return
        write_text(Path(arguments.json), text)
    Console(width=None if sys.stdout.isatty() else 140).print(_table(listed, found))


def _in_given_order(places: Sequence[str], runs: list[Run]) -> list[Run]:
    """Runs by the place that they were found in, so that the first system is the first given."""
    order = [Path(place).resolve() for place in places]

    def place(run: Run) -> int:
        return next(i for i, p in enumerate(order) if p == run.folder or p in run.folder.parents)

    return sorted(runs, key=place)


def _metrics(listed: Sequence[Contender]) -> list[str]:
    """The usual ones that every run has."""
    found = [
        metric
        for metric in METRICS
        if all(run.figure(f"test/{metric}", c.model) is not None for c in listed for run in c.runs)
    ]
    if not found:
        raise DataError(f"{listed[0].runs[0].folder}: found none of {', '.join(METRICS)}")
    return found


def _table(listed: Sequence[Contender], found: Sequence[Comparison]) -> Table:
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
