"""Transfers from a local server that misbehaves: each ends soon, in one line."""

from __future__ import annotations

import shutil
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kgrec.data.sources import transfer
from kgrec.data.sources.transfer import DownloadError, fetch
from kgrec.errors import DiskError

Send = Callable[[bytes], None]
Behaviour = Callable[[Send, "Server"], None]
BODY = b"0\tgenre\t7\n" * 2000
SECONDS = 5.0  # a test that takes longer has failed


def head(length: object = len(BODY), status: str = "200 OK", *lines: str) -> bytes:
    fields = [f"HTTP/1.1 {status}", f"Content-Length: {length}", "Connection: close", *lines]
    return ("\r\n".join(fields) + "\r\n\r\n").encode()


def whole(send: Send, _: Server) -> None:
    send(head() + BODY)


def without_a_length(send: Send, _: Server) -> None:
    send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + BODY)


def more_than_declared(send: Send, _: Server) -> None:
    send(head() + BODY + b"and more")


def odd_length(send: Send, _: Server) -> None:
    send(head("a lot") + BODY)


def breaks_once(send: Send, server: Server) -> None:
    send(head() + (BODY if server.requests["/breaks_once"] > 1 else BODY[:99]))


def fails_once(send: Send, server: Server) -> None:
    again = server.requests["/fails_once"] > 1
    send(head() + BODY if again else head(0, "503 Busy"))


def breaks(send: Send, _: Server) -> None:
    send(head() + BODY[:99])


def endless(send: Send, _: Server) -> None:
    send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        send(BODY)


def endless_chunks(send: Send, _: Server) -> None:
    send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        send(f"{len(BODY):x}\r\n".encode() + BODY + b"\r\n")


def declares_too_much(send: Send, _: Server) -> None:
    send(head(10**15))


def digits_without_end(send: Send, _: Server) -> None:
    send(head("9" * 5000))


def page(send: Send, _: Server) -> None:
    send(head(40) + b"\n<!DOCTYPE html><title>Log in</title>     ")


def missing(send: Send, _: Server) -> None:
    send(head(0, "404 Not Found"))


def failing(send: Send, _: Server) -> None:
    send(head(0, "500 Oh"))


def loop(send: Send, _: Server) -> None:
    send(head(0, "302 Found", "Location: /loop"))


def to_a_file(send: Send, _: Server) -> None:
    send(head(0, "302 Found", "Location: file:///etc/passwd"))


def trickle(send: Send, _: Server) -> None:
    send(head())
    while True:
        send(b"x")
        time.sleep(0.05)


def trickle_of_headers(send: Send, _: Server) -> None:
    send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        send(b"x")
        time.sleep(0.05)


def silence(send: Send, server: Server) -> None:
    server.stopped.wait(SECONDS)


def no_http(send: Send, _: Server) -> None:
    send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


class Server:
    """Answers ``/NAME`` as the function NAME does."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.stopped = threading.Event()
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                path = self.rfile.readline().split()[1].decode()
                while self.rfile.readline().strip():
                    pass
                outer.requests[path] += 1
                self.end = time.monotonic() + SECONDS
                try:
                    globals()[path[1:]](self.send, outer)
                except OSError:  # the client has left
                    return

            def send(self, content: bytes) -> None:
                if outer.stopped.is_set() or time.monotonic() > self.end:
                    raise OSError("the test is over")
                self.wfile.write(content)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        poll = {"poll_interval": 0.02}
        threading.Thread(target=self.server.serve_forever, kwargs=poll, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def url(self, behaviour: Behaviour) -> str:
        return f"{self.address}/{behaviour.__name__}"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stopped.set()
    started.server.shutdown()
    started.server.server_close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A window of half a second; no test may take long."""
    monkeypatch.setattr(transfer, "WINDOW", 0.5)
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize(
    "behaviour",
    [whole, without_a_length, more_than_declared, odd_length, breaks_once, fails_once],
)
def test_the_whole_file_arrives(behaviour: Behaviour, server: Server, tmp_path: Path) -> None:
    fetch(server.url(behaviour), tmp_path / "kg.txt", len(BODY))
    assert (tmp_path / "kg.txt").read_bytes() == BODY


@pytest.mark.parametrize(
    ("behaviour", "message", "requests"),
    [
        (breaks, "broke|broken", 2),
        (endless, r"found 1,0\d\d,\d+ bytes or more, expected at most 1,000,000", 1),
        (endless_chunks, r"found 1,0\d\d,\d+ bytes or more, expected at most 1,000,000", 1),
        (declares_too_much, "found 1,000,000,000,000,000 bytes or more, expected at most", 1),
        (digits_without_end, "bytes or more, expected at most", 1),
        (page, r"found an HTML page, expected kg\.txt", 1),
        (missing, "found status 404, expected 200", 1),
        (failing, "found status 500, expected 200", 2),
        (loop, r"redirects|found 0 bytes in 0\.5 s", 1),
        (to_a_file, "No connection adapters", 1),
        (trickle, r"found \d+ bytes in 0\.5 s, expected at least 1,024 a second|timed out", 1),
        (trickle_of_headers, r"found 0 bytes in 0\.5 s|timed out", 1),
        (silence, r"found 0 bytes in 0\.5 s|timed out", None),
        (no_http, "SSH-2", 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_server_is_one_line(
    behaviour: Behaviour, message: str, requests: int | None, server: Server, tmp_path: Path
) -> None:
    server.requests.clear()
    with pytest.raises(DownloadError, match=message) as caught:
        fetch(server.url(behaviour), tmp_path / "kg.txt", 1_000_000)
    assert str(caught.value).startswith(server.url(behaviour))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    if behaviour is not loop:
        assert server.requests[f"/{behaviour.__name__}"] == requests or requests is None


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "nonsense", "http://[::1", ""]
)
def test_a_bad_address_is_one_line(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        fetch(url, tmp_path / "kg.txt", 1000)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_fit_on_the_disk_is_not_begun(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskError, match=r"kg\.txt: found 1,000 bytes free, expected 20,000 bytes"):
        fetch(server.url(whole), tmp_path / "kg.txt", len(BODY))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"kg\.txt: found no folder .*none, expected one"):
        fetch(server.url(without_a_length), tmp_path / "none" / "kg.txt", len(BODY))
