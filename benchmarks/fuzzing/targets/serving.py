"""The paths of the server: bodies, paths and queries of requests."""

from __future__ import annotations

import asyncio
import json
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from fuzzing.mutations import Files
from fuzzing.target import Target
from fuzzing.targets.runs import train
from kgrec.serving.errors import RequestError

BODIES: dict[str, dict[str, Any]] = {
    "/recommend": {
        "users": ["user0", "user1"], "k": 3, "exclude_seen": True, "why": True,
        "histories": {"ann": ["item1", "item2"]}, "seen": {"user0": ["item3"]},
        "candidates": ["item4", "item5", "item6"],
    },
    "/score": {"users": ["user0"], "items": ["item1", "item2"]},
    "/similar": {"item": "item1", "k": 2, "candidates": ["item2", "item3"]},
    "/explain": {"user": "user0", "item": "item1", "top": 3},
    "/users?search=user&limit=3": {},
    "/items/item1?run=x": {},
}  # fmt: skip
ERRORS = (400, 401, 403, 404, 405, 413, 415, 422)


@dataclass
class _Server:
    """The application in this process, started."""

    loop: asyncio.AbstractEventLoop
    lifespan: AbstractAsyncContextManager[Any]
    client: httpx.AsyncClient


_servers: list[_Server] = []


def _begin(materials: Path) -> None:
    if _servers:
        return
    from kgrec.serving.app import create_app
    from kgrec.serving.settings import ServeSettings

    app: FastAPI = create_app(ServeSettings(runs=(str(train(materials)),), log_requests=False))
    loop = asyncio.new_event_loop()
    lifespan = app.router.lifespan_context(app)
    loop.run_until_complete(lifespan.__aenter__())
    transport = httpx.ASGITransport(app)
    client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000")
    _servers.append(_Server(loop, lifespan, client))


@cache
def _requests(_: Path) -> list[Files]:
    return [
        {"path.words": path.encode(), "body.json": json.dumps(body).encode()}
        for path, body in BODIES.items()
    ]


def answer(folder: Path) -> Any:
    """Sends a request and returns the answer; refused requests raise RequestError."""
    path = folder / "path.words"
    words = path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else ""
    place = words if words.startswith("/") else f"/{words}"
    try:
        url = httpx.URL("http://127.0.0.1:8000" + place)
    except (httpx.InvalidURL, UnicodeError):
        return None
    server = _servers[0]
    if (body := folder / "body.json").is_file() and body.stat().st_size > 2:
        request = server.client.post(
            url, content=body.read_bytes(), headers={"content-type": "application/json"}
        )
    else:
        request = server.client.get(url)
    response = server.loop.run_until_complete(request)
    if response.status_code == 200:
        return response.content if "json" in response.headers["content-type"] else None
    assert response.status_code in ERRORS, f"status {response.status_code}: {response.text[:200]}"
    content = response.json()
    assert set(content) == {"error"}, f"another form of error: {content}"
    raise RequestError(content["error"])


TARGETS = [
    Target("requests", _requests, answer, share=1, names_folder=False, begin=_begin),
]
