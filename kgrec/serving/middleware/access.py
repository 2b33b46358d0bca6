"""Access by a token, ``Authorization: Bearer TOKEN``; without one, by the host that is named.

The token comes from an environment variable, so that it is in no file, log or list of processes.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import re
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from kgrec.errors import ConfigError
from kgrec.serving.middleware.limits import ADMIN, refuse

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


class OwnHost:
    """Refuses requests whose ``Host`` is neither ``localhost`` nor an address.

    The owner of a web site can point its name to 127.0.0.1 (DNS rebinding). A browser then lets the
    pages of that site read the answers of this server, but it sends the name of the site as
    ``Host``.

    Args:
        app: application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"host" and not _is_own(value.decode("latin-1")):
                    message = (
                        f"Host: found {value[:80].decode('latin-1')!r}, expected localhost, an "
                        f"address, or a server with a token ({VARIABLE})"
                    )
                    await refuse(send, 403, message)
                    return
        await self.app(scope, receive, send)


def _is_own(host: str) -> bool:
    """Whether a ``Host`` is no name that somebody can point to this machine."""
    name = re.sub(r":\d*$", "", host).strip("[]")
    return name.lower() == "localhost" or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens on a host."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
