"""The server and the browser of the tests of the page.

The imports stand in the fixtures: :mod:`pages` skips the module that imports it where there is no
browser, and a conftest cannot be skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from http_server import Server
    from pages import Visit


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of runs: with weights of relations, without them, and without fold-in."""
    from http_server import running
    from pages import interactions, items

    import kgrec

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
    from browser import CHROMIUM
    from pages import playwright

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
    from pages import Visit

    started = Visit(browser, server)
    yield started
    started.close()
