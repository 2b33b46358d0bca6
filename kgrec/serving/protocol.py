"""HTTP on one connection: uvicorn's, with limits on the head of a request.

uvicorn waits for a head for ever, and httptools takes one of any length. So thousands of
half-open connections, or one endless head, would stay.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 10.0
MOST_HEAD_BYTES = 2**16


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose next request has no complete head in time, or one too long.

    Between two requests of a connection, uvicorn's own time limit counts.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends the time."""
        self._head_is_complete()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Starts the time for the head of a further request."""
        super().on_message_begin()
        if self._timer is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Ends the time."""
        self._head_is_complete()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Counts the bytes of a head."""
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES + len(data):
                self.transport.close()
                return
        super().data_received(data)

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _head_is_complete(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        self.transport.abort()
