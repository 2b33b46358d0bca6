"""The processes of a server: one, or several workers that share a port.

uvicorn does the work: it accepts connections, and answers the accepted requests before it stops.
Here stands what it does not do: a SIGHUP loads the runs anew without a restart, and an error at the
start is one line. :mod:`kgrec.serving.processes.workers` has what several processes need. A
supervisor does not import torch, which would take 230 MB.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn

from kgrec.errors import ConfigError
from kgrec.serving.middleware import access
from kgrec.serving.middleware.monitoring import MULTIPROCESS, log_to_stderr
from kgrec.serving.processes.protocol import LimitedProtocol
from kgrec.serving.processes.workers import Workers
from kgrec.serving.settings import VARIABLE, ServeSettings

STOP_SECONDS = 10  # extra time for answers at a stop, beyond the time limit of a request
BACKLOG = 2048  # connections that wait to be accepted
FEW_FILES, MOST_FILES = 4096, 2**20  # a lower limit is said; no higher one is asked for
log = logging.getLogger("kgrec.serve")


def serve(settings: ServeSettings) -> None:
    """Serves until SIGTERM or SIGINT; then answers the accepted requests and returns.

    The stop takes at most ``timeout_s`` and twice :data:`STOP_SECONDS`. SIGHUP must be held, see
    :mod:`kgrec.serving.processes.hangups`.

    Raises:
        KgrecError: a run cannot be loaded, the address cannot be used, or the token is malformed.
    """
    log_to_stderr()
    _allow_many_connections()
    token = access.Token.from_environment()
    with _bound(settings) as listening:
        config = _config(settings)
        if settings.workers == 1:
            from kgrec.serving.processes.application import application

            config.app = application(settings)
            _say_where(listening, token)
            for number in (signal.SIGTERM, signal.SIGINT):
                # uvicorn raises the signal once more after the stop; the exit code shall be 0.
                signal.signal(number, lambda *_: None)
            uvicorn.Server(config).run(sockets=[listening])
            return
        with _workers_environment(settings):
            supervisor = Workers(config, [listening], partial(_say_where, listening, token))
            supervisor.run()
    if supervisor.failure is not None:
        raise ConfigError(supervisor.failure)


def _config(settings: ServeSettings) -> uvicorn.Config:
    return uvicorn.Config(
        "kgrec.serving.processes.application:worker_application",
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
    )


@contextmanager
def _workers_environment(settings: ServeSettings) -> Iterator[None]:
    """Variables that workers read, and the folder of their metrics."""
    with tempfile.TemporaryDirectory(prefix="kgrec-metrics-") as folder:
        values = {VARIABLE: settings.to_json(), MULTIPROCESS: folder}
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


def _say_where(listening: socket.socket, token: access.Token | None) -> None:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("serving on http://%s:%d (the page; the API is in /openapi.json)", shown, port)
    if token is None and not access.is_loopback(host):
        log.warning("anyone who reaches %s may ask: no token is set (%s)", host, access.VARIABLE)


def _allow_many_connections() -> None:
    """Raises the limit of open files as far as allowed; each connection takes one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has a lower limit of the system
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FEW_FILES:
        log.warning("%d open files are allowed, and as many connections (ulimit -n)", wanted)
