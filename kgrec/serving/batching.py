"""One thread that computes, and takes together what waits for it.

The event loop only reads requests and writes answers. When the thread becomes free, it takes
whatever waits: no request waits for a batch to fill.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from kgrec.serving.errors import RequestError

Answer = bytes | BaseException


class Job(Protocol):
    """Work for the thread."""

    @property
    def key(self) -> Hashable:
        """Jobs of the same key are done together; None: the job is done alone."""

    @property
    def size(self) -> int:
        """Number of users."""

    @staticmethod
    def answers(jobs: Sequence[Any]) -> list[bytes]:
        """The answers of jobs of one key."""


@dataclass(frozen=True)
class Alone:
    """A function that is called alone."""

    function: Callable[[], bytes]
    key: None = None
    size: int = 1

    @staticmethod
    def answers(jobs: Sequence[Alone]) -> list[bytes]:
        """The answers of the functions."""
        return [job.function() for job in jobs]


class Waiting(NamedTuple):
    """A job and its future answer."""

    job: Job
    future: asyncio.Future[bytes]


class Batcher:
    """Computes answers in one thread.

    Args:
        batch_users: largest number of users of a batch of several requests.
        observe: function that is called with the number of users of each batch.
    """

    def __init__(
        self, batch_users: int, observe: Callable[[int], None] = lambda users: None
    ) -> None:
        self.batch_users, self.observe = batch_users, observe
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="kgrec-compute", daemon=True)
        self._stopped = False

    @property
    def waiting(self) -> int:
        """Number of requests that wait for the thread, about."""
        return self._queue.qsize()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self, seconds: float = 10) -> None:
        """Answers what waits, then ends the thread; leaves it alone if that takes longer."""
        self._stopped = True
        self._queue.put(None)
        self._thread.join(seconds)

    async def answer(self, job: Job) -> bytes:
        """The answer of a job, computed in the thread.

        Raises:
            RequestError: the server stops.
            KgrecError: the job cannot be done.
        """
        if self._stopped:
            raise RequestError("server: found it stopping, expected it to run; try again", 503)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._queue.put(Waiting(job, future))
        return await future

    # ------------------------------------------------------------ in the thread

    def _work(self) -> None:
        shared: deque[Waiting] = deque()
        alone: deque[Waiting] = deque()
        running = True
        while running or shared or alone:
            if self._receive(shared, alone, block=running and not (shared or alone)):
                running = False
            # A batch and a single job in turn, so that neither kind waits for all of the other.
            if shared:
                self._compute(self._batch(shared))
            if alone:
                self._compute([alone.popleft()])

    def _receive(self, shared: deque[Waiting], alone: deque[Waiting], block: bool) -> bool:
        """Sorts all that waits by kind; whether the thread shall end."""
        try:
            while (waiting := self._queue.get(block)) is not None:
                (alone if waiting.job.key is None else shared).append(waiting)
                block = False
        except queue.Empty:
            return False
        return True

    def _batch(self, shared: deque[Waiting]) -> list[Waiting]:
        """Takes the first that waits, and others of its key up to the largest batch."""
        first = shared.popleft()
        batch, users, others = [first], first.job.size, []
        while shared:
            waiting = shared.popleft()
            if waiting.job.key == first.job.key and users + waiting.job.size <= self.batch_users:
                batch.append(waiting)
                users += waiting.job.size
            else:
                others.append(waiting)
        shared.extend(others)
        return batch

    def _compute(self, batch: list[Waiting]) -> None:
        batch = [waiting for waiting in batch if not waiting.future.cancelled()]
        if not batch:  # they took longer than the time limit
            return
        jobs = [waiting.job for waiting in batch]
        try:
            self.observe(sum(job.size for job in jobs))
            answers: list[Answer] = list(jobs[0].answers(jobs))
        except Exception as error:
            if len(batch) > 1:  # the error of one request must not become that of the others
                for waiting in batch:
                    self._compute([waiting])
                return
            answers = [error]
        self._deliver(batch, answers)

    @staticmethod
    def _deliver(batch: Sequence[Waiting], answers: Sequence[Answer]) -> None:
        def deliver() -> None:
            for waiting, answer in zip(batch, answers, strict=True):
                if waiting.future.done():  # the client has gone
                    continue
                if isinstance(answer, BaseException):
                    waiting.future.set_exception(answer)
                else:
                    waiting.future.set_result(answer)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            batch[0].future.get_loop().call_soon_threadsafe(deliver)
