"""The processes of a server: one, or several workers that share a port.

uvicorn does the work: it accepts connections, and answers the accepted requests before it stops.
Here stands what it does not do: a SIGHUP loads the runs anew without a restart, and an error at the
start is one line. :mod:`kgrec.serving.workers` has what several processes need.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from kgrec.errors import ConfigError, KgrecError
from kgrec.inference.loading import find_run
from kgrec.serving.access import VARIABLE, Token
from kgrec.serving.app import create_app
from kgrec.serving.hangups import release_hangups
from kgrec.serving.monitoring import MULTIPROCESS
from kgrec.serving.protocol import LimitedProtocol
from kgrec.serving.runs import named_places
from kgrec.serving.settings import ServeSettings
from kgrec.serving.workers import (
    ANSWER_SECONDS,
    Workers,
    end_with_supervisor,
    hang_up_supervisor,
    note_failure,
)

SETTINGS = "KGREC_SERVE_SETTINGS"  # variable by which a worker gets the settings
STOP_SECONDS = 10  # extra time for answers at a stop, beyond the time limit of a request
BACKLOG = 2048  # connections that wait to be accepted
FEW_FILES = 4096
log = logging.getLogger("kgrec.serve")


def serve(settings: ServeSettings) -> None:
    """Serves until SIGTERM or SIGINT; then answers the accepted requests and returns.

    The stop takes at most ``timeout_s`` and twice :data:`STOP_SECONDS`. SIGHUP must be held, see
    :mod:`kgrec.serving.hangups`.

    Raises:
        KgrecError: a run cannot be loaded, the address cannot be used, or the token is malformed.
    """
    _log_to_stderr()
    _allow_many_connections()
    token = Token.from_environment()
    for place in named_places(settings.runs).values():
        find_run(place)  # the commonest mistake is said before workers start
    with _bound(settings) as listening:
        config = _config(settings)
        if settings.workers == 1:
            config.app = application(settings)
            _say_where(listening, token)
            for number in (signal.SIGTERM, signal.SIGINT):
                # uvicorn raises the signal once more after the stop; the exit code shall be 0.
                signal.signal(number, lambda *_: None)
            uvicorn.Server(config).run(sockets=[listening])
            return
        with _workers_environment(settings):
            _say_where(listening, token)
            supervisor = Workers(config, [listening])
            supervisor.run()
    if supervisor.failure is not None:
        raise ConfigError(supervisor.failure)


def worker_application() -> ASGIApp:
    """The application of a worker process."""
    _log_to_stderr()
    end_with_supervisor()
    settings = ServeSettings.from_json(os.environ[SETTINGS])
    try:
        return application(settings)
    except (KgrecError, OSError) as error:
        note_failure(str(error))
        sys.exit(1)


def application(settings: ServeSettings) -> ASGIApp:
    """The application with loaded runs, which SIGHUP loads anew.

    Raises:
        KgrecError: a run cannot be loaded.
    """
    # A core of each worker is for reading requests and writing answers.
    torch.set_num_threads(settings.threads or max(1, _cores() // settings.workers - 1))
    app = create_app(settings)
    app.state.serving.load()
    if settings.workers > 1:
        # The worker that asks loads its runs a second time.
        app.state.serving.after_reload = hang_up_supervisor
    return ReloadedByHangup(app)


class ReloadedByHangup:
    """Loads the runs anew at SIGHUP.

    Args:
        app: application of :func:`kgrec.serving.app.create_app`.
    """

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Installs the handler at the start; passes everything on."""
        if scope["type"] == "lifespan" and hasattr(signal, "SIGHUP"):
            loop, tasks = asyncio.get_running_loop(), set()

            def hangup() -> None:
                task = loop.create_task(self.app.state.serving.reload())
                tasks.add(task)
                task.add_done_callback(tasks.discard)

            loop.add_signal_handler(signal.SIGHUP, hangup)
            release_hangups()
        await self.app(scope, receive, send)


def _config(settings: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        "kgrec.serving.process:worker_application",
        factory=settings.workers > 1,
        http=LimitedProtocol,
        ws="none",
        lifespan="on",
        workers=settings.workers,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=int(settings.timeout_s) + STOP_SECONDS,
        timeout_worker_healthcheck=ANSWER_SECONDS,
    )


@contextmanager
def _workers_environment(settings: ServeSettings) -> Iterator[None]:
    """Variables that workers read, and the folder of their metrics."""
    with tempfile.TemporaryDirectory(prefix="kgrec-metrics-") as folder:
        values = {SETTINGS: settings.to_json(), MULTIPROCESS: folder}
        os.environ |= values
        try:
            yield
        finally:
            for name in values:
                os.environ.pop(name, None)


def _bound(settings: ServeSettings) -> socket.socket:
    """The socket that listens.

    Raises:
        ConfigError: the host is unknown, or the port is in use or not allowed.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)  # now: another server may have bound it, too
        except OSError:
            listening.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"--host, --port: found {where}, which cannot be used ({reason}), expected a free "
            "address of this machine"
        ) from error
    listening.set_inheritable(True)
    return listening


def _say_where(listening: socket.socket, token: Token | None) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("serving on http://%s:%d (the page; the API is in /openapi.json)", shown, port)
    if token is None and not ipaddress.ip_address(host).is_loopback:
        log.warning("anyone who reaches %s may ask: no token is set (%s)", host, VARIABLE)


def _allow_many_connections() -> None:
    """Raises the limit of open files as far as allowed; each connection takes one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if 0 <= hard < FEW_FILES:
        log.warning("%d open files are allowed, and as many connections (ulimit -n)", hard)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _log_to_stderr() -> None:
    """Log lines of the server and of uvicorn, with the time and the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    for name, level in (("kgrec.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(level)
