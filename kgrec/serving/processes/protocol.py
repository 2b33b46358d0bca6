"""HTTP on one connection: uvicorn's, with limits that it does not have.

uvicorn ends a connection that is quiet for 5 s between two requests. But it waits for ever for a
head, for a client to read its answer, and for the rest of a body that nobody reads; and httptools
takes heads, trailers and chunk extensions of any length. Its ``limit_concurrency`` counts idle
connections too, so that it would refuse everyone when they are many. So thousands of half-open
connections would stay, or one endless head.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEAD_SECONDS = 10.0  # time for a head to arrive
READ_SECONDS = 60.0  # time for a client to read what the buffers do not take
MOST_HEAD_BYTES = 2**16


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose head is slow or long, or whose client does not read its answer.

    The time of a head runs from the connection on, and from the first byte after an answer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0  # received since the parser last began a request or gave a body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all times."""
        self._head_is_complete()
        self._answer_is_read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Starts the time for a further head, and counts the bytes of heads."""
        if self._idle and self._head_timer is None:
            self._wait_for_head()
        self._head_bytes += len(data)
        if self._head_bytes > MOST_HEAD_BYTES + len(data):
            self._refuse(431, f"head: found more than {MOST_HEAD_BYTES:,} bytes, expected fewer")
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Starts to count a head."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Ends the time for a head."""
        self._head_is_complete()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Starts to count what comes between parts of a body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Ends the connection if the answer came before the end of the body."""
        unread = not self.pipeline and self.cycle.more_body
        super().on_response_complete()
        if unread:
            self.transport.close()
        if self.transport.is_closing():
            self._wait_for_reader()

    def pause_writing(self) -> None:
        """Starts the time for the client to read."""
        super().pause_writing()
        self._wait_for_reader()

    def resume_writing(self) -> None:
        """Ends the time for the client to read."""
        self._answer_is_read()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answers bytes that are no HTTP."""
        self._refuse(400, "request: found bytes that are no HTTP, expected HTTP/1.1")

    @property
    def _idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, message: str) -> None:
        """Answers with an error, unless an answer is on its way, and closes."""
        if self._idle:
            body = json.dumps({"error": message}).encode()
            self.transport.write(
                STATUS_LINE[status] + b"content-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
        self.transport.close()
        self._wait_for_reader()

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_is_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _wait_for_reader(self) -> None:
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(READ_SECONDS, self.transport.abort)

    def _answer_is_read(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
