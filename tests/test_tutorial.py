"""The commands of docs/tutorial.md, and what they print.

``KGREC_WRITE_TUTORIAL=1 pytest tests/test_tutorial.py -m slow`` writes the output into the page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
STEP = re.compile(r"```bash\n(.*?)```\n\n```text\n(.*?)```", flags=re.DOTALL)
LONGEST = 28  # lines of an output that the page shows in full
# Lines that depend on the last digits of a model, such as the order of recommendations.
OF_A_MODEL = re.compile(r"^│|^fetching|^preparing|epoch +\d|why|because|score", flags=re.IGNORECASE)


@pytest.fixture
def shell(tmp_path: Path):
    """Runs a command line as a user types it, in a folder with docs/, conf/ and train.py."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in {"kgrec": "-m kgrec.cli ", "python": ""}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words}"$@"\n')
        (programs / name).chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    for name in ("docs", "train.py"):
        (place / name).symlink_to(ROOT / name)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "WANDB_MODE": "disabled", "COLUMNS": "100", "PYTHONWARNINGS": "default",
    }  # fmt: skip

    def run(line: str) -> str:
        done = subprocess.run(
            line, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=place, env=environment, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        assert "Traceback" not in done.stdout
        return done.stdout

    return run


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_tutorial(shell) -> None:
    text = PAGE.read_text(encoding="utf-8")
    write = os.environ.get("KGREC_WRITE_TUTORIAL") == "1"
    for commands, shown in STEP.findall(text):
        printed = "".join(shell(line) for line in commands.splitlines())
        printed = clean(printed)
        if write:
            step = f"```bash\n{commands}```\n\n```text\n"
            text = text.replace(f"{step}{shown}```", f"{step}{shortened(printed)}```", 1)
        else:
            check(commands, shown, printed)
    if write:
        PAGE.write_text(text, encoding="utf-8")


def clean(printed: str) -> str:
    """Output without what differs from run to run: dates in folder names, and seconds."""
    printed = re.sub(r"\d{4}-\d{2}-\d{2}_[\d-]+", "<date and time>", printed)
    printed = re.sub(r"/\S*/place/", "", printed)
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())


def shortened(printed: str) -> str:
    """The output, with the middle of a training left out."""
    lines = printed.splitlines()
    epochs = [i for i, line in enumerate(lines) if re.match(r"epoch +\d", line)]
    if len(epochs) > 4:
        lines[epochs[1] + 1 : epochs[-1]] = ["…"]
    slices = next((i for i, line in enumerate(lines) if "by number of training" in line), None)
    if slices is not None:
        end = next(i for i, line in enumerate(lines) if i > slices and line.startswith("└"))
        lines[slices : end + 1] = ["…"]
    return "\n".join(lines) + "\n"


def check(commands: str, shown: str, printed: str) -> None:
    """Every shown line is printed, in order; numbers of models may differ."""
    lines = iter(printed.splitlines())
    for line in shown.splitlines():
        if line == "…" or OF_A_MODEL.search(line):
            continue
        wanted = re.sub(r"[\d.,]+", "#", line)
        assert any(re.sub(r"[\d.,]+", "#", other) == wanted for other in lines), (
            f"{commands}\nfound no line {line!r} in\n{printed}"
        )
