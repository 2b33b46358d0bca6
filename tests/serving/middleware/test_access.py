"""Access by a token."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from kgrec.errors import ConfigError
from kgrec.serving.app import create_app
from kgrec.serving.middleware.access import VARIABLE, OwnHost, Token, TokenAccess
from kgrec.serving.settings import ServeSettings


async def there(request: Request) -> Response:
    return PlainTextResponse("there")


PATHS = ("/", "/page/page.js", "/health", "/ready", "/runs", "/metrics", "/admin/reload")
APP = Starlette(routes=[Route(path, there) for path in PATHS])


def statuses(secret: str | None, headers: dict[str, str | bytes]) -> dict[str, int]:
    async def run() -> dict[str, int]:
        token = Token(secret.encode()) if secret else None
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
        {"authorization": "Bearersecret"},
        {"authorization": b"Bearer s\xe9cret"},
        {"authorization": "Basic secret"},
    ],
)
def test_without_the_token_only_the_page_and_the_state_are_open(headers):
    open_paths = {path for path, status in statuses("secret", headers).items() if status == 200}
    assert open_paths == {"/", "/page/page.js", "/health", "/ready"}
    assert {s for s in statuses("secret", headers).values() if s != 200} == {401}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_with_the_token_everything_is_open(scheme):
    assert set(statuses("secret", {"authorization": f"{scheme} secret"}).values()) == {200}


def test_a_server_without_a_token_has_no_administration():
    found = statuses(None, {"authorization": "Bearer "})
    assert found.pop("/admin/reload") == 403
    assert set(found.values()) == {200}


OWN_HOSTS = ("127.0.0.1:8000", "localhost", "LocalHost:80", "[::1]:8000", "[::1]", "10.0.0.3")
OTHER_HOSTS = ("evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io",
               "", "[", ":80")  # fmt: skip


@pytest.mark.parametrize("host", OWN_HOSTS + OTHER_HOSTS)
def test_a_page_whose_name_leads_to_this_machine_gets_no_answer(host):
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=OwnHost(APP))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as http:
            return await http.get("/runs", headers={"host": host})

    answer = asyncio.run(run())
    assert answer.status_code == (200 if host in OWN_HOSTS else 403), answer.text
    if host in OTHER_HOSTS:
        assert answer.json()["error"].startswith(f"Host: found {host!r}, expected localhost")


@pytest.mark.parametrize(
    ("host", "token", "checked"),
    [("127.0.0.1", "", True), ("::1", "", True), ("localhost", "", True),
     ("0.0.0.0", "", False), ("shop.example", "", False), ("127.0.0.1", "secret", False)],
)  # fmt: skip
def test_hosts_are_checked_where_nothing_else_protects(host, token, checked, monkeypatch):
    monkeypatch.setenv(VARIABLE, token)
    app = create_app(ServeSettings(("run",), host=host))
    assert any(each.cls is OwnHost for each in app.user_middleware) is checked


def test_no_text_shows_the_token(monkeypatch):
    monkeypatch.setenv(VARIABLE, "a-secret-token")
    app = create_app(ServeSettings(("run",)))
    app.build_middleware_stack()
    assert any(each.cls is TokenAccess and each.kwargs["token"] for each in app.user_middleware)
    assert "a-secret-token" not in repr(app.user_middleware)
    assert "a-secret-token" not in ServeSettings(("run",)).to_json()


@pytest.mark.parametrize("secret", ["two words", "line\nbreak", "é", " "])
def test_a_token_that_no_header_can_hold_is_refused(secret, monkeypatch):
    monkeypatch.setenv(VARIABLE, secret)
    with pytest.raises(ConfigError, match=f"{VARIABLE}: found other characters"):
        Token.from_environment()


def test_an_empty_token_is_none(monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    assert Token.from_environment() is None
