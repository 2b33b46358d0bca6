"""Concurrent requests share their work and get the answers that each would get alone."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from http_server import Server

from kgrec.serving.batching import Alone, Batcher, Waiting
from kgrec.serving.errors import RequestError
from kgrec.serving.recommending import Recommend


@dataclass(frozen=True)
class Echo:
    """A job whose answer is its text; "bad" makes its whole batch fail."""

    text: str
    key: str | None = "echo"
    size: int = 1
    batches: list[int] = field(default_factory=list)

    @staticmethod
    def answers(jobs):
        jobs[0].batches.append(len(jobs))
        if any(job.text == "bad" for job in jobs):
            raise ValueError("bad")
        return [job.text.encode() for job in jobs]


def run_batcher(work, batch_users: int = 256):
    """Runs a coroutine function of a batcher, whose thread waits until ``release`` is set."""

    async def main():
        batcher = Batcher(batch_users)
        batcher.start()
        release = threading.Event()
        hold = asyncio.ensure_future(batcher.answer(Alone(lambda: release.wait(30) and b"held")))
        await asyncio.sleep(0.05)
        try:
            return await asyncio.wait_for(work(batcher, release), 30)
        finally:
            release.set()
            await hold
            await asyncio.to_thread(batcher.stop)

    return asyncio.run(main())


def test_what_waits_is_answered_together():
    batches: list[int] = []

    async def work(batcher, release):
        jobs = [batcher.answer(Echo(str(n), batches=batches)) for n in range(20)]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0.05)
        assert batcher.waiting == 20
        release.set()
        return await asyncio.gather(*tasks)

    assert run_batcher(work) == [str(n).encode() for n in range(20)]
    assert batches == [20]


def test_a_batch_has_so_many_users_at_most():
    batches: list[int] = []

    async def work(batcher, release):
        jobs = [Echo(str(n), size=size, batches=batches) for n, size in enumerate([3, 3, 3, 99, 1])]
        tasks = [asyncio.ensure_future(batcher.answer(job)) for job in jobs]
        await asyncio.sleep(0.05)
        release.set()
        return await asyncio.gather(*tasks)

    assert run_batcher(work, batch_users=7) == [b"0", b"1", b"2", b"3", b"4"]
    assert batches == [3, 1, 1]  # 3 + 3 + 1 users, 3 users, 99 users: a request is never cut


def test_an_error_is_of_one_request_alone():
    async def work(batcher, release):
        jobs = [batcher.answer(Echo(text)) for text in ("a", "bad", "b")]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        await asyncio.sleep(0.05)
        release.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, wrong, last = run_batcher(work)
    assert (first, last) == (b"a", b"b")
    assert isinstance(wrong, ValueError)


def test_cancelled_requests_are_not_computed():
    batches: list[int] = []

    async def work(batcher, release):
        tasks = [
            asyncio.ensure_future(batcher.answer(Echo(text, batches=batches))) for text in "abc"
        ]
        await asyncio.sleep(0.05)
        tasks[1].cancel()
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, cancelled, last = run_batcher(work)
    assert (first, last) == (b"a", b"c")
    assert isinstance(cancelled, asyncio.CancelledError)
    assert batches == [2]


def test_single_jobs_and_batches_take_turns():
    order: list[str] = []

    def note(text):
        order.append(text)
        return text.encode()

    async def work(batcher, release):
        single = [Alone(lambda n=n: note(f"single {n}")) for n in range(5)]
        tasks = [asyncio.ensure_future(batcher.answer(job)) for job in single]
        tasks.append(asyncio.ensure_future(batcher.answer(Echo("batch", batches=Noting(order)))))
        await asyncio.sleep(0.05)
        release.set()
        return await asyncio.gather(*tasks)

    class Noting(list):
        def append(self, _):
            order.append("batch")

    run_batcher(work)
    assert order.index("batch") <= 1


def test_a_stopped_batcher_answers_what_waited_and_refuses_more():
    async def main():
        batcher = Batcher(4)
        batcher.start()
        tasks = [asyncio.ensure_future(batcher.answer(Echo(str(n)))) for n in range(9)]
        await asyncio.sleep(0)
        stop = asyncio.create_task(asyncio.to_thread(batcher.stop))
        answers = await asyncio.gather(*tasks)
        await stop
        with pytest.raises(RequestError, match="stopping") as refusal:
            await batcher.answer(Echo("late"))
        assert refusal.value.status == 503
        return answers

    assert asyncio.run(main()) == [str(n).encode() for n in range(9)]


def test_batched_answers_equal_those_of_single_requests(server: Server) -> None:
    rec = server.rec
    users = rec.users["user"].to_list()
    bodies = [
        {"users": [user], "k": 1 + n % 9, "exclude_seen": n % 3 > 0,
         "seen": {user: ["item1", "item2"]} if n % 4 == 0 else None}
        for n, user in enumerate(users)
    ]  # fmt: skip
    bodies += [
        {"users": users[:n], "histories": {"a": [f"item{n}"], "b": ["item1"]}, "k": 3}
        for n in range(6)
    ]
    alone = [server.ok("/recommend", **body) for body in bodies]
    run = server.serving.runs.get(None)
    jobs = [
        Recommend(
            run, run.users.numbers(body["users"], ""),
            [(name, run.items.numbers(items, ""))
             for name, items in body.get("histories", {}).items()],
            body["k"], body.get("exclude_seen", True),
            {user: run.items.numbers(seen, "") for user, seen in (body.get("seen") or {}).items()},
        )
        for body in bodies
    ]  # fmt: skip
    for chosen in (slice(0, len(users)), slice(len(users), None)):
        assert len({job.key for job in jobs[chosen]}) == 1
        answers = Recommend.answers(jobs[chosen])
        for single, text in zip(alone[chosen], answers, strict=True):
            together = httpx.Response(200, content=text).json()
            for one, other in zip(single["results"], together["results"], strict=True):
                for each in (*one["items"], *other["items"]):
                    each["score"] = pytest.approx(each["score"], abs=1e-5)
                assert one == other


@pytest.mark.slow
def test_many_clients_at_once(server: Server) -> None:
    users = server.rec.users["user"].to_list()
    expected = {user: server.ok("/recommend", users=[user]) for user in users}

    def ask(user):
        return user, httpx.post(f"{server.address}/recommend", json={"users": [user]}).json()

    with ThreadPoolExecutor(16) as pool:
        for user, answer in pool.map(ask, users * 3):
            items = [item["item"] for item in answer["results"][0]["items"]]
            assert items == [item["item"] for item in expected[user]["results"][0]["items"]]


def test_health_answers_while_the_thread_computes(server: Server) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow():
        begun.set()
        release.wait(30)
        return b"{}"

    loop = asyncio.new_event_loop()
    server.serving.batcher._queue.put(Waiting(Alone(slow), loop.create_future()))
    assert begun.wait(30)
    try:
        with httpx.Client(base_url=server.address, timeout=10) as client:
            start = time.monotonic()
            assert client.get("/health").status_code == 200
            assert client.get("/ready").status_code == 200
            assert time.monotonic() - start < 5
            with pytest.raises(httpx.TimeoutException):  # a client that gives up
                client.post("/recommend", json={"users": ["user3"]}, timeout=0.2)
    finally:
        release.set()
        loop.close()
    assert server.ok("/recommend", users=["user3"])["results"][0]["items"]
