"""The page at ``/`` and its files at ``/page/…``.

Everything comes from this server: the policy forbids inline scripts and other origins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

FOLDER = Path(__file__).with_name("page")
TYPES = {  # tables of the system may have others
    ".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asks whether a file has changed
}


class PageFiles(StaticFiles):
    """The files of the page, with their types and the headers of a page."""

    def file_response(self, full_path: Any, *args: Any, **kwargs: Any) -> Response:
        """One file, or that it has not changed."""
        response = super().file_response(full_path, *args, **kwargs)
        return _with_headers(response, Path(full_path))


def add_page(app: FastAPI) -> None:
    """Adds the page to an application; it is no part of the OpenAPI description."""
    files = PageFiles(directory=FOLDER)

    async def page(request: Request) -> Response:
        path = FOLDER / "index.html"
        return files.file_response(path, path.stat(), request.scope)

    app.add_route("/", page, methods=["GET"], include_in_schema=False)
    app.mount("/page", files, name="page")


def _with_headers(response: Response, path: Path) -> Response:
    response.headers.update(HEADERS)
    if isinstance(response, FileResponse):
        response.headers["Content-Type"] = f"{TYPES[path.suffix]}; charset=utf-8"
    return response
