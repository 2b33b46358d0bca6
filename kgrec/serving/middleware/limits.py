"""Limits of requests, as ASGI middlewares.

A request passes them in this order: :class:`BodyLimit` reads its body, :class:`ConcurrencyLimit`
gives it a place, :class:`TimeLimit` ends it. So a client that sends its body slowly takes no place.
uvicorn itself limits neither bodies nor times; heads: :mod:`kgrec.serving.processes.protocol`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODIES = 64  # largest bodies whose memory all incomplete bodies may hold together
ADMIN = "/admin/"  # paths that may take longer than others, such as a reload
ALWAYS = ("/health", "/ready", "/metrics")  # paths that answer however busy the server is


async def refuse(
    send: Send, status: int, message: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Sends an answer with an error."""
    body = json.dumps({"error": message}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": [*head, *headers]})
    await send({"type": "http.response.body", "body": body})


class BodyLimit:
    """Reads a body before the application is called, up to a size and within a time.

    A larger body is refused with 413 before it is read whole, a slower one with 408. If the bodies
    that are still arriving hold much memory together, a further part is refused with 503. The
    connection is closed then, because the rest of the body is not read.

    Args:
        app: application.
        max_bytes: largest body.
        timeout_s: seconds for the whole body.

    Attributes:
        arriving: bytes of all bodies that are not complete yet.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self.app, self.max_bytes, self.timeout_s = app, max_bytes, timeout_s
        self.arriving = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                body = await self._body(scope, receive)
        except TimeoutError:
            message = f"body: found it incomplete after {self.timeout_s:g} s, expected all of it"
            await refuse(send, 408, message, [(b"connection", b"close")])
            return
        except _RefusedError as error:
            status, message = error.args
            retry = [(b"retry-after", b"1")] if status == 503 else []
            await refuse(send, status, message, [(b"connection", b"close"), *retry])
            return
        if body is None:
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self.app(scope, replay, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body; None: the client has closed the connection.

        Raises:
            _RefusedError: the body is too large, or there is no memory for it.
        """
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        body, more = bytearray(), True
        self._check(int(length[:20]) if length.isdigit() else 0)
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                body += part
                self.arriving += len(part)
                self._check(len(body))
                more = message.get("more_body", False)
                if more and self.arriving > MOST_BODIES * self.max_bytes:
                    raise _RefusedError(503, "server: found too many slow bodies; try again")
        finally:
            self.arriving -= len(body)
        return bytes(body)

    def _check(self, size: int) -> None:
        if size > self.max_bytes:
            message = f"body: found more than {self.max_bytes:,} bytes, expected at most so many"
            raise _RefusedError(413, message)


class _RefusedError(Exception):
    """A body that is not read, with the status and the message of the answer."""


class ConcurrencyLimit:
    """Refuses requests with 503 while others take all places.

    Args:
        app: application.
        places: requests that may be answered at the same time.

    Attributes:
        active: requests that are being answered.
    """

    def __init__(self, app: ASGIApp, places: int) -> None:
        self.app, self.places, self.active = app, places, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["path"] in ALWAYS:
            await self.app(scope, receive, send)
            return
        if self.active >= self.places:
            message = f"server: found {self.active} requests at work, expected fewer; try again"
            await refuse(send, 503, message, [(b"retry-after", b"1")])
            return
        self.active += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.active -= 1


class TimeLimit:
    """Refuses a request with 503 if its answer takes too long; those to ``/admin/`` may.

    Args:
        app: application.
        timeout_s: seconds for the answer.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self.app, self.timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http" or scope["path"].startswith(ADMIN):
            await self.app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(self.timeout_s):
                await self.app(scope, receive, noting)
        except TimeoutError:
            if started:
                raise
            message = f"server: found no answer after {self.timeout_s:g} s; try again, or ask less"
            await refuse(send, 503, message, [(b"retry-after", b"1")])
