"""Makes the tables of a model shard by shard, or without memory, while the model is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import nn

from kgrec.sharding.table import ShardedTable, rows_of_rank


class Shares(NamedTuple):
    """The processes that share the tables of a model.

    Attributes:
        rank: number of this process.
        ranks: W, number of processes.
    """

    rank: int
    ranks: int


# Of the model that is being built, with the rows of the smallest table that is shared.
_shares: ContextVar[tuple[Shares, int] | None] = ContextVar("shares", default=None)


def current_shares(num_rows: int) -> Shares | None:
    """The processes that share a table of the model that is being built; None: it stays whole.

    Args:
        num_rows: rows of the table.
    """
    shares, min_rows = _shares.get() or (None, 0)
    return shares if num_rows >= min_rows else None


def empty_table(num_rows: int, d: int, dtype: torch.dtype, shares: Shares) -> ShardedTable:
    """A table (num_rows, d) of data, which is not trained; its numbers are undefined."""
    local = torch.empty(rows_of_rank(num_rows, *shares), d, dtype=dtype)
    return ShardedTable(num_rows, local, *shares)


@contextmanager
def sharded_tables(rank: int, ranks: int, min_rows: int = 1) -> Iterator[None]:
    """Within this context each new ``nn.Embedding`` has only the rows of this rank.

    No process holds a whole table, and the rows have the initial values of one process.

    Args:
        rank: number of this process.
        ranks: number of processes.
        min_rows: tables with fewer rows are not sharded.
    """

    def init(
        original: Callable[..., None],
        self: nn.Embedding,
        num_embeddings: int,
        embedding_dim: int,
        _weight: Any = None,
        **kwargs: Any,
    ) -> None:
        if _weight is not None or num_embeddings < min_rows:
            original(self, num_embeddings, embedding_dim, _weight=_weight, **kwargs)
            return
        local = torch.empty(rows_of_rank(num_embeddings, rank, ranks), embedding_dim)
        table = ShardedTable(num_embeddings, local, rank, ranks)
        original(self, num_embeddings, embedding_dim, _weight=table, **kwargs)
        self.reset_parameters()  # draws as many numbers as one process

    token = _shares.set((Shares(rank, ranks), min_rows))
    try:
        with _embeddings_made_by(init):
            yield
    finally:
        _shares.reset(token)


def tables_without_memory() -> AbstractContextManager[None]:
    """Within this context each new ``nn.Embedding`` is on torch's device without memory, "meta"."""

    def init(original: Callable[..., None], self: nn.Embedding, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **{**kwargs, "device": "meta"})

    return _embeddings_made_by(init)


@contextmanager
def _embeddings_made_by(make: Callable[..., None]) -> Iterator[None]:
    """Within this context ``nn.Embedding`` is made by a function, which gets the original first."""
    original = nn.Embedding.__init__

    def init(self: nn.Embedding, *args: Any, **kwargs: Any) -> None:
        make(original, self, *args, **kwargs)

    nn.Embedding.__init__ = init  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Embedding.__init__ = original  # type: ignore[method-assign]
