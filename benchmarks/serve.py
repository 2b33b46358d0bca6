"""``kgrec serve`` under load, with the plain loop and Cornac's serving app on the same machine.

``python benchmarks/serve.py`` trains KGCN on movie-100k (or takes ``--run``), starts one server
after the other, several rounds in turn, and sends requests for ten items of random users from 1, 8
and 64 clients. The load generator (serve_load.py) shares the cores with the server. The answers of
kgrec and of the plain loop are compared first.

``--minutes 10 --clients 64`` holds one load on ``kgrec serve`` instead, with all routes, and states
errors, latency and the slope of the memory. ``--faults`` sends what a server must survive
(serve_faults.py).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import machine, markdown, spread, write
from serve_servers import (
    TOKEN,
    Clients,
    Memory,
    Server,
    exchange,
    http_request,
    kgrec_server,
    plain_server,
    run_folder,
)  # fmt: skip

K = 10
CLIENTS = (1, 8, 64)
SETTLE = 0.1  # share of a soak after which the memory is watched, at most a minute
TOLERANCE = 1e-5  # between scores of the same pair
Start = Callable[[Path], Server]


def kgrec_request(user: str) -> str:
    """Ten items for a user."""
    return http_request("POST", "/recommend", {"users": [user], "k": K}, TOKEN)


def plain_request(user: str) -> str:
    """The same of the plain loop."""
    return http_request("POST", "/recommend", {"user": user, "k": K})


def cornac_request(user: str) -> str:
    """The same of Cornac."""
    return http_request("GET", f"/recommend?uid={user}&k={K}&remove_seen=true")


def installed(*modules: str) -> bool:
    """Whether these modules can be imported."""
    return all(importlib.util.find_spec(module) for module in modules)


def systems(run: Path, user: str, workers: int) -> dict[str, tuple[Start, Callable[[str], str]]]:
    """The servers that can be started here by name: how to start one, and its requests."""
    starts: dict[str, tuple[Start, Callable[[str], str]]] = {}

    def kgrec_of(number: int) -> Start:
        return lambda folder: kgrec_server(run, folder, number)

    def plain_of(app: str, server: str, first: str) -> Start:
        return lambda folder: plain_server(
            run, folder, app, server, first, CORNAC_FOLDER=str(folder)
        )

    for number in sorted({1, workers}):
        name = f"kgrec serve, {number} worker{'' if number == 1 else 's'}"
        starts[name] = kgrec_of(number), kgrec_request
    loops = [("Flask's server", "flask", "score"), ("waitress", "waitress", "score"),
             ("gunicorn", "gunicorn", "score"),
             ("gunicorn, numbers, 1 thread", "gunicorn", "numbers"),
             ("Flask's server", "flask", "cornac"), ("gunicorn", "gunicorn", "cornac")]  # fmt: skip
    for name, server, app in loops:
        needed = {"flask", server} | ({"cornac"} if app == "cornac" else set())
        if not installed(*needed):
            print(f"  left out, because it is not installed: {', '.join(sorted(needed))}")
            continue
        request = cornac_request if app == "cornac" else plain_request
        title = f"Cornac's BPR, {name}" if app == "cornac" else f"plain loop, {name}"
        starts[title] = plain_of(app, server, request(user)), request
    return starts


def answers(server: Server, request: Callable[[str], str], users: list[str]) -> dict[str, Any]:
    """The items of each user as the server gives them."""
    items = {}
    for user in users:
        status, _, body = exchange(server.port, request(user).encode())
        if status != 200:
            raise SystemExit(f"{server.command}: status {status} for user {user}: {body!r}")
        answer = json.loads(body)
        items[user] = (answer.get("results") or [answer])[0]["items"]
    return items


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Users whose items or scores are not the same; equal scores may stand in any order."""
    users = []
    for user, items in ours.items():
        others = {each["item"]: each["score"] for each in theirs[user]}
        last = min(others.values())
        by_rank = zip(items, theirs[user], strict=True)
        same = all(abs(a["score"] - b["score"]) < TOLERANCE for a, b in by_rank) and all(
            abs(each["score"] - others.get(each["item"], last)) < TOLERANCE for each in items
        )
        if not same:
            users.append(user)
    return users


def speed(run: Path, users: list[str], args: argparse.Namespace, folder: Path) -> str:
    """Every server in turn; returns the table."""
    measured: dict[str, dict[int, list[dict[str, Any]]]] = {}
    memory: dict[str, list[float]] = {}
    starts = systems(run, users[0], args.workers)
    if args.only:
        starts = {name: each for name, each in starts.items() if args.only in name}
    checked: dict[str, Any] = {}
    for turn in range(args.rounds):
        for name, (start, request) in starts.items():
            with start(folder) as server:
                if turn == 0 and request is not cornac_request:
                    checked[name] = answers(server, request, users[:: max(1, len(users) // 50)])
                with Memory(server) as watched:
                    for clients in args.clients or CLIENTS:
                        used = server.cpu_seconds()
                        load = Clients(
                            server.port, clients, args.seconds, args.seconds / 4,
                            [request(user) for user in users], turn,
                        ).summary()  # fmt: skip
                        load["server_cpu"] = server.cpu_seconds() - used
                        measured.setdefault(name, {}).setdefault(clients, []).append(load)
                        print(f"  {name}, {clients}: {load}", flush=True)
                memory.setdefault(name, []).append(max(megabytes for _, megabytes in watched.rows))
    first, *others = checked
    for name in others:
        if wrong := differing(checked[first], checked[name]):
            raise SystemExit(f"{name} and {first}: found other items for users {wrong[:5]}")
    header, rows = ["", "clients", "requests/s", "p50, ms", "p99, ms", "errors",
                    "server's CPU, ms a request", "client's CPU", "peak MB"], []  # fmt: skip
    for name, by_clients in measured.items():
        for clients, loads in by_clients.items():
            errors = sum(load["errors"] for load in loads)
            busy = statistics.median(load["client_cpu"] for load in loads)
            rows.append([
                name, str(clients), spread([load["per_second"] for load in loads], 0),
                spread([load["p50"] for load in loads], 1),
                spread([load["p99"] for load in loads], 1), str(errors),
                spread([1e3 * load["server_cpu"] / load["requests"] for load in loads]),
                f"{100 * busy:.0f} %", spread(memory[name], 0),
            ])  # fmt: skip
    table = markdown(header, rows)
    if others:
        pairs = f"the same {K} items for {len(checked[first])} users: {', '.join(checked)}"
        table = f"{table}\n\n{pairs}"
    measurements = {"machine": machine(), "loads": measured, "peak_mb": memory}
    print(f"\n{table}")
    write(args.out, "serve", measurements, table)
    return table


def every_route(users: list[str], items: list[str]) -> list[str]:
    """Requests of a soak: half for known users, the others to all routes."""
    draw = random.Random(1)
    requests = []
    for user in users:
        item, liked = draw.choice(items), draw.sample(items, min(5, len(items)))
        requests += [kgrec_request(user)] * 9
        for path, body in (
            ("recommend", {"users": draw.sample(users, min(8, len(users))), "k": K}),
            ("recommend", {"histories": {"anna": liked}, "k": K}),
            ("recommend", {"users": [user], "candidates": liked, "k": 3}),
            ("score", {"users": [user] * len(liked), "items": liked}),
            ("similar", {"item": item, "k": K}),
            ("explain", {"user": user, "item": item}),
        ):
            requests.append(http_request("POST", f"/{path}", body, TOKEN))
        requests += [http_request("GET", path, token=TOKEN)
                     for path in (f"/users/{user}", f"/items/{item}", "/runs")]  # fmt: skip
    return requests


def soak(
    run: Path, users: list[str], items: list[str], args: argparse.Namespace, folder: Path
) -> str:
    """One load for minutes; returns the table. Errors end the program with 1."""
    clients, seconds = (args.clients or [CLIENTS[-1]])[0], 60 * args.minutes
    settle = min(60.0, SETTLE * seconds)
    with kgrec_server(run, folder, args.workers) as server, Memory(server) as memory:
        requests = every_route(users, items)
        load = Clients(server.port, clients, seconds, settle, requests).summary()
        again = Clients(server.port, 8, 1, 0, requests).summary()
    slope, first = memory.slope(2 * settle), next(m for t, m in memory.rows if t >= 2 * settle)
    columns = {
        "minutes": f"{args.minutes:g}", "clients": str(clients), "workers": str(args.workers),
        "answers": f"{sum(load['statuses'].values()):,}",
        "requests/s": f"{load['per_second']:.0f}", "p50, ms": f"{load['p50']:.1f}",
        "p99, ms": f"{load['p99']:.1f}", "max, ms": f"{load['max']:.1f}",
        "errors": str(load["errors"]), "MB at first": f"{first:.0f}",
        "MB at last": f"{memory.rows[-1][1]:.0f}", "MB an hour": f"{slope:.1f}",
    }  # fmt: skip
    table = markdown(list(columns), [list(columns.values())])
    print(f"\n{table}")
    measurements = {"machine": machine(), "load": load, "memory": memory.rows, "slope": slope}
    write(args.out, "serve_soak", measurements, table)
    if load["errors"] or again["errors"]:
        raise SystemExit(f"errors: found {load['statuses']} and {again['statuses']}, expected 200")
    return table


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", help="run folder; default: train one")
    parser.add_argument("--toy", action="store_true", help="small synthetic data")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8, help="of each load")
    parser.add_argument("--clients", type=int, nargs="+", help="default: 1, 8 and 64")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", help="servers whose name has this text")
    parser.add_argument("--minutes", type=float, help="hold one load on kgrec serve")
    parser.add_argument("--faults", action="store_true", help="what a server must survive")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    begin = time.perf_counter()
    with run_folder(args.run, args.toy) as run, tempfile.TemporaryDirectory() as scratch:
        import kgrec

        rec, folder = kgrec.load(run), Path(scratch)
        users, items = rec.users["user"].to_list(), rec.items["item"].to_list()
        if args.faults:
            from serve_faults import faults

            faults(run, users, items, args, folder)
        elif args.minutes:
            soak(run, users, items, args, folder)
        else:
            speed(run, users, args, folder)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
