"""``kgrec score-lists``: metrics of lists that another tool has made."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from kgrec.commands.run_choice import RUN, say
from kgrec.files import inside


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "score-lists",
        help="ranking metrics of another tool's lists, on the test of a finished run",
        description="Evaluates lists of recommended items as the model of a finished run was: the "
        "same users, relevant items and exclusions. The data folder is not needed. The result is "
        "a run folder for kgrec compare and kgrec report.",
        epilog="examples: kgrec score-lists als.csv --like latest; "
        "kgrec compare logs/runs/A logs/lists/als",
    )
    parser.add_argument(
        "file", metavar="FILE",
        help="CSV, TSV, Parquet or JSON lines with user, item, and rank (1 is the best) or score; "
        "of both, rank is read",
    )  # fmt: skip
    parser.add_argument("--like", required=True, metavar="RUN", help=RUN)
    parser.add_argument("--name", help="name of the system (default: that of the file)")
    parser.add_argument(
        "--out", metavar="FOLDER", help="new run folder (default: logs/lists/NAME-SEED)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Evaluates the lists, prints their metrics and says what was left out."""
    from rich.console import Console

    from kgrec.inference.loading import LOGS, find_run
    from kgrec.inference.scored_lists import score_lists
    from kgrec.reports.console import results_table
    from kgrec.runs.results import shown_k

    file, found = Path(arguments.file).expanduser(), find_run(arguments.like)
    if found.reason:
        say(f"using {found.folder.path}, {found.reason}")
    name = arguments.name or re.sub(r"[^\w.+-]", "_", file.stem)
    inside(LOGS, name, "--name")  # so that the message has the name alone
    place = inside(LOGS / "lists", f"{name}-{found.folder.config()['seed']}", "--name")
    out = Path(arguments.out) if arguments.out else place
    scored = score_lists(file, found.folder, name, out)
    for remark in scored.remarks:
        say(remark)
    metrics = scored.metrics
    control = {k.removeprefix("popularity/"): v for k, v in metrics.items() if "/test/" in k}
    ks = [int(k.partition("@")[2]) for k in metrics if k.startswith("test/recall@")]
    facts = found.folder.dataset()
    title = f"{name} on {facts['name']}, protocol={facts['protocol']}"
    shown = {name: metrics, "popularity": control}
    Console(highlight=False).print(results_table(title, shown, shown_k(ks, max(ks))))
    say(f"the results are in {scored.folder}; compare with kgrec compare {found.folder.path} "
        f"{scored.folder} --metric recall@20 ndcg@20")  # fmt: skip
