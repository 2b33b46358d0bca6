"""The ``kgrec`` command in the process of a test."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from kgrec import cli


class Output(NamedTuple):
    """Exit code and what was printed."""

    code: int
    out: str
    err: str


Kgrec = Callable[..., Output]


@pytest.fixture
def kgrec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Kgrec:
    """Runs ``kgrec`` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KGREC_DATA_DIR", raising=False)

    def run(*arguments: str) -> Output:
        monkeypatch.setattr(sys, "argv", ["kgrec", *arguments])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Output(code, *capsys.readouterr())

    return run


def failed(output: Output, message: str) -> None:
    """Checks that a command ended with one error line that has the message."""
    assert output.code == 1
    assert output.out == ""
    assert output.err.count("error: ") == 1, output.err
    assert message in output.err
    assert "Traceback" not in output.err
