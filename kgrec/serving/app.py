"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from kgrec import __version__
from kgrec.serving.batching import Batcher
from kgrec.serving.errors import add_error_handlers
from kgrec.serving.routes import Serving, router
from kgrec.serving.runs import ServedRuns
from kgrec.serving.settings import ServeSettings
from kgrec.serving.site import add_page


def create_app(settings: ServeSettings) -> FastAPI:
    """The application that serves runs; it loads them when it starts.

    ``app.state.serving`` is what the paths share.

    Raises:
        ConfigError: there is no run, or two of one name.
    """
    serving = Serving(settings, ServedRuns(settings), Batcher(settings.batch_users))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(serving.runs.load)
        serving.batcher.start()
        try:
            yield
        finally:
            serving.stopping = True
            await asyncio.to_thread(serving.batcher.stop)

    app = FastAPI(
        title="kgrec",
        version=__version__,
        summary="Recommendations of trained runs.",
        lifespan=lifespan,
        docs_url=None,  # its page would fetch scripts from the network
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.serving = serving
    app.include_router(router)
    add_page(app)
    add_error_handlers(app)
    return app
