"""Settings of a server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServeSettings:
    """What to serve, where, and within which limits."""

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
    log_ids: bool = False
    index: str | None = None
