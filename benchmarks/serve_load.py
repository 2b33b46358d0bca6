"""Load generator of serve.py: HTTP/1.1 clients that each send a request as soon as they can.

A process of its own. It reads a task as JSON from its standard input and prints what it measured
as JSON. Requests are made beforehand; of an answer only the status and the length are read. The
clients are a closed loop: each waits for its answer, then sends the next request, so that the
number of clients is the number of requests at work.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import random
import sys
import time
from array import array
from collections import Counter
from typing import Any, cast

RETRY = 0.05  # seconds before a client connects again
PATIENCE = 30.0  # seconds after the end in which answers may still come


class Load:
    """The clients' requests, and what came back.

    Args:
        task: ``host``, ``port``, ``clients``, ``seconds``, ``warm_up`` (seconds that are not
            counted), ``seed`` and ``requests`` (whole HTTP requests, drawn at random).
    """

    def __init__(self, task: dict[str, Any]) -> None:
        self.host, self.port = task["host"], task["port"]
        self.clients, self.seconds, self.warm_up = task["clients"], task["seconds"], task["warm_up"]
        draw = random.Random(task["seed"])
        requests = [str(text).encode() for text in task["requests"]]
        self._requests: list[bytes] = draw.choices(requests, k=max(10_000, len(requests)))
        self._next = 0
        self.latencies, self.ends = array("d"), array("d")
        self.statuses: Counter[str] = Counter()
        self.requests = 0  # answered requests, those of the warm-up included
        self.ended = asyncio.Event()  # no further requests
        self.waiting = 0  # requests without an answer

    def request(self) -> bytes:
        """The next request."""
        self._next = (self._next + 1) % len(self._requests)
        return self._requests[self._next]

    def count(self, status: str, begin: float, end: float) -> None:
        """Counts an answer, if its request was sent after the warm-up."""
        self.requests += 1
        if begin >= self.begin:
            self.statuses[status] += 1
            if status == "200":
                self.latencies.append(end - begin)
                self.ends.append(end - self.begin)

    async def run(self) -> dict[str, Any]:
        """Sends requests for the time of the task."""
        self.begin = time.perf_counter() + self.warm_up
        tasks = [asyncio.create_task(self._connect(Client(self))) for _ in range(self.clients)]
        await asyncio.sleep(self.warm_up)
        used = time.process_time()
        await asyncio.sleep(self.seconds)
        busy = (time.process_time() - used) / self.seconds
        self.ended.set()
        last = time.perf_counter() + PATIENCE
        while self.waiting and time.perf_counter() < last:
            await asyncio.sleep(0.01)
        if self.waiting:
            self.statuses["no answer"] += self.waiting
        for task in tasks:
            task.cancel()
        return self.summary() | {"client_cpu": busy}

    def summary(self) -> dict[str, Any]:
        """Answers a second and percentiles of latencies in ms."""
        within = sum(end <= self.seconds for end in self.ends)
        summary = {
            "per_second": within / self.seconds,
            "requests": self.requests,
            "statuses": dict(self.statuses),
            "errors": sum(count for status, count in self.statuses.items() if status != "200"),
        }
        ordered = sorted(self.latencies)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0)):
            place = min(len(ordered) - 1, int(share * len(ordered)))
            summary[name] = 1e3 * ordered[place] if ordered else float("nan")
        return summary

    async def _connect(self, client: Client) -> None:
        """Connects a client, and again whenever its connection ends."""
        loop = asyncio.get_running_loop()
        while not self.ended.is_set():
            client.reset()
            try:
                await loop.create_connection(lambda: client, self.host, self.port)
            except OSError:
                self.count("refused", time.perf_counter(), time.perf_counter())
                await asyncio.sleep(RETRY)
            else:
                await client.closed.wait()


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for the answer, sends the next."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def reset(self) -> None:
        """Starts the time of a request that needs a new connection."""
        self.begin, self.closed, self.waiting = time.perf_counter(), asyncio.Event(), False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self.transport = cast(asyncio.Transport, transport)
        self._send()

    def _send(self) -> None:
        if self.load.ended.is_set():
            self.transport.close()
            return
        self.buffer, self.length, self.waiting = b"", -1, True
        self.load.waiting += 1
        self.transport.write(self.load.request())

    def data_received(self, data: bytes) -> None:
        """Counts the answer when it is whole."""
        self.buffer += data
        if self.length < 0:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower() + b"\r\n"
            place = head.find(b"content-length:")
            if place < 0:  # none of the servers sends answers in chunks
                raise SystemExit(f"found an answer without a length: {head!r}")
            self.length = end + 4 + int(head[place + 15 : head.index(b"\r\n", place)])
            self.stays = head.startswith(b"http/1.1") and b"connection: close" not in head
        if len(self.buffer) < self.length:
            return
        self._answered(self.buffer[9:12].decode())
        if self.stays:
            self.begin = time.perf_counter()
            self._send()
        else:
            self.transport.close()

    def _answered(self, status: str) -> None:
        self.waiting = False
        self.load.waiting -= 1
        self.load.count(status, self.begin, time.perf_counter())

    def connection_lost(self, exc: Exception | None) -> None:
        """Counts a request whose answer never came."""
        if self.waiting:
            self._answered("lost")
        self.closed.set()


def main() -> None:
    """Runs the task of the standard input."""
    new_event_loop: Any = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        new_event_loop = importlib.import_module("uvloop").new_event_loop

    async def measured() -> dict[str, Any]:
        return await Load(json.load(sys.stdin)).run()  # made within the loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        print(json.dumps(runner.run(measured())))


if __name__ == "__main__":
    main()
