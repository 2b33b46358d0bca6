"""Access by a token: ``Authorization: Bearer TOKEN``.

The token comes from an environment variable, so that it is in no file, log or list of processes.
"""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from kgrec.serving.limits import refuse

VARIABLE = "KGREC_SERVE_TOKEN"
OPEN = ("/", "/health", "/ready")  # paths that need no token
OPEN_FOLDER = "/page/"  # the files of the page, which ask for the token themselves
ADMIN = "/admin/"  # paths that exist only with a token


class TokenAccess:
    """Refuses requests without the token.

    Args:
        app: application.
        token: expected token; None or empty: every request is allowed, but those to ``/admin/``.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self.app = app
        self._expected = f"Bearer {token}".encode() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "http":
            path = scope["path"]
            if self._expected is None and path.startswith(ADMIN):
                message = f"{path}: found a server without a token, expected {VARIABLE} to be set"
                await refuse(send, 403, message)
                return
            if self._expected is not None and not self._allowed(scope):
                header = (b"www-authenticate", b"Bearer")
                message = "Authorization: found no valid token, expected Bearer TOKEN"
                await refuse(send, 401, message, [header])
                return
        await self.app(scope, receive, send)

    def _allowed(self, scope: Scope) -> bool:
        if scope["path"] in OPEN or scope["path"].startswith(OPEN_FOLDER):
            return True
        assert self._expected is not None
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
