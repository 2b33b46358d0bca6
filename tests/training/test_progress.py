"""The progress bar on a terminal: log lines and the bar do not run into each other."""

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
from conftest import ROOT, SMALL

CONTROL = re.compile(r"\x1b\[(\d*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+")


class Screen:
    """A terminal of unlimited height that understands what tqdm writes.

    Attributes:
        shown: every text that a line has had when the cursor left it.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[list[str]] = [[]]
        self.row = self.column = 0
        self.shown: list[str] = []

    def feed(self, output: str) -> None:
        for match in CONTROL.finditer(output):
            text, (count, command) = match[0], match.groups()
            if command == "A":
                self.row = max(0, self.row - int(count or 1))
            elif command == "K":
                del self.lines[self.row][self.column :]
            elif command is not None:
                assert command == "m", f"unknown control {text!r}"
            elif text == "\r":
                self.shown.append(self.line(self.row))
                self.column = 0
            elif text == "\n":
                self.shown.append(self.line(self.row))
                self.down()
            else:
                for character in text:
                    self.put(character)

    def put(self, character: str) -> None:
        if self.column == self.width:
            self.down()
            self.column = 0
        line = self.lines[self.row]
        line.extend(" " * (self.column + 1 - len(line)))
        line[self.column] = character
        self.column += 1

    def down(self) -> None:
        self.row += 1
        if self.row == len(self.lines):
            self.lines.append([])

    def line(self, row: int) -> str:
        return "".join(self.lines[row]).rstrip()

    def text(self) -> list[str]:
        return [self.line(row) for row in range(len(self.lines))]


def in_terminal(command: list[str], width: int, folder: Path) -> str:
    """Runs a command whose output is a terminal; returns what it wrote."""
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.DEVNULL, stdout=inner, stderr=inner,
        env={k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(inner)
    output = b""
    while True:
        try:
            part = os.read(outer, 65_536)
        except OSError:  # the terminal is closed
            break
        if not part:
            break
        output += part
    os.close(outer)
    assert process.wait(timeout=240) == 0, output.decode()
    return output.decode()


@pytest.mark.slow
@pytest.mark.parametrize("width", [60, 80, 120])
def test_log_lines_and_the_bar_do_not_run_into_each_other(width, tmp_path: Path):
    program = [sys.executable, str(ROOT / "train.py"), *SMALL, "epochs=3", "hydra.run.dir=run"]
    screen = Screen(width)
    screen.feed(in_terminal(program, width, tmp_path))
    log = (tmp_path / "run" / "train.log").read_text()
    expected = [line[11:] for line in log.splitlines() if "] epoch " in line]
    assert len(expected) == 3
    lines = screen.text()
    assert [line for line in lines if line.startswith("epoch ")] == expected
    assert not any("%|" in line for line in lines)  # nothing is left of the bar
    bars = [line for line in screen.shown if "%|" in line]
    assert any("100%|" in bar for bar in bars)
    assert any("validation" in bar for bar in bars)
    # As wide as the terminal, less the last column; the bar's line has nothing else.
    bar = re.compile(r"(Training|epoch +\d+(, validation)?) +\d+%\|.*\| \d\d:\d\d<\S+")
    for text in bars:
        assert bar.fullmatch(text), text
        assert len(text) <= width
