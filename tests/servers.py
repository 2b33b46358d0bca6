"""Servers in processes of their own, for tests."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 120


class Server:
    """A running ``kgrec serve``.

    Attributes:
        process: its first process.
        url: its address.
        log: file with its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path) -> None:
        self.process, self.url, self.log = process, url, log

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text(encoding="utf-8")

    def stop(self, number: int = signal.SIGTERM, seconds: float = 60) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextlib.contextmanager
def serving(
    folder: Path,
    *words: str,
    token: str | None = None,
    started: Callable[[subprocess.Popen[bytes]], None] = lambda process: None,
) -> Iterator[Server]:
    """Starts ``kgrec serve`` on a free port, waits until it is ready, and stops it.

    ``started`` is called with the process at once.
    """
    log = folder / "serve.log"
    environment = {k: v for k, v in os.environ.items() if k != "KGREC_SERVE_TOKEN"}
    if token is not None:
        environment["KGREC_SERVE_TOKEN"] = token
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "kgrec.cli", "serve", *words, "--port", "0"],
            stdout=out, stderr=out, env=environment, cwd=folder,
        )  # fmt: skip
    try:
        started(process)
        server = Server(process, "", log)
        server.url = until(lambda: _address(server), START_SECONDS)
        until(lambda: _ready(server), START_SECONDS)
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def until(value_of: Callable[[], Any], seconds: float = 30) -> Any:
    """The first true value of a function that is called again and again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := value_of():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def _address(server: Server) -> str | None:
    assert server.process.poll() is None, server.text()
    found = re.search(r"serving on (\S+)", server.text())
    return found[1] if found else None


def _ready(server: Server) -> bool:
    assert server.process.poll() is None, server.text()
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/ready", timeout=2).status_code == 200
    return False
