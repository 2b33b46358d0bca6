"""Settings of a server."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

from kgrec.errors import ConfigError

VARIABLE = "KGREC_SERVE_SETTINGS"  # by which a worker gets the settings
INDEXES = ("faiss",)
AT_LEAST_ONE = ("workers", "max_k", "max_users", "max_body_bytes", "max_concurrent", "batch_users")


@dataclass(frozen=True)
class ServeSettings:
    """What to serve, where, and within which limits.

    Attributes:
        runs: "RUN" or "NAME=RUN", each as :func:`kgrec.load` takes it; the first is the default.
        host: address to listen on.
        port: port to listen on; 0: any free one.
        workers: number of processes.
        trust: packages of the user's own whose models a checkpoint may name.
        device: device that computes.
        threads: threads that compute in each worker; None: its share of the cores but one.
        max_k: largest k of a request.
        max_users: most users and histories of a request.
        max_body_bytes: largest body of a request.
        max_concurrent: requests that a worker answers at the same time.
        timeout_s: seconds for the body of a request to arrive, and for its answer.
        batch_users: most users that are scored at once.
        log_requests: whether to log a line for each request.
        log_ids: whether these lines have the path with its ids and query, not its pattern alone.
        index: "faiss": an approximate index of the items; None: exact.

    Raises:
        ConfigError: a value that cannot work.
    """

    runs: tuple[str, ...]
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    trust: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int | None = None
    max_k: int = 1000
    max_users: int = 1000
    max_body_bytes: int = 2**20
    max_concurrent: int = 256
    timeout_s: float = 30.0
    batch_users: int = 256
    log_requests: bool = True
    log_ids: bool = False
    index: str | None = None

    def __post_init__(self) -> None:
        for name in AT_LEAST_ONE:
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"{option(name)}: found {value}, expected an integer >= 1")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads: found {self.threads}, expected an integer >= 1")
        if not 0 < self.timeout_s < 86_400:
            raise ConfigError(f"--timeout-s: found {self.timeout_s}, expected seconds above 0")
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"--port: found {self.port}, expected 0 to 65535")
        if self.index is not None and self.index not in INDEXES:
            raise ConfigError(f"--index: found {self.index}, expected {', '.join(INDEXES)}")

    def to_json(self) -> str:
        """The settings as text, for worker processes."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The settings from :meth:`to_json`."""
        values: dict[str, Any] = json.loads(text)
        values |= {name: tuple(values[name]) for name in ("runs", "trust")}
        return cls(**values)


def option(name: str) -> str:
    """The option of the command line for a setting."""
    return f"--{name.replace('_', '-')}"
