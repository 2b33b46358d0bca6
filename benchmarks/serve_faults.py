"""What a server must survive: broken requests, slow and absent clients, a killed worker, reloads.

``python benchmarks/serve.py --faults`` runs every attack on one ``kgrec serve`` and counts the
answers by status. After each attack the service must give a known user the same items as before. An
answer with a trace, an unexpected status or a dead service ends the program with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from common import machine, markdown, write
from serve_servers import HOST, TOKEN, Clients, Server, exchange, http_request, kgrec_server

Answers = Counter[str]
TIME_LIMIT = 5  # seconds of a request, on the server under test
AT_ONCE = 48  # requests at once, on the server under test
HUGE = 100 * 2**20  # bytes of a body
BUSY = 20.0  # seconds after an attack in which the server may still be busy with it
REPLACED = 60.0  # seconds in which a worker must be replaced


class Attack:
    """Attacks on a server under test.

    Args:
        server: the server.
        users: raw ids of users.
        items: raw ids of items.
        toy: whether to send little, for tests.
    """

    def __init__(self, server: Server, users: list[str], items: list[str], toy: bool) -> None:
        self.server, self.users, self.items = server, users, items
        self.slow_clients, self.half_open = (20, 200) if toy else (200, 4000)
        self.seconds = 4 if toy else 15
        self.question = recommend({"users": users[:1], "k": 5})
        self.expected = self.ask()

    def ask(self) -> Any:
        """The items and scores of a user, which the server must give soon after an attack.

        Scores are rounded: their last digits depend on how many users are scored together.
        """
        end = time.perf_counter() + BUSY
        status, _, body = exchange(self.server.port, self.question.encode())
        while status == 503 and time.perf_counter() < end:
            time.sleep(0.2)
            status, _, body = exchange(self.server.port, self.question.encode())
        if status != 200:
            raise SystemExit(f"found status {status}, expected 200: {body!r}")
        (result,) = json.loads(body)["results"]
        return [(each["item"], round(each["score"], 4)) for each in result["items"]]

    def statuses(self, requests: Sequence[str | bytes]) -> Answers:
        """Answers by status; each error must have a message and no trace."""
        counts: Answers = Counter()
        for request in requests:
            raw = request.encode() if isinstance(request, str) else request
            try:
                status, _, body = exchange(self.server.port, raw)
            except OSError:
                counts["closed"] += 1
                continue
            counts[str(status)] += 1
            if b"Traceback" in body or b'File "' in body:
                raise SystemExit(f"found a trace: {body!r}")
            if status >= 400 and body.startswith(b"{") and "error" not in json.loads(body):
                raise SystemExit(f"found {body!r}, expected an error with a message")
        return counts

    # ------------------------------------------------------------ bad requests

    def broken_json(self) -> Answers:
        """Bodies that are no JSON, or not the JSON that is expected."""
        bodies = ["{", "", "null", "[]", '"x"', '{"users": "196"}', '{"users": [196.5]}',
                  '{"user": ["196"]}', '{"users": [], "k": "ten"}', '{"users": [null]}',
                  '{"users": ["1"], "k": NaN}', '{"users": ["1"], "k": 1e400}', "[" * 100_000,
                  '{"users": ' + "[" * 100_000, "{" + '"a":{' * 50_000, '{"users": ["\\ud800"]}',
                  '{"users": ["\\u0000"]}']  # fmt: skip
        raw = [b"\xff\xfe\x00", b'{"users": ["\xc3\x28"]}', bytes(range(256))]
        return self.statuses([body_request(text.encode()) for text in bodies]) + self.statuses(
            [body_request(body) for body in raw]
        )

    def unknown_ids(self) -> Answers:
        """Ids that the run does not have, in bodies."""
        long = "x" * 10_000
        return self.statuses([
            recommend({"users": [name]}) for name in ("nobody", "", long, "'; drop", "☃", "-1")
        ] + [
            recommend({"histories": {"anna": ["no such item"]}}),
            recommend({"histories": {"anna": []}}),
            recommend({"users": self.users[:1], "candidates": ["no such item"]}),
            recommend({"users": self.users[:1], "seen": {self.users[0]: ["no such item"]}}),
            recommend({"users": self.users[:1], "run": "no such run"}),
            recommend({"users": self.users[:1], "relation_weights": {"no such relation": 2.0}}),
            recommend({"users": self.users[:1], "relation_weights": {"0": -1.0}}),
            http_request("POST", "/score", {"users": ["nobody"], "items": self.items[:1]}, TOKEN),
            http_request("POST", "/similar", {"item": "no such item"}, TOKEN),
            http_request("POST", "/explain", {"user": "nobody", "item": self.items[0]}, TOKEN),
        ])  # fmt: skip

    def unknown_paths(self) -> Answers:
        """Users, items and paths that do not exist, in addresses."""
        paths = ["/users/nobody", "/items/nothing", "/users/%00", "/items/%ff", "/nothing",
                 "/page/../app.py", "/page/%2e%2e/app.py", "/page//etc/passwd"]  # fmt: skip
        return self.statuses([http_request("GET", path, token=TOKEN) for path in paths])

    def impossible_numbers(self) -> Answers:
        """The number k and others numbers out of range."""
        one = self.users[:1]
        return self.statuses(
            [recommend({"users": one, "k": k}) for k in (0, -1, 10**9, 10**30, 2.5, True)]
            + [recommend({"users": one * 100_000}), recommend({"users": []})]
            + [http_request("POST", "/similar", {"item": self.items[0], "k": k}, TOKEN)
               for k in (0, -1, 10**9)]
            + [http_request("POST", "/explain",
                            {"user": one[0], "item": self.items[0], "top": top}, TOKEN)
               for top in (0, -1, 10**9)]
        )  # fmt: skip

    def huge_bodies(self) -> Answers:
        """Bodies of 100 MB, with and without their length."""
        head = f"POST /recommend HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        block = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with_length = f"{head}Content-Length: {HUGE}\r\n\r\n".encode() + b"x" * HUGE
        chunks = f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + block * (HUGE // 0x10000)
        lying = f"{head}Content-Length: {10**15}\r\n\r\nx".encode()
        return self.statuses([with_length, chunks + b"0\r\n\r\n", lying])

    def no_http(self) -> Answers:
        """Bytes that are no HTTP, and headers without an end."""
        head = f"GET /health HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        return self.statuses([
            b"\x16\x03\x01\x02\x00\x01\x00", b"HELLO\r\n\r\n", b"\x00" * 1000 + b"\r\n\r\n",
            b"GET " + b"/" * 200_000 + b" HTTP/1.1\r\n\r\n",
            f"{head}X: {'x' * 1_000_000}\r\n\r\n".encode(),
            (head + "X: y\r\n" * 20_000 + "\r\n").encode(),
            f"{head}Content-Length: -5\r\n\r\n".encode(),
            b"GET /health HTTP/9.9\r\n\r\n",
        ])  # fmt: skip

    def no_token(self) -> Answers:
        """Requests without the token, or with another."""
        body = {"users": self.users[:1]}
        return self.statuses(
            [http_request("POST", "/recommend", body, token) for token in (None, "", "wrong", "é")]
            + [http_request("POST", "/admin/reload"), http_request("GET", "/runs")]
        )

    # ------------------------------------------------------------ clients that misbehave

    def slow(self) -> Answers:
        """Clients that send a byte of their body now and then; others are answered meanwhile."""
        counts: Answers = Counter()
        request = self.question.encode()
        with connections(self.server, self.slow_clients) as slow:
            for connection in slow:
                connection.sendall(request[:-20])
            end = time.perf_counter() + TIME_LIMIT + 3
            while time.perf_counter() < end:
                for connection in slow:
                    with contextlib.suppress(OSError):
                        connection.sendall(b" ")
                self._answered_meanwhile(counts)
                time.sleep(0.3)
            for connection in slow:
                counts[f"slow: {received(connection)}"] += 1
        return counts

    def half_opened(self) -> Answers:
        """Thousands of connections that send half a request and wait."""
        counts: Answers = Counter()
        with connections(self.server, self.half_open) as opened:
            for connection in opened:
                connection.sendall(b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Le")
            for _ in range(10):
                self._answered_meanwhile(counts)
        counts["half-open"] = len(opened)
        return counts

    def _answered_meanwhile(self, counts: Answers) -> None:
        begin = time.perf_counter()
        counts["others: " + str(exchange(self.server.port, self.question.encode())[0])] += 1
        if time.perf_counter() - begin > TIME_LIMIT:
            raise SystemExit("found an answer that took longer than the time limit")

    def gone(self) -> Answers:
        """Clients that send a request and close before its answer."""
        for _ in range(10 * self.slow_clients):
            with socket.create_connection((HOST, self.server.port)) as connection:
                connection.sendall(self.question.encode())
        return Counter({"gone": 10 * self.slow_clients})

    # ------------------------------------------------------------ under load

    def too_many(self) -> Answers:
        """More requests at once than the limit: some are answered, the others get 503."""
        return self._load(4 * AT_ONCE * len(self.server.workers()), self.seconds).answers()

    def killed_worker(self) -> Answers:
        """A worker that is killed under load, and replaced."""
        clients, before = 8, set(self.server.workers())
        load = self._load(clients, self.seconds)
        time.sleep(self.seconds / 3)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        counts = load.answers()
        end = time.perf_counter() + REPLACED
        while len(now := set(self.server.workers())) < len(before) or victim in now:
            if time.perf_counter() > end:
                raise SystemExit(f"found workers {now}, expected another for {victim}")
            time.sleep(0.2)
        if counts["lost"] + counts["refused"] > clients:
            raise SystemExit(f"found {counts}, expected at most {clients} requests in its hands")
        return counts

    def reloads(self) -> Answers:
        """Reloads under load, by signal and by request: no request may be lost."""
        load = self._load(8, self.seconds)
        ask = http_request("POST", "/admin/reload", token=TOKEN)
        for _ in range(2):
            time.sleep(self.seconds / 5)
            self.server.process.send_signal(signal.SIGHUP)
            time.sleep(self.seconds / 5)
            (status,) = self.statuses([ask])
            if status != "200":
                raise SystemExit(f"POST /admin/reload: found status {status}, expected 200")
        counts = load.answers()
        if set(counts) != {"200"}:
            raise SystemExit(f"found {counts} while the run was loaded anew, expected 200 alone")
        return counts

    def _load(self, clients: int, seconds: float) -> Running:
        requests = [recommend({"users": [user], "k": 10}) for user in self.users[:1000]]
        return Running(Clients(self.server.port, clients, seconds, 0, requests))


class Running:
    """A load at work."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients

    def answers(self) -> Answers:
        """Answers by status, at the end of the load."""
        return Counter(self.clients.summary()["statuses"])


def recommend(body: dict[str, Any]) -> str:
    """A request for recommendations."""
    return http_request("POST", "/recommend", body, TOKEN)


def body_request(body: bytes) -> bytes:
    """A request for recommendations with any bytes as its body."""
    head = (
        f"POST /recommend HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@contextlib.contextmanager
def connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Open connections, as many as this process may have."""
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        wanted = max(limit, min(count + 200, most))  # never fewer than before
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(min(count, limit - 100)):
            connection = socket.create_connection((HOST, server.port), timeout=10)
            opened.append(stack.enter_context(connection))
        yield opened


def received(connection: socket.socket) -> str:
    """The status that was sent to a connection, else whether it is still open."""
    connection.settimeout(0.05)
    try:
        answer = connection.recv(12)
    except TimeoutError:
        return "open"
    except OSError:
        return "closed"
    return answer[9:12].decode() if answer else "closed"


# Attacks in their order, what they are, and the answers that may come.
ATTACKS: tuple[tuple[str, Callable[[Attack], Answers], set[str]], ...] = (
    ("broken JSON", Attack.broken_json, {"422"}),
    ("unknown ids", Attack.unknown_ids, {"422"}),
    ("unknown paths", Attack.unknown_paths, {"404"}),
    ("k = 0, -1, 10^9 and other numbers", Attack.impossible_numbers, {"422"}),
    ("bodies of 100 MB", Attack.huge_bodies, {"413"}),
    ("no HTTP", Attack.no_http, {"400", "431", "505", "200", "404", "closed"}),
    ("no token", Attack.no_token, {"401"}),
    ("slow clients", Attack.slow,
     {"others: 200", "others: 503", "slow: 503", "slow: 408", "slow: closed"}),
    ("half-open connections", Attack.half_opened, {"others: 200", "half-open"}),
    ("clients that leave", Attack.gone, {"gone"}),
    ("more requests than the limit", Attack.too_many, {"200", "503"}),
    ("a worker killed under load", Attack.killed_worker, {"200", "lost", "refused"}),
    ("reload under load", Attack.reloads, {"200"}),
)  # fmt: skip


def faults(
    run: Path, users: list[str], items: list[str], args: argparse.Namespace, folder: Path
) -> str:
    """Every attack in turn; returns the table."""
    workers = max(2, args.workers)
    limits = ("--timeout-s", str(TIME_LIMIT), "--max-concurrent", str(AT_ONCE))
    rows, counted = [], {}
    with kgrec_server(run, folder, workers, *limits) as server:
        attack = Attack(server, users, items, args.toy)
        for name, act, expected in ATTACKS:
            begin = time.perf_counter()
            counts = act(attack)
            shown = ", ".join(f"{count:,} × {status}" for status, count in sorted(counts.items()))
            print(f"  {name}: {shown} ({time.perf_counter() - begin:.1f} s)", flush=True)
            if wrong := set(counts) - expected:
                raise SystemExit(f"{name}: found {wrong}, expected {expected}; see {server.log}")
            if attack.ask() != attack.expected:
                raise SystemExit(f"{name}: found another answer than before")
            rows.append([name, shown, "yes"])
            counted[name] = counts
        log = server.log.read_text(errors="replace")
        if "Traceback" in log:
            raise SystemExit(f"the log of the server: found a trace:\n{log[-3000:]}")
    table = markdown(["attack", "answers by status", "answers as before"], rows)
    print(f"\n{table}")
    write(args.out, "serve_faults", {"machine": machine(), "answers": counted}, table)
    return table
