"""``kgrec serve``: finished runs behind HTTP, with a page to look at."""

from __future__ import annotations

import argparse
from typing import Any

from kgrec.commands.run_choice import RUN
from kgrec.errors import ConfigError
from kgrec.serving.processes.hangups import held_hangups

INSTALL = "pip install 'kgrec[serve]'"
DEFAULTS = {  # of kgrec.serving.settings, which the tests compare; --help imports nothing heavy
    "host": "127.0.0.1", "port": 8000, "workers": 1, "max_k": 1000, "max_users": 1000,
    "max_body_bytes": 2**20, "max_concurrent": 256, "timeout_s": 30.0, "batch_users": 256,
}  # fmt: skip


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "serve",
        help="answer requests over HTTP with finished runs, and show a page",
        description="Serves finished runs over HTTP: recommendations, scores, similar items, "
        "reasons, and a page at /. SIGHUP, or POST /admin/reload with a token, loads what each RUN "
        "names by then. The token comes from the environment variable KGREC_SERVE_TOKEN.",
        epilog="examples: kgrec serve latest; kgrec serve new=logs/runs/A old=logs/runs/B "
        f"--workers 2; it needs {INSTALL}",
    )
    parser.add_argument(
        "places", nargs="+", metavar="RUN", help=f"{RUN}; or NAME=RUN for a name in requests"
    )
    parser.add_argument("--host", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, help="port; 0: any (default: %(default)s)")
    parser.add_argument("--workers", type=int, help="processes (default: %(default)s)")
    parser.add_argument(
        "--threads", type=int, default=None, metavar="N",
        help="computing threads of each worker (default: its share of the cores but one)",
    )  # fmt: skip
    parser.add_argument("--device", default="cpu", help="cpu, cuda, … (default: %(default)s)")
    parser.add_argument(
        "--trust", nargs="+", default=[], metavar="PACKAGE",
        help="packages of your own whose models the checkpoint may name",
    )  # fmt: skip
    parser.add_argument(
        "--index", choices=["faiss"], default=None,
        help="approximate index of the items, for large catalogues",
    )  # fmt: skip
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-k", type=int, metavar="N", help="largest k (default: %(default)s)")
    limits.add_argument(
        "--max-users", type=int, metavar="N", help="most users of a request (default: %(default)s)"
    )
    limits.add_argument(
        "--max-body-bytes", type=int, metavar="N", help="largest body (default: %(default)s)"
    )
    limits.add_argument(
        "--max-concurrent", type=int, metavar="N",
        help="requests that a worker answers at the same time (default: %(default)s)",
    )  # fmt: skip
    limits.add_argument(
        "--timeout-s", type=float, metavar="S",
        help="seconds for a body to arrive, and for an answer (default: %(default)s)",
    )  # fmt: skip
    limits.add_argument(
        "--batch-users", type=int, metavar="N",
        help="most users that are scored at once (default: %(default)s)",
    )  # fmt: skip
    logs = parser.add_argument_group("log")
    logs.add_argument(
        "--no-request-log", dest="log_requests", action="store_false",
        help="log no line for each request",
    )  # fmt: skip
    logs.add_argument(
        "--log-ids",
        action="store_true",
        help="log paths with the ids and the query in them, which may be personal data",
    )
    parser.set_defaults(run=run, **DEFAULTS)


def run(arguments: argparse.Namespace) -> None:
    """Serves until it is stopped."""
    with held_hangups():
        _serve(arguments)


def _serve(arguments: argparse.Namespace) -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn.protocols.http.httptools_impl  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"serve: found no package {error.name}, expected {INSTALL}") from error
    from kgrec.serving.settings import ServeSettings

    names = (*DEFAULTS, "threads", "device", "index", "log_requests", "log_ids")
    settings = ServeSettings(
        runs=tuple(arguments.places),
        trust=tuple(arguments.trust),
        **{name: getattr(arguments, name) for name in names},
    )
    from kgrec.serving.processes.server import serve

    serve(settings)
