"""A server in a thread of this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from conftest import Trained

from kgrec.inference.loaded_model import LoadedModel
from kgrec.serving.app import create_app
from kgrec.serving.middleware.access import VARIABLE
from kgrec.serving.settings import ServeSettings
from kgrec.serving.state import Serving

WAIT = 60.0  # seconds for a server that starts or stops


class Server:
    """A running server and a client of it."""

    def __init__(self, settings: ServeSettings) -> None:
        self.app = create_app(settings)
        self.serving: Serving = self.app.state.serving
        config = uvicorn.Config(self.app, port=0, log_config=None, ws="none")
        self.uvicorn = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.uvicorn.run)
        self.thread.start()
        deadline = time.monotonic() + WAIT
        while not self.uvicorn.started:
            assert self.thread.is_alive(), "the server could not start"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        port = self.uvicorn.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        token = os.environ.get(VARIABLE)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=self.address, timeout=WAIT, headers=headers)

    def stop(self) -> None:
        self.client.close()
        self.uvicorn.should_exit = True
        self.thread.join(WAIT)
        assert not self.thread.is_alive()

    @property
    def rec(self) -> LoadedModel:
        return self.serving.runs.get(None).rec

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def ok(self, path: str, **body: Any) -> dict[str, Any]:
        """The answer to a request that must succeed."""
        response = self.post(path, **body) if body else self.client.get(path)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def error(self, path: str, status: int, **body: Any) -> str:
        """The message of a request that must fail."""
        response = self.post(path, **body) if body else self.client.get(path)
        assert response.status_code == status, response.text
        assert set(response.json()) == {"error"}
        message: str = response.json()["error"]
        return message


Serve = Callable[..., Server]


@contextmanager
def running(*runs: str | Path, **settings: Any) -> Iterator[Server]:
    server = Server(ServeSettings(runs=tuple(map(str, runs)), **settings))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def kgcn(trained: Trained) -> Path:
    return trained("model=kgcn")


@pytest.fixture(scope="module")
def server(kgcn: Path) -> Iterator[Server]:
    """A server of a KGCN; tests do not change it."""
    with running(kgcn) as started:
        yield started
