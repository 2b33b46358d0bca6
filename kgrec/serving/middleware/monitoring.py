"""Metrics in the format of Prometheus, and a log line for each request.

With several workers, prometheus-client keeps the values in files of ``PROMETHEUS_MULTIPROC_DIR``,
so that every worker answers ``/metrics`` for all of them.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Collection
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client import generate_latest as text_of
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kgrec.serving.middleware.access import OPEN_FOLDER

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
USERS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
GONE = 499  # status in metrics and log of a request whose client closed the connection
log = logging.getLogger("kgrec.serve")


class Monitor:
    """The metrics of one server process."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter(
            "kgrec_requests_total", "Answered requests.", ["method", "path", "status"], registry=own
        )
        self.seconds = Histogram(
            "kgrec_request_seconds", "Seconds from the request's head to the end of its answer.",
            ["path"], buckets=SECONDS, registry=own,
        )  # fmt: skip
        self.batch_users = Histogram(
            "kgrec_batch_users", "Users of the requests that are computed together.",
            buckets=USERS, registry=own,
        )  # fmt: skip
        self.active = Gauge(
            "kgrec_requests_active", "Requests that are being answered.",
            multiprocess_mode="livesum", registry=own,
        )  # fmt: skip
        self.load_seconds = Gauge(
            "kgrec_run_load_seconds", "Seconds that loading a run took.", ["run"],
            multiprocess_mode="livemostrecent", registry=own,
        )  # fmt: skip
        self.run_users = Gauge(
            "kgrec_run_users", "Users of a served run; 0: it is not served any more.",
            ["run", "model"], multiprocess_mode="livemostrecent", registry=own,
        )  # fmt: skip
        self.run_items = Gauge(
            "kgrec_run_items", "Items of a served run; 0: it is not served any more.",
            ["run", "model"], multiprocess_mode="livemostrecent", registry=own,
        )  # fmt: skip
        self.reloads = Counter(
            "kgrec_reloads_total", "Runs loaded anew, by result.", ["result"], registry=own
        )
        self._models: dict[str, str] = {}  # model of each run

    def text(self) -> bytes:
        """All metrics, of all workers."""
        if MULTIPROCESS not in os.environ:
            return text_of(self.registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return text_of(registry)

    def run_loaded(self, name: str, model: str, users: int, items: int, seconds: float) -> None:
        """Notes a run that was loaded; the model that had its name before has no users now."""
        if (before := self._models.get(name, model)) != model:
            self.run_users.labels(name, before).set(0)
            self.run_items.labels(name, before).set(0)
        self._models[name] = model
        self.load_seconds.labels(name).set(seconds)
        self.run_users.labels(name, model).set(users)
        self.run_items.labels(name, model).set(items)


class Monitoring:
    """Counts and times requests, and logs them.

    Args:
        app: application.
        monitor: metrics.
        paths: declared paths without parameters, for requests that are refused before routing.
        log_requests: whether to log a line for each request.
        log_ids: whether the line has the path as it was sent, ids and query included.
    """

    def __init__(
        self,
        app: ASGIApp,
        monitor: Monitor,
        paths: Collection[str] = (),
        log_requests: bool = True,
        log_ids: bool = False,
    ) -> None:
        self.app, self.monitor, self.paths = app, monitor, frozenset(paths)
        self.log_requests, self.log_ids = log_requests, log_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = GONE, time.perf_counter()

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.monitor.active.inc()
        try:
            await self.app(scope, receive, noting)
        except Exception:
            status = 500
            raise
        finally:
            self.monitor.active.dec()
            seconds, pattern = time.perf_counter() - start, self._pattern(scope)
            # A client must not invent labels.
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.monitor.requests.labels(method, pattern or "other", status).inc()
            self.monitor.seconds.labels(pattern or "other").observe(seconds)
            if self.log_requests:
                shown = _sent(scope) if self.log_ids else pattern or "(no such path)"
                log.info("%s %s %d %.1f ms", method, shown, status, 1000 * seconds)

    def _pattern(self, scope: Scope) -> str | None:
        """The path as it is declared, such as ``/users/{id}``; None: it is not declared."""
        sent: str = scope["path"]
        if sent.startswith(OPEN_FOLDER):
            return f"{OPEN_FOLDER}{{file}}"
        route: Any = scope.get("route")
        declared: str | None = getattr(route, "path", None)
        if declared:
            return declared.replace(":path", "")
        return sent if sent in self.paths else None


def _sent(scope: Scope) -> str:
    """The path and the query as they were sent, without characters that could forge a line."""
    query = scope["query_string"].decode("latin-1")
    sent: str = scope["path"] + (f"?{query}" if query else "")
    return sent.encode("unicode_escape").decode("ascii")[:500]


def log_to_stderr() -> None:
    """Log lines of the server and of uvicorn, with the time and the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(process)d %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    )
    for name, level in (("kgrec.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(level)
