"""Limits of requests."""

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kgrec.serving.middleware.limits import MOST_BODIES, BodyLimit, ConcurrencyLimit, TimeLimit


def client(app) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://server")


async def length(request: Request) -> Response:
    return JSONResponse(len(await request.body()))


ECHO = Starlette(routes=[Route("/", length, methods=["POST"])])


def test_a_body_within_the_limit_arrives_whole():
    async def run() -> None:
        async with client(BodyLimit(ECHO, 10, 1)) as http:
            assert (await http.post("/", content=b"x" * 10)).json() == 10
            assert (await http.post("/", content=parts(b"12345", b"67890"))).json() == 10
            assert (await http.post("/")).json() == 0

    asyncio.run(run())


async def parts(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def test_a_larger_body_is_refused_with_and_without_a_length():
    async def run() -> None:
        async with client(BodyLimit(ECHO, 10, 1)) as http:
            for content in (b"x" * 11, parts(b"123456", b"123456")):
                answer = await http.post("/", content=content)
                assert answer.status_code == 413
                assert answer.json() == {
                    "error": "body: found more than 10 bytes, expected at most so many"
                }
                assert answer.headers["connection"] == "close"

    asyncio.run(run())


def called(app, headers, messages) -> tuple[list, int]:
    """What an app sends, and how many messages of the body it has read."""
    sent, read = [], 0

    async def receive():
        nonlocal read
        read += 1
        return messages.pop(0) if messages else await asyncio.sleep(60)

    async def send(message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": headers, "query_string": b""}
    asyncio.run(app(scope, receive, send))
    return sent, read


def test_a_body_whose_length_is_too_large_is_not_read():
    sent, read = called(BodyLimit(ECHO, 10, 1), [(b"content-length", b"100000000")], [])
    assert sent[0]["status"] == 413
    assert read == 0


def test_a_body_that_grows_too_large_is_not_read_to_its_end():
    pieces = [{"type": "http.request", "body": b"12345", "more_body": True} for _ in range(100)]
    sent, read = called(BodyLimit(ECHO, 10, 1), [], pieces)
    assert sent[0]["status"] == 413
    assert read == 3


def test_a_body_that_does_not_arrive_is_refused():
    first = [{"type": "http.request", "body": b"1", "more_body": True}]
    sent, _ = called(BodyLimit(ECHO, 10, 0.05), [], first)
    assert sent[0]["status"] == 408
    assert "found it incomplete after 0.05 s" in json.loads(sent[1]["body"])["error"]


def test_slow_bodies_together_have_a_limit():
    async def run() -> None:
        arrived = [asyncio.Event() for _ in range(MOST_BODIES)]
        ends = asyncio.Event()

        async def slow(event: asyncio.Event) -> AsyncIterator[bytes]:
            yield b"x" * 10
            event.set()
            await ends.wait()

        limit = BodyLimit(ECHO, 10, 5)
        async with client(limit) as http:
            requests = [asyncio.create_task(http.post("/", content=slow(e))) for e in arrived]
            await asyncio.gather(*(event.wait() for event in arrived))
            refused = await http.post("/", content=parts(b"1", b"2"))
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert (await http.post("/")).json() == 0  # a body that arrives at once
            ends.set()
            assert {answer.status_code for answer in await asyncio.gather(*requests)} == {200}
            assert (await http.post("/", content=parts(b"1", b"2"))).json() == 2
        assert limit.arriving == 0

    asyncio.run(run())


def test_a_client_that_goes_gets_no_answer():
    sent, _ = called(BodyLimit(ECHO, 10, 1), [], [{"type": "http.disconnect"}])
    assert sent == []


def test_more_requests_than_places_are_refused_and_places_are_given_back():
    async def run() -> None:
        free, started = asyncio.Event(), asyncio.Event()

        async def wait(request: Request) -> Response:
            started.set()
            await free.wait()
            return JSONResponse("done")

        async def broken(request: Request) -> Response:
            raise RuntimeError("a fault")

        async def alive(request: Request) -> Response:
            return JSONResponse("alive")

        paths = {"/wait": wait, "/broken": broken, "/health": alive}
        limit = ConcurrencyLimit(Starlette(routes=[Route(*pair) for pair in paths.items()]), 1)
        async with client(limit) as http:
            first = asyncio.create_task(http.get("/wait"))
            await started.wait()
            refused = await http.get("/wait")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "1"
            assert "found 1 requests at work" in refused.json()["error"]
            assert (await http.get("/health")).status_code == 200
            free.set()
            assert (await first).status_code == 200
            with pytest.raises(RuntimeError, match="a fault"):
                await http.get("/broken")
            assert (await http.get("/wait")).status_code == 200
        assert limit.active == 0

    asyncio.run(run())


def test_a_slow_answer_is_refused():
    async def slow(request: Request) -> Response:
        await asyncio.sleep(60)
        return JSONResponse("done")

    async def reload(request: Request) -> Response:
        await asyncio.sleep(0.1)
        return JSONResponse("done")

    paths = Starlette(routes=[Route("/", slow), Route("/admin/reload", reload)])

    async def run() -> None:
        async with client(TimeLimit(paths, 0.05)) as http:
            answer = await http.get("/")
            assert answer.status_code == 503
            assert "found no answer after 0.05 s" in answer.json()["error"]
            assert (await http.get("/admin/reload")).json() == "done"

    asyncio.run(run())
