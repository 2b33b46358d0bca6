"""Servers of serve.py and serve_faults.py: processes, their memory, requests to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
from common import HERE

HOST = "127.0.0.1"
TOKEN = "benchmark"  # of the server under test, which only this machine reaches
START = 180.0  # seconds until a server must answer


class Server:
    """A server in a process of its own.

    Args:
        command: what to run; ``{port}`` is replaced.
        folder: folder of its log.
        first: request that is answered with 200 when the server is ready.
        environment: further variables.
    """

    def __init__(
        self, command: Sequence[str], folder: Path, first: str, environment: dict[str, str]
    ) -> None:
        self.port = free_port()
        self.log = folder / f"server-{self.port}.log"
        self.environment = os.environ | {"PYTHONWARNINGS": "ignore"} | environment
        self.command = [word.replace("{port}", str(self.port)) for word in command]
        self._first = first.encode()

    def __enter__(self) -> Server:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, cwd=HERE.parent,
                env=self.environment,
            )  # fmt: skip
        begin = time.perf_counter()
        while True:
            with contextlib.suppress(OSError):
                if exchange(self.port, self._first)[0] == 200:
                    break
            if self.process.poll() is not None or time.perf_counter() - begin > START:
                self.__exit__()
                raise SystemExit(f"{self.command} does not answer:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.1)
        self.seconds_to_start = time.perf_counter() - begin
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the server and every process that it started."""
        family = self.family()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def family(self) -> list[psutil.Process]:
        """The process and all that it started."""
        try:
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[int]:
        """Numbers of the processes that answer."""
        started = [p for p in self.family()[1:] if "resource_tracker" not in " ".join(p.cmdline())]
        return [process.pid for process in started] or [self.process.pid]

    def megabytes(self) -> float:
        """Resident memory of the process and all that it started."""
        total = 0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total / 1e6

    def cpu_seconds(self) -> float:
        """Seconds of all cores that the process and all that it started have used."""
        total = 0.0
        for process in self.family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += float(times.user + times.system)
        return total


class Memory:
    """Memory of a server over time: (seconds, MB), a row each second, while the block runs."""

    def __init__(self, server: Server) -> None:
        self.rows: list[tuple[float, float]] = []
        self._server, self._ended = server, threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        begin = time.perf_counter()
        while not self._ended.is_set():
            self.rows.append((time.perf_counter() - begin, self._server.megabytes()))
            self._ended.wait(1)

    def slope(self, after: float) -> float:
        """MB an hour by least squares, over the rows after so many seconds."""
        rows = [row for row in self.rows if row[0] >= after]
        mean_t, mean_m = (sum(column) / len(rows) for column in zip(*rows, strict=True))
        above = sum((t - mean_t) * (m - mean_m) for t, m in rows)
        slope: float = 3600 * above / sum((t - mean_t) * (t - mean_t) for t, _ in rows)
        return slope


class Clients:
    """The load generator at work: clients that each send the next request after an answer.

    Args:
        port: port of the server.
        clients: number of clients.
        seconds: seconds that count.
        warm_up: seconds before them.
        requests: whole HTTP requests, drawn at random.
        seed: seed of the draw.
    """

    def __init__(
        self, port: int, clients: int, seconds: float, warm_up: float, requests: Sequence[str],
        seed: int = 1,
    ) -> None:  # fmt: skip
        task = {
            "host": HOST, "port": port, "clients": clients, "seconds": seconds,
            "warm_up": warm_up, "requests": list(requests), "seed": seed,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "serve_load.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(task))
        self.process.stdin.close()
        self.process.stdin = None

    def summary(self) -> dict[str, Any]:
        """What was measured, at the end of the load."""
        output, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise SystemExit("serve_load.py: ended before its time")
        summary: dict[str, Any] = json.loads(output)
        return summary


def free_port() -> int:
    """A port that no program uses."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def http_request(method: str, path: str, body: Any = None, token: str | None = None) -> str:
    """A whole HTTP/1.1 request with a JSON body."""
    text = "" if body is None else json.dumps(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(text)}\r\n"
    if body is not None:
        head += "Content-Type: application/json\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n"
    return f"{head}\r\n{text}"


def exchange(port: int, request: bytes, timeout: float = 60) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to a whole HTTP request.

    Raises:
        OSError: the server cannot be reached, or ends the connection without an answer.
    """
    with socket.create_connection((HOST, port), timeout=timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(request)  # a server may answer before it has read everything
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            return answer.status, dict(answer.getheaders()), answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"found no answer: {error!r}") from error


def kgrec_server(run: Path | str, folder: Path, workers: int, *further: str) -> Server:
    """``kgrec serve`` with a token."""
    command = [
        sys.executable, "-m", "kgrec.cli", "serve", str(run), "--port", "{port}",
        "--workers", str(workers), *further,
    ]  # fmt: skip
    first = http_request("GET", "/ready")
    return Server(command, folder, first, {"KGREC_SERVE_TOKEN": TOKEN})


def plain_server(
    run: Path | str, folder: Path, app: str, server: str, first: str, **further: str
) -> Server:
    """A server of serve_plain.py."""
    task = {"app": app, "server": server, "port": "{port}", "run": str(run)}
    command = [sys.executable, str(HERE / "serve_plain.py"), json.dumps(task)]
    return Server(command, folder, first, further)


@contextlib.contextmanager
def run_folder(run: str | None, toy: bool) -> Iterator[Path]:
    """The folder of a run of KGCN: the given one, or one that is trained here."""
    if run is not None:
        yield Path(run).resolve()
        return
    with tempfile.TemporaryDirectory() as folder:
        data = ["dataset=synthetic", "epochs=2"] if toy else ["dataset=movie-100k"]
        command = [sys.executable, "train.py", *data, "logger=csv", f"hydra.run.dir={folder}/run"]
        done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{command}: {done.stderr[-2000:]}")
        yield Path(folder) / "run"
