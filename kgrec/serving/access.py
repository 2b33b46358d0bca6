"""Access by a token: ``Authorization: Bearer TOKEN``.

The token comes from an environment variable, so that it is in no file, log or list of processes.
"""

from __future__ import annotations

import hmac
import os
import re
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from kgrec.errors import ConfigError
from kgrec.serving.limits import ADMIN, refuse

VARIABLE = "KGREC_SERVE_TOKEN"
OPEN = ("/", "/health", "/ready")  # paths that need no token
OPEN_FOLDER = "/page/"  # the files of the page, which ask for the token themselves


class Token:
    """A token that no text shows.

    Args:
        secret: its characters.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    @classmethod
    def from_environment(cls) -> Self | None:
        """The token of the server; None: there is none.

        Raises:
            ConfigError: a header cannot hold the token.
        """
        secret = os.environ.get(VARIABLE, "")
        if not secret:
            return None
        if not re.fullmatch(r"[!-~]+", secret):
            raise ConfigError(f"{VARIABLE}: found other characters, expected ASCII without spaces")
        return cls(secret.encode())

    def is_in(self, header: bytes) -> bool:
        """Whether an Authorization header has the token; it takes the same time for every guess."""
        scheme, _, guess = header.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(guess.strip(), self._secret)


class TokenAccess:
    """Refuses requests without the token.

    Args:
        app: application.
        token: expected token; None: every request is allowed, except those to ``/admin/``.
    """

    def __init__(self, app: ASGIApp, token: Token | None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http":
            path = scope["path"]
            if self.token is None and path.startswith(ADMIN):
                message = f"{ADMIN}: found a server without a token, expected {VARIABLE} to be set"
                await refuse(send, 403, message)
                return
            if self.token is not None and not self._allowed(scope, self.token):
                header = (b"www-authenticate", b"Bearer")
                message = "Authorization: found no valid token, expected Bearer TOKEN"
                await refuse(send, 401, message, [header])
                return
        await self.app(scope, receive, send)

    def _allowed(self, scope: Scope, token: Token) -> bool:
        if scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
            return True
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and token.is_in(given[0])
