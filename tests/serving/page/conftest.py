"""The server and the browser of the tests of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from browser import CHROMIUM
from http_server import Server, running
from pages import Visit, interactions, items, playwright

import kgrec


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of runs: with weights of relations, without them, and without fold-in."""
    place = tmp_path_factory.mktemp("page")
    models = {
        "kgcn": ["model.H=2", "model.K=4"], "lightgcn": [], "popularity_balance": [],
    }  # fmt: skip
    for model, settings in models.items():
        kgrec.fit(
            interactions(), items(), model=model, folder=place / model, quiet=True,
            overrides=["epochs=2", "logger=csv", *settings],
        )  # fmt: skip
    with running(*(f"{model}={place / model}" for model in models)) as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-quic", "--disable-background-networking",
                  "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
        )  # fmt: skip
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Visit]:
    started = Visit(browser, server)
    yield started
    started.close()
