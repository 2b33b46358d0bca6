"""What the paths of a server share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import Response

from kgrec.serving.batching import Alone, Batcher, Job
from kgrec.serving.errors import RequestError
from kgrec.serving.middleware.monitoring import Monitor
from kgrec.serving.runs import Outcome, ServedRun, ServedRuns
from kgrec.serving.settings import ServeSettings

log = logging.getLogger("kgrec.serve")


@dataclass
class Serving:
    """What the paths share.

    Attributes:
        settings: settings of the server.
        runs: served runs.
        batcher: computes answers.
        monitor: metrics.
        stopping: whether the server stops.
        after_reload: function that POST /admin/reload calls, such as one that has the other workers
            reload.
    """

    settings: ServeSettings
    runs: ServedRuns
    batcher: Batcher
    monitor: Monitor
    stopping: bool = False
    after_reload: Callable[[], None] = field(default=lambda: None)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: set[asyncio.Task[Any]] = field(default_factory=set)

    async def answer(self, job: Job) -> Response:
        """The answer of a job."""
        return Response(await self.batcher.answer(job), media_type="application/json")

    async def call(self, function: Callable[..., bytes], *arguments: Any) -> Response:
        """The answer of a function, which is called in the thread of the batcher."""
        return await self.answer(Alone(partial(function, *arguments)))

    def load(self) -> None:
        """Loads all runs.

        Raises:
            KgrecError: a run cannot be loaded.
        """
        self.runs.load()
        for run in self.runs.all():
            self._note(run)

    async def reload(self) -> list[Outcome]:
        """Loads all runs anew, beside those that answer requests meanwhile."""
        async with self._reloading:
            outcomes = await asyncio.to_thread(self.runs.reload)
            for name, folder, loaded, error in outcomes:
                self.monitor.reloads.labels("loaded" if loaded else "failed").inc()
                if loaded:
                    self._note(self.runs.get(name))
                else:
                    log.error("%s is not loaded anew, %s stays: %s", name, folder, error)
            return outcomes

    async def reload_all(self) -> list[Outcome]:
        """Loads all runs anew, then calls ``after_reload``, even if the client leaves before."""

        async def reload() -> list[Outcome]:
            outcomes = await self.reload()
            self.after_reload()
            return outcomes

        task = asyncio.create_task(reload())
        self._tasks.add(task)  # the loop itself keeps no task alive
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    def _note(self, run: ServedRun) -> None:
        """Logs a loaded run and notes it in the metrics."""
        users, items = len(run.users.ids), len(run.items.ids)
        self.monitor.run_loaded(run.name, run.rec.name, users, items, run.seconds)
        reason = f", {run.rec.reason}" if run.rec.reason else ""
        log.info(
            "%s: %s of %s%s; %d users, %d items, loaded in %.1f s",
            run.name, run.rec.name, run.rec.folder, reason, users, items, run.seconds,
        )  # fmt: skip

    def check_k(self, k: int, run: ServedRun) -> None:
        """Checks a number of items.

        Raises:
            RequestError: the run has fewer items, or the server allows fewer.
        """
        most = min(self.settings.max_k, len(run.items.ids))
        if k > most:
            reason = "the number of items" if most < self.settings.max_k else "the server's limit"
            raise RequestError(f"body.k: found {k}, expected at most {most}, {reason}")

    def check_users(self, number: int) -> None:
        """Checks the number of users, pairs or histories of a request.

        Raises:
            RequestError: there are too many.
        """
        if number > (most := self.settings.max_users):
            raise RequestError(f"body: found {number} users or pairs, expected at most {most}")
