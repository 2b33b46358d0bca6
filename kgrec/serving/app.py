"""The server as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.routing import Route

from kgrec import __version__
from kgrec.serving.batching import Batcher
from kgrec.serving.errors import add_error_handlers
from kgrec.serving.middleware.access import OwnHost, Token, TokenAccess, is_loopback
from kgrec.serving.middleware.limits import BodyLimit, ConcurrencyLimit, TimeLimit
from kgrec.serving.middleware.monitoring import Monitor, Monitoring
from kgrec.serving.routes import router
from kgrec.serving.runs import ServedRuns
from kgrec.serving.settings import ServeSettings
from kgrec.serving.site import add_page
from kgrec.serving.state import Serving


def create_app(settings: ServeSettings) -> FastAPI:
    """The application that serves runs; it loads them when it starts.

    ``app.state.serving`` is what the paths share.

    Raises:
        ConfigError: there is no run, or two of one name, or the token is malformed.
    """
    monitor = Monitor()
    batcher = Batcher(settings.batch_users, monitor.batch_users.observe)
    serving = Serving(settings, ServedRuns(settings), batcher, monitor)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        if not serving.runs.loaded:
            await asyncio.to_thread(serving.load)
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
        # Newer FastAPI would ask for providers of OpenTelemetry at every request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.serving = serving
    app.include_router(router)
    add_page(app)
    add_error_handlers(app)
    # The last one is the first that a request passes.
    app.add_middleware(TimeLimit, timeout_s=settings.timeout_s)
    app.add_middleware(ConcurrencyLimit, places=settings.max_concurrent)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, timeout_s=settings.timeout_s)
    token = Token.from_environment()
    app.add_middleware(TokenAccess, token=token)
    if token is None and is_loopback(settings.host):
        app.add_middleware(OwnHost)
    app.add_middleware(
        Monitoring,
        monitor=monitor,
        paths=["/", *(route.path for route in router.routes if isinstance(route, Route))],
        log_requests=settings.log_requests,
        log_ids=settings.log_ids,
    )
    return app
