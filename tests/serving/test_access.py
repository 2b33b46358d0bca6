"""Access by a token."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kgrec.serving.access import TokenAccess


async def there(request: Request) -> Response:
    return PlainTextResponse("there")


PATHS = ("/", "/page/page.js", "/health", "/ready", "/runs", "/metrics", "/admin/reload")
APP = Starlette(routes=[Route(path, there) for path in PATHS])


def statuses(token: str | None, headers: dict[str, str]) -> dict[str, int]:
    async def run() -> dict[str, int]:
        transport = httpx.ASGITransport(app=TokenAccess(APP, token))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            answers = {path: await http.get(path, headers=headers) for path in PATHS}
        for answer in answers.values():
            if answer.status_code == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "secret" not in answer.text
        return {path: answer.status_code for path, answer in answers.items()}

    return asyncio.run(run())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "secret"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer secre"},
        {"authorization": "Bearer secret2"},
        {"authorization": "bearer secret"},
        {"authorization": "Basic secret"},
    ],
)
def test_without_the_token_only_the_page_and_the_state_are_open(headers):
    open_paths = {path for path, status in statuses("secret", headers).items() if status == 200}
    assert open_paths == {"/", "/page/page.js", "/health", "/ready"}
    assert {s for s in statuses("secret", headers).values() if s != 200} == {401}


def test_with_the_token_everything_is_open():
    assert set(statuses("secret", {"authorization": "Bearer secret"}).values()) == {200}


@pytest.mark.parametrize("token", [None, ""])
def test_a_server_without_a_token_has_no_administration(token):
    found = statuses(token, {"authorization": "Bearer "})
    assert found.pop("/admin/reload") == 403
    assert set(found.values()) == {200}
