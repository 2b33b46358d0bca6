"""``kgrec export``: the model of a finished run as programs or tables that need no kgrec."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from kgrec.commands.run_choice import add_run, load_run, say

FORMATS = ("table", "json")
KINDS = ("onnx", "torch", "embeddings")


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "export",
        help="write the model of a finished run as ONNX, torch.export or Parquet",
        description="Writes the scores of the model and its top-k lists as programs for ONNX "
        "Runtime or torch, or its vectors as Parquet, with the ids of users and items and a README "
        "beside them. Every program is compared with the model before it is kept.",
        epilog="examples: kgrec export latest --to onnx --out exported; "
        "kgrec export logs/sweeps/A --to embeddings --out vectors",
    )
    add_run(parser, FORMATS)
    parser.add_argument("--to", required=True, choices=KINDS, help="form of the export")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="new or empty folder")
    parser.add_argument(
        "-k", type=int, default=10, help="items of a top-k list (default: %(default)s)"
    )
    parser.add_argument(
        "--with-seen", action="store_true", help="also write which items users have seen"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Exports, and prints the files with their sizes."""
    from kgrec.exporting.folder import check, export

    out = Path(arguments.out).expanduser()
    check(arguments.to, out)
    rec = load_run(arguments)
    done = export(rec, arguments.to, out, arguments.k, arguments.with_seen, say)
    if arguments.format == "json":
        content = {
            "folder": str(done.folder), "files": done.files, "seconds": done.seconds,
            "largest_difference": done.difference,
        }  # fmt: skip
        sys.stdout.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return
    for name, size in done.files.items():
        sys.stdout.write(f"{name:16} {_size(size):>10}\n")
    compared = ""
    if done.difference is not None:
        compared = f"; scores differ by at most {done.difference:.1g} from the model's"
    say(f"wrote {done.folder} in {done.seconds:.0f} s{compared}")


def _size(count: float) -> str:
    """Bytes in the largest unit that gives at least 1."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
