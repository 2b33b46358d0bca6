"""Processes of a server: signals, workers, reload."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
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
        assert TOKEN not in " ".join(psutil.Process(server.process.pid).cmdline())
        before = server.text().count("GET /items/{id} 200 ")
        httpx.get(f"{server.url}/items/item1?run=default", headers=BEARER)
        assert server.stop() == 0
        assert server.text().count("GET /items/{id} 200 ") == before + 1  # one line of one log
        assert "item1" not in server.text()
        assert TOKEN not in server.text()
        assert "Traceback" not in server.text()
        assert re.search(r"POST /recommend 401 \d", server.text())
        assert "user3" not in server.text()


def _half_open_connections(server: Server, number: int = 200) -> None:
    """Connections that say nothing, or half a head, stop nobody."""
    with _connections(server, number) as idle:
        for each in idle[::2]:
            each.sendall(b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-")
        answer = httpx.post(f"{server.url}/recommend", json=BODY, headers=BEARER)
        assert answer.status_code == 200


@contextlib.contextmanager
def _connections(server: Server, number: int) -> Iterator[list[socket.socket]]:
    host, port = server.url.removeprefix("http://").split(":")
    with contextlib.ExitStack() as opened:
        yield [
            opened.enter_context(socket.create_connection((host, int(port)), 30))
            for _ in range(number)
        ]


@pytest.mark.slow
def test_slow_and_large_clients_stop_nobody(link, tmp_path):
    """Thousands of half-open connections, slow bodies, and bodies of 100 MB."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    words = ("--timeout-s", "3", "--max-concurrent", "4")
    with serving(tmp_path, str(link), *words) as server:
        _half_open_connections(server, min(3000, soft - 200))
        with _connections(server, 100) as slow:
            for each in slow:
                each.sendall(_head("/recommend", 100) + b"{")
            for _ in range(5):
                assert httpx.post(f"{server.url}/recommend", json=BODY).status_code == 200
                time.sleep(0.1)
            assert slow[0].recv(4096).startswith(b"HTTP/1.1 408 ")
        pieces = (b"x" * 2**16 for _ in range(1600))
        for content in (b"x" * 100_000_000, pieces):
            assert httpx.post(f"{server.url}/recommend", content=content).status_code == 413
        assert next(pieces, None) is not None  # it was not read whole
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def _head(path: str, length: int) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode()


@pytest.mark.slow
def test_a_server_with_few_open_files_recovers(link, tmp_path):
    with serving(tmp_path, str(link)) as server:
        psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE, (100, 100))
        with _connections(server, 200):
            time.sleep(2)
            until(lambda: _alive(server), 60)  # connections without a head are closed in time
        assert server.stop() == 0
        assert len(server.text()) < 100_000


def _alive(server: Server) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{server.url}/health", timeout=2).status_code == 200
    return False


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_accepted_requests_are_answered_at_a_stop(workers, link, tmp_path):
    body = json.dumps(BODY).encode()
    with serving(tmp_path, str(link), "--workers", str(workers)) as server:
        with _connections(server, 20) as clients:
            for client in clients:
                client.sendall(_head("/recommend", len(body)) + body[:5])
            time.sleep(1)  # they are accepted
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            time.sleep(1)
            with pytest.raises(ConnectionRefusedError):  # nobody waits for a server that stops
                _connections(server, 1).__enter__()
            for client in clients:
                client.sendall(body[5:])
            answers = [client.recv(2**16) for client in clients]
            assert {answer.split(b"\r\n")[0] for answer in answers} == {b"HTTP/1.1 200 OK"}
        assert server.process.wait(30) == 0
        assert time.monotonic() - start < 20
        assert "Traceback" not in server.text()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux only")
def test_a_hangup_during_the_start_waits(link, tmp_path):
    def hang_up(process: subprocess.Popen[bytes]) -> None:
        def held() -> bool:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return bool(int(re.search(r"SigBlk:\s*(\w+)", status)[1], 16) & 1)

        until(held)
        process.send_signal(signal.SIGHUP)

    with serving(tmp_path, str(link), started=hang_up) as server:
        until(lambda: server.text().count("loaded in") == 2)
        assert model(server) == "svd"
        assert server.stop() == 0


@pytest.mark.slow
def test_two_workers(link, trained, tmp_path):
    with serving(tmp_path, str(link), "--workers", "2", token=TOKEN) as server:
        workers = until(lambda: _workers(server) if len(_workers(server)) == 2 else None)
        assert not any(TOKEN in word for worker in workers for word in worker.cmdline())
        with Load(server.url, BEARER, clients=8) as load:
            point(link, trained("model=popularity"))
            httpx.post(f"{server.url}/admin/reload", headers=BEARER, timeout=60)
            until(lambda: _models(server) == {"popularity"})
            point(link, trained("model=svd"))
            os.kill(server.process.pid, signal.SIGHUP)
            until(lambda: _models(server) == {"svd"})
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
        assert "kgrec_requests_active 1.0" in metrics  # this one: none of the dead worker
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def _models(server: Server) -> set[str]:
    """The models that answer; each answer is of some worker."""
    return {model(server) for _ in range(20)}


@pytest.mark.slow
def test_the_others_serve_while_a_worker_cannot_start(link, trained, tmp_path):
    with serving(tmp_path, str(link), "--workers", "2") as server:
        workers = until(lambda: _workers(server) if len(_workers(server)) == 2 else None)
        until(lambda: server.text().count("loaded in") == 2)
        point(link, _damaged(trained, tmp_path))
        os.kill(server.process.pid, signal.SIGHUP)
        until(lambda: server.text().count("is not loaded anew") == 2)
        workers[0].kill()
        until(lambda: "cannot start" in server.text(), 60)
        assert _models(server) == {"svd"}
        starts = server.text().count("cannot start")
        time.sleep(3)
        assert server.text().count("cannot start") <= starts + 1  # not again and again
        point(link, trained("model=svd"))
        pids = until(lambda: {each.pid for each in _serving_workers(server)}, 60)
        assert workers[0].pid not in pids
        assert server.stop() == 0
        assert "Traceback" not in server.text()


def _serving_workers(server: Server) -> list[psutil.Process]:
    """Both workers, once each has answered; the access log has their numbers."""
    httpx.get(f"{server.url}/health")
    pids = set(re.findall(r"(?m)^\S+ \S+ (\d+) INFO GET /health 200", server.text()))
    found = _workers(server)
    return found if len(found) == 2 and {str(each.pid) for each in found} <= pids else []


@pytest.mark.slow
def test_no_worker_outlives_the_supervisor(link, tmp_path):
    with serving(tmp_path, str(link), "--workers", "2") as server:
        workers = until(lambda: _workers(server) if len(_workers(server)) == 2 else None)
        until(lambda: server.text().count("loaded in") == 2)
        server.process.kill()
        _, alive = psutil.wait_procs(workers, 30)
        for each in alive:
            each.kill()
        assert alive == []


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
    damaged = _damaged(trained, tmp_path)
    with (
        pytest.raises(AssertionError, match=r"error: .*best\.ckpt"),
        serving(tmp_path, str(damaged), "--workers", "2"),
    ):
        pass
    text = (tmp_path / "serve.log").read_text()
    assert "Traceback" not in text
    assert text.count("best.ckpt") == 1


def _damaged(trained: Trained, tmp_path: Path) -> Path:
    """A run that cannot be loaded."""
    damaged = tmp_path / "damaged"
    shutil.copytree(trained("model=svd"), damaged)
    (damaged / "checkpoints" / "best.ckpt").write_bytes(b"no checkpoint")
    return damaged
