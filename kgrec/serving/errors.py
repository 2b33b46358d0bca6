"""Every error of the server as ``{"error": "<where>: found X, expected Y"}``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kgrec.errors import ConfigError, DataError, KgrecError, printable

LONGEST_MESSAGE = 1000  # characters
LONGEST = 80  # characters of a value or key that a message repeats
INTERNAL = "internal error; the log has the trace"
SHORTENED = {  # messages of pydantic that do not begin with "Input should be"
    "missing": "a value",
    "extra_forbidden": "no such key (see /openapi.json)",
}
log = logging.getLogger("kgrec.serve")


class RequestError(KgrecError):
    """A request that cannot be answered.

    Args:
        message: ``<where>: found X, expected Y``.
        status: status code of HTTP.
    """

    def __init__(self, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.status = status


def error_answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer with an error."""
    message = printable(message)
    if len(message) > LONGEST_MESSAGE:
        message = message[:LONGEST_MESSAGE] + "…"
    content = json.dumps({"error": message})
    return Response(content, status, headers, media_type="application/json")


def shown(value: Any) -> str:
    """A value as a message repeats it, cut if it is long."""
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else value[:LONGEST] + "…")
    if isinstance(value, list | dict):
        kind = "a list" if isinstance(value, list) else "an object"
        return f"{kind} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**LONGEST:
        return f"an integer of {value.bit_length()} bits"  # Python refuses to print the longest
    if isinstance(value, bool | None):
        return json.dumps(value)
    return repr(value)[:LONGEST]


def message_of(errors: Sequence[Mapping[str, Any]], *above: str) -> str:
    """The first error of pydantic in the form of the house, and the number of further errors.

    Args:
        errors: errors as pydantic or FastAPI lists them.
        above: keys above those that the errors name.
    """
    first = errors[0]
    parts = [str(part)[:LONGEST] for part in (*above, *first["loc"]) if part != "[key]"]
    kind, value = str(first["type"]), first.get("input")
    if kind == "json_invalid":
        return f"body: found text that is no JSON ({first['ctx']['error']}), expected an object"
    found = {"missing": "nothing", "extra_forbidden": "an unknown key"}.get(kind) or shown(value)
    expected = str(first["msg"]).removeprefix("Input should be ")
    expected = SHORTENED.get(kind, expected[:1].lower() + expected[1:])
    more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
    return f"{'.'.join(parts)}: found {found}, expected {expected}{more}"


class Faults:
    """Answers an unexpected exception with 500 and logs it, so that the connection stays open.

    Args:
        app: application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            log.error("a request failed by a fault of the server", exc_info=error)
            await error_answer(500, INTERNAL)(scope, receive, send)


def add_error_handlers(app: FastAPI) -> None:
    """Makes the app answer every error in one form, never with a trace."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return error_answer(422, message_of(error.errors()))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        where = f"{request.method} {request.url.path[:LONGEST]}"
        if error.status_code == 400:  # FastAPI could not parse the body
            return error_answer(422, "body: found text that is no JSON, expected an object")
        message = {
            404: f"{where}: found no such path, expected one of /openapi.json",
            405: f"{where}: found the method {request.method}, expected "
            f"{(error.headers or {}).get('Allow', 'another')}",
        }.get(error.status_code, str(error.detail))
        return error_answer(error.status_code, message, error.headers)

    @app.exception_handler(KgrecError)
    async def mistaken(_: Request, error: KgrecError) -> Response:
        if isinstance(error, RequestError):
            return error_answer(error.status, str(error))
        if isinstance(error, DataError | ConfigError):
            return error_answer(422, str(error))
        raise error

    app.add_middleware(Faults)
