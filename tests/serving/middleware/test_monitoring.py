"""Metrics and the log of requests."""

import asyncio
import logging
import re

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from kgrec.serving.middleware.monitoring import Monitor, Monitoring


async def user(request: Request) -> Response:
    return PlainTextResponse("a user")


async def broken(request: Request) -> Response:
    raise RuntimeError("a fault")


class KnowsItsRoute:
    """As FastAPI, which notes the route of a request."""

    def __init__(self, app: Starlette) -> None:
        self.app = app

    async def __call__(self, scope, receive, send) -> None:
        for route in self.app.routes:
            if route.matches(scope)[0].value == 2:
                scope["route"] = route
        await self.app(scope, receive, send)


ROUTES = [Route("/users/{id:path}", user), Route("/broken", broken)]


def ask(monitoring: Monitoring, *paths: str, method: str = "GET") -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(app=monitoring, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            for path in paths:
                await http.request(method, path)

    asyncio.run(run())


@pytest.fixture
def monitor() -> Monitor:
    return Monitor()


def monitoring(monitor: Monitor, **options) -> Monitoring:
    return Monitoring(KnowsItsRoute(Starlette(routes=ROUTES)), monitor, ["/broken"], **options)


def values(monitor: Monitor) -> dict[str, float]:
    lines = [line for line in monitor.text().decode().splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines of the server; the client may log, too."""
    return [each.getMessage() for each in caplog.records if each.name == "kgrec.serve"]


def test_requests_are_counted_and_timed_by_pattern(monitor):
    ask(monitoring(monitor), "/users/1", "/users/a/b", "/nope", "/broken")
    found = values(monitor)
    count = 'kgrec_requests_total{{method="GET",path="{}",status="{}"}}'
    assert found[count.format("/users/{id}", 200)] == 2
    assert found[count.format("other", 404)] == 1
    assert found[count.format("/broken", 500)] == 1
    assert found['kgrec_request_seconds_count{path="/users/{id}"}'] == 2
    assert found["kgrec_requests_active"] == 0


def test_a_client_invents_no_labels(monitor):
    ask(monitoring(monitor), "/made/up", method="INVENTED")
    assert not re.search("INVENTED|made", monitor.text().decode())


def test_a_line_for_each_request_without_ids(monitor, caplog):
    with caplog.at_level(logging.INFO, "kgrec.serve"):
        ask(monitoring(monitor), "/users/anna?run=secret", "/nobody/anna")
    first, second = lines(caplog)
    assert re.fullmatch(r"GET /users/\{id\} 200 \d+\.\d ms", first)
    assert re.fullmatch(r"GET \(no such path\) 404 \d+\.\d ms", second)


def test_ids_are_logged_if_wanted_and_cannot_forge_lines(monitor, caplog):
    with caplog.at_level(logging.INFO, "kgrec.serve"):
        ask(monitoring(monitor, log_ids=True), "/users/anna?run=b", "/users/a%0AINFO%20forged")
    first, second = lines(caplog)
    assert first.startswith("GET /users/anna?run=b 200")
    assert "\n" not in second


def test_no_line_if_none_is_wanted(monitor, caplog):
    with caplog.at_level(logging.INFO, "kgrec.serve"):
        ask(monitoring(monitor, log_requests=False), "/users/anna")
    assert lines(caplog) == []


def test_facts_on_runs(monitor):
    monitor.run_loaded("default", "kgcn", 3, 5, 0.25)
    assert values(monitor)['kgrec_run_items{model="kgcn",run="default"}'] == 5
    assert values(monitor)['kgrec_run_load_seconds{run="default"}'] == 0.25


def test_a_swapped_model_is_not_counted_any_more(monitor):
    monitor.run_loaded("default", "kgcn", 3, 5, 0.25)
    monitor.run_loaded("default", "svd", 4, 6, 0.5)
    found = values(monitor)
    assert found['kgrec_run_users{model="kgcn",run="default"}'] == 0
    assert found['kgrec_run_items{model="kgcn",run="default"}'] == 0
    assert found['kgrec_run_users{model="svd",run="default"}'] == 4


def test_files_of_the_page_are_one_path(monitor, caplog):
    app = Starlette(routes=[Mount("/page", Starlette(routes=[Route("/a.js", user)]))])
    with caplog.at_level(logging.INFO, "kgrec.serve"):
        ask(Monitoring(app, monitor), "/page/a.js", "/page/anna")
    found = values(monitor)
    count = 'kgrec_requests_total{{method="GET",path="/page/{{file}}",status="{}"}}'
    assert found[count.format(200)] == found[count.format(404)] == 1
    assert "anna" not in " ".join(lines(caplog)) + monitor.text().decode()
