"""Limits of requests, as ASGI middlewares.

A request passes them in this order: :class:`BodyLimit` reads its body, :class:`ConcurrencyLimit`
gives it a place, :class:`TimeLimit` ends it. So a client that sends its body slowly takes no place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

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

    A larger body is refused with 413 before it is read whole; a slower one with 408. Both close
    the connection, because the rest of the body is not read.

    Args:
        app: application.
        max_bytes: largest body.
        timeout_s: seconds for the whole body.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float) -> None:
        self.app, self.max_bytes, self.timeout_s = app, max_bytes, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if length.isdigit() and int(length[:20]) > self.max_bytes:
            await self._too_large(send)
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                body = await self._body(receive)
        except TimeoutError:
            message = f"body: found it incomplete after {self.timeout_s:g} s, expected all of it"
            await refuse(send, 408, message, [(b"connection", b"close")])
            return
        except _GoneError:
            return
        if body is None:
            await self._too_large(send)
            return
        pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return pending.pop() if pending else await receive()

        await self.app(scope, replay, send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The body; None: it is too large."""
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            part = message.get("body", b"")
            size += len(part)
            if size > self.max_bytes:
                return None
            parts.append(part)
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _too_large(self, send: Send) -> None:
        message = f"body: found more than {self.max_bytes:,} bytes, expected at most so many"
        await refuse(send, 413, message, [(b"connection", b"close")])


class _GoneError(Exception):
    """The client has closed the connection."""


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
    """Refuses a request with 503 if its answer takes too long.

    Args:
        app: application.
        timeout_s: seconds for the answer.
    """

    def __init__(self, app: ASGIApp, timeout_s: float) -> None:
        self.app, self.timeout_s = app, timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
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
