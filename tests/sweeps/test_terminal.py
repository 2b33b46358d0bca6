"""What a sweep prints fits terminals of 60, 80 and 120 columns, seen through a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from finished_runs import grid

from kgrec.sweeps.progress import wrapped

WATCH = """
import sys, time
from pathlib import Path
from kgrec.sweeps import progress
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.table import print_tables
from kgrec.runs.status import at_work, update
sweep = SweepFolder.read(Path(sys.argv[1]))
progress.POLL_SECONDS = 0.05
with progress.Watching(sweep, sweep.jobs), at_work(sweep.folder(sweep.jobs[-1])):
    update(sweep.folder(sweep.jobs[-1]), epoch=3, epochs=100, best=0.7123, monitor="val/auc")
    time.sleep(1.5)
print_tables(sweep, sweep.states())
"""
CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_a_terminal(columns: int, folder: Path) -> list[str]:
    """Lines that a terminal of so many columns shows, drawn over or not."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-c", WATCH, str(folder)], stdout=theirs, stderr=theirs, stdin=theirs,
        env=environment | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    output = b""
    while True:
        try:
            output += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0, output.decode()
    plain = CODES.sub("", output.decode())
    return [part for part in re.split(r"[\r\n]+", plain) if part.strip()]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [60, 80, 120])
def test_tables_lines_and_bars_fit_the_terminal(columns, make_sweep):
    keys = {"model.aggregator": ["neighbor", "concat"], "seed": ["2019", "2020", "2021"]}
    folder = make_sweep(*grid(**keys), finished=5)
    lines = in_a_terminal(columns, folder)
    assert max(map(len, lines)) <= columns, max(lines, key=len)
    text = "\n".join(lines)
    assert re.search(r"^ +\d of 6  model.aggregator=neighbor seed=2019:", text, re.MULTILINE)
    # A bar is a line of its own, with the job's name (cut, if need be) and its epoch.
    (bar, *_) = [line for line in lines if "epoch 3 of 100" in line]
    assert bar.startswith("model.aggregator=concat see")
    assert ("val/auc 0.7123" in bar) == (columns >= 80)
    assert ("━━" in bar or "╸" in bar) == (columns == 120)
    assert "Mean ± sd over seeds; ★ best val/auc" in text
    assert re.search(r"│ ★ 0\.\d{4} ± 0\.\d{4} │", text)  # a number is never broken
    assert ("epochs" in text.partition("Mean ±")[0].partition("jobs")[2]) == (columns == 120)


def test_a_number_stays_with_its_name_and_unit():
    text = "   1 of 2  model.H=1:  val/auc 0.7120  test AUC 0.7218  Recall@20 0.1663  12 s"
    for width in range(32, 90):
        lines = wrapped(text, width).split("\n")
        assert max(map(len, lines)) <= width
        joined = " ".join(line.strip() for line in lines)
        assert joined.split() == text.split()
        ends = [line.split()[-1] for line in lines[:-1]]
        assert not set(ends) & {"val/auc", "AUC", "Recall@20", "12"}
