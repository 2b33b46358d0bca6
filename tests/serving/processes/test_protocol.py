"""Limits of a connection: heads, and clients that do not read."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from uvicorn.server import ServerState

from kgrec.serving.processes import protocol

LARGE = 32 * 2**20  # bytes; more than the buffers of a system take
HELLO = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def app(scope, receive, send) -> None:
    """Answers by path: the body's length; without reading the body; with a large answer."""
    body = b""
    if scope["path"] == "/length":
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
    answer = {"/large": b"x" * LARGE, "/length": b"%d" % len(body)}.get(scope["path"], b"hello")
    head = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": answer})


@asynccontextmanager
async def connection() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, set]]:
    """A connection to a server of the protocol, and the server's connections."""
    config = uvicorn.Config(
        app, log_config=None, ws="none", lifespan="off", log_level="error", timeout_keep_alive=1
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol.LimitedProtocol(config, state, {}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer, state.connections
    finally:
        writer.transport.abort()
        server.close()


def exchange(*pieces: bytes, pause: float = 0.0) -> bytes:
    """What a client receives that sends pieces and waits until the server closes."""

    async def run() -> bytes:
        async with connection() as (reader, writer, _):
            sending = asyncio.create_task(send(writer, pieces, pause))
            async with asyncio.timeout(20):
                received = await until_closed(reader)
            sending.cancel()
        return received

    return asyncio.run(run())


async def send(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...], pause: float) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(pause)


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    received = []
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(2**20):
            received.append(part)
    return b"".join(received)


@pytest.fixture
def short(monkeypatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "READ_SECONDS", 0.3)


@pytest.mark.parametrize(
    ("pieces", "answers"),
    [
        ([], 0),
        ([b"GET / HTTP/1.1\r\nHo"], 0),
        ([HELLO, b"GET / HTTP/1.1\r\nHo"], 1),
        ([HELLO, b"\r\n"], 1),
        ([HELLO + b"GET / HT"], 1),
        ([HELLO, HELLO, b"\r\n"], 2),
    ],
)
def test_a_head_that_does_not_arrive_ends_the_connection(pieces, answers, short):
    received = exchange(*pieces, pause=0.02)
    assert received.count(b"200 OK") == answers


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /", *[b"x" * 2**14] * 100],
        [b"GET / HTTP/1.1\r\n", *[b"a: b\r\n" * 2**12] * 100],
    ],
)
def test_a_long_head_is_refused(pieces):
    head, _, body = exchange(*pieces, pause=0.001).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert "head: found more than 65,536 bytes" in json.loads(body)["error"]


@pytest.mark.parametrize("rest", [b"0\r\n" + b"a: b\r\n" * 2**12, b"1;" + b"x" * 2**14])
def test_trailers_and_chunk_extensions_do_not_grow_for_ever(rest):
    head = b"POST /length HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    endless = [rest, *[rest[3:]] * 100]
    assert b"200 OK" not in exchange(head, *endless, pause=0.001)


def test_a_large_body_is_no_long_head():
    head = (
        b"POST /length HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n"
    )
    assert exchange(head, *[b"x" * 10_000] * 100).endswith(b"\r\n\r\n1000000")


def test_bytes_that_are_no_http_are_refused():
    head, _, body = exchange(b"\x16\x03\x01\x02\x00\x01\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body) == {"error": "request: found bytes that are no HTTP, expected HTTP/1.1"}


def test_a_body_that_nobody_reads_ends_the_connection():
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nx"
    assert exchange(head, *[b"x"] * 100, pause=0.01).count(b"200 OK") == 1


def test_requests_in_a_row_on_one_connection_are_all_answered():
    request = b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
    last = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert exchange(request * 5 + last).count(b"200 OK") == 6


@pytest.mark.parametrize("closing", [b"", b"Connection: close\r\n"])
def test_a_client_that_does_not_read_is_left(closing, short):
    async def run() -> None:
        async with connection() as (_, writer, connections):
            writer.transport.pause_reading()
            writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n" + closing + b"\r\n")
            async with asyncio.timeout(20):
                while not connections:
                    await asyncio.sleep(0.01)
                while connections:
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_large_answer_reaches_a_client_that_reads():
    request = b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert len(exchange(request)) > LARGE
