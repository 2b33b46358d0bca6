"""Processes of a server: signals, workers, reload."""

import contextlib
import os
import re
import shutil
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from conftest import Trained
from servers import Server, serving, until

BODY = {"users": ["user3"], "k": 3}
TOKEN = "a-secret-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Load(threading.Thread):
    """Clients that ask without a pause, each on a connection of its own."""

    def __init__(self, url: str, headers: dict[str, str] | None = None, clients: int = 4) -> None:
        super().__init__()
        self.url, self.headers, self.ended = url, headers or {}, threading.Event()
        self.statuses: list[int] = []
        self.faults: list[str] = []
        self.clients = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        while not self.ended.is_set():
            try:
                with httpx.Client(base_url=self.url, headers=self.headers, timeout=30) as http:
                    while not self.ended.is_set():
                        self.statuses.append(http.post("/recommend", json=BODY).status_code)
            except httpx.TransportError as fault:
                self.faults.append(repr(fault))
                time.sleep(0.02)

    def __enter__(self) -> "Load":
        for client in self.clients:
            client.start()
        until(lambda: len(self.statuses) > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for client in self.clients:
            client.join()

    def go_on(self, answers: int = 20) -> None:
        """Waits for further answers."""
        before = len(self.statuses)
        until(lambda: len(self.statuses) > before + answers)


@pytest.fixture
def link(trained: Trained, tmp_path: Path) -> Path:
    """A link to a run, as a team would swap it."""
    trained("model=popularity")  # now: a training sets the log up, which the clients use
    place = tmp_path / "current"
    place.symlink_to(trained("model=svd"))
    return place


def point(link: Path, target: Path) -> None:
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def model(server: Server) -> str:
    return httpx.get(f"{server.url}/runs", headers=BEARER).json()["runs"][0]["model"]


def test_one_process_from_start_to_stop(link, trained, tmp_path):
    with serving(tmp_path, str(link), token=TOKEN) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert httpx.post(f"{server.url}/recommend", json=BODY).status_code == 401
        with Load(server.url, BEARER) as load:
            assert model(server) == "svd"
            point(link, trained("model=popularity"))
            answer = httpx.post(f"{server.url}/admin/reload", headers=BEARER, timeout=60)
            assert answer.json()["runs"][0]["loaded"] is True
            assert model(server) == "popularity"
            point(link, trained("model=svd"))
            os.kill(server.process.pid, signal.SIGHUP)
            until(lambda: model(server) == "svd")
            point(link, tmp_path / "nowhere")
            answer = httpx.post(f"{server.url}/admin/reload", headers=BEARER, timeout=60)
            assert "found no such folder" in answer.json()["runs"][0]["error"]
            assert model(server) == "svd"
            load.go_on()
        assert set(load.statuses) == {200}
        assert load.faults == []
        _half_open_connections(server)
        assert server.stop() == 0
        assert TOKEN not in server.text()
        assert "Traceback" not in server.text()
        assert re.search(r"POST /recommend 401 \d", server.text())
        assert "user3" not in server.text()


def _half_open_connections(server: Server) -> None:
    """Connections that say nothing, or half a head, stop nobody."""
    host, port = server.url.removeprefix("http://").split(":")
    idle = [socket.create_connection((host, int(port))) for _ in range(200)]
    for each in idle[::2]:
        each.sendall(b"POST /recommend HTTP/1.1\r\nHost: a\r\nContent-")
    answer = httpx.post(f"{server.url}/recommend", json=BODY, headers=BEARER)
    assert answer.status_code == 200
    for each in idle:
        each.close()
    with socket.create_connection((host, int(port))) as endless:
        endless.settimeout(10)
        with contextlib.suppress(ConnectionError):  # closed while it sends
            endless.sendall(b"POST / HTTP/1.1\r\n" + b"a: b\r\n" * 100_000)
            assert endless.recv(1) == b""


@pytest.mark.slow
def test_accepted_requests_are_answered_at_a_stop(link, tmp_path):
    with serving(tmp_path, str(link)) as server, Load(server.url, clients=8) as load:
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        load.ended.set()
    assert set(load.statuses) == {200}
    # What was not accepted any more is refused a connection; an accepted request never breaks.
    assert [fault for fault in load.faults if "ConnectError" not in fault
            and "disconnected without sending" not in fault] == []  # fmt: skip


@pytest.mark.slow
def test_two_workers(link, trained, tmp_path):
    with serving(tmp_path, str(link), "--workers", "2", token=TOKEN) as server:
        workers = until(lambda: _workers(server) if len(_workers(server)) == 2 else None)
        with Load(server.url, BEARER, clients=8) as load:
            point(link, trained("model=popularity"))
            httpx.post(f"{server.url}/admin/reload", headers=BEARER, timeout=60)
            # Each answer is of some worker; many in a row of the new run mean that both have it.
            until(lambda: {model(server) for _ in range(20)} == {"popularity"})
            assert {each.pid for each in _workers(server)} == {each.pid for each in workers}
            assert load.faults == []
            workers[0].kill()
            until(lambda: len(_workers(server)) == 2 and not workers[0].is_running(), 60)
            load.go_on(100)
        assert set(load.statuses) == {200}
        assert len(load.faults) <= 8  # those in the hands of the killed worker
        metrics = httpx.get(f"{server.url}/metrics", headers=BEARER).text
        counted = re.search(r'requests_total\{.*path="/recommend",status="200"\} (\S+)', metrics)
        assert float(counted[1]) >= len(load.statuses) - len(load.faults)
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def _workers(server: Server) -> list[psutil.Process]:
    """The processes that serve; the other child watches shared resources."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_server(trained, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(trained("model=svd"), damaged)
    (damaged / "checkpoints" / "best.ckpt").write_bytes(b"no checkpoint")
    with (
        pytest.raises(AssertionError, match="error: --workers: found one that cannot start"),
        serving(tmp_path, str(damaged), "--workers", "2"),
    ):
        pass
    text = (tmp_path / "serve.log").read_text()
    assert "Traceback" not in text
    assert "best.ckpt" in text
