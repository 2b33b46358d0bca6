"""The application of a server process, with its runs and SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import torch
from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from kgrec.errors import KgrecError
from kgrec.serving.app import create_app
from kgrec.serving.middleware.monitoring import log_to_stderr
from kgrec.serving.processes.hangups import release_hangups
from kgrec.serving.processes.workers import (
    end_with_supervisor,
    hang_up_supervisor,
    note_failure,
    note_start,
)
from kgrec.serving.settings import VARIABLE, ServeSettings


def worker_application() -> ASGIApp:
    """The application of a worker process."""
    log_to_stderr()
    end_with_supervisor()
    settings = ServeSettings.from_json(os.environ[VARIABLE])
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
        note_start()
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


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
