"""Tables in checkpoints of torch.distributed.checkpoint, for any number of processes.

Each process writes its rows of a table into a file of its own: shard c has the rows r with
r mod W = c, as they lie in memory. So nothing is copied before it is written. A run with another
number of processes, or with one, takes its rows from the shards by strides.

The files are read by :mod:`kgrec.runs.stored_tables`, because PyTorch's reader unpickles
``.metadata``, which may call any function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from kgrec.sharding.table import ShardedTable

BLOCK = 2**22  # bytes of the rows that are put in order at once


def save_tables(tables: Mapping[str, ShardedTable], folder: Path) -> dict[str, dict[str, Any]]:
    """Writes the rows of this process; every process must call it.

    Args:
        tables: tables by name, the same names on all processes.
        folder: folder that all processes see.

    Returns:
        The layout of each table: ``shape``, ``dtype`` and ``files``, with the name and the bytes of
        the file of each shard, or None for a shard without rows.

    Raises:
        Exception: a process could not write its rows; every process raises the error of the first.
    """
    shards = {f"{n}/{t.rank}": t.local.detach() for n, t in tables.items() if len(t.local)}
    # One file for each shard: the writer keeps what it has written until its file is complete.
    writer = FileSystemWriter(folder, single_file_per_rank=False)
    try:
        written = save(shards, storage_writer=writer)
    except CheckpointException as error:
        raise next(failure for failure, _ in error.failures.values()) from error
    places = {index.fqn: place for index, place in written.storage_data.items()}
    layouts = {}
    for name, table in tables.items():
        found = [places.get(f"{name}/{c}") for c in range(table.ranks)]
        files = [None if place is None else [place.relative_path, place.length] for place in found]
        dtype = str(table.dtype).removeprefix("torch.")
        layouts[name] = {"shape": list(table.shape), "dtype": dtype, "files": files}
    return layouts


def take_rows(table: ShardedTable, shards: Sequence[Tensor]) -> None:
    """Fills the rows of this process from the shards of a stored table.

    Row j of shard c is row j·L + c of the table, with L shards; row i of this process is row
    i·W + rank. They are the same row where j·L + c = i·W + rank. This has solutions if
    g = gcd(L, W) divides c - rank; in them j grows in steps of W / g, and i in steps of L / g.

    Args:
        table: table of which this process has some rows.
        shards: the rows of each process that stored the table.
    """
    L, W, rank, local = len(shards), table.ranks, table.rank, table.local.data
    g = math.gcd(L, W)
    for c in range(rank % g, L, g):
        first = next(j for j in range(W // g) if (j * L + c - rank) % W == 0)
        begin = (first * L + c - rank) // W
        local[begin :: L // g].copy_(shards[c][first :: W // g])


def rows_in_order(shards: Sequence[Tensor]) -> Iterator[Tensor]:
    """The rows of a stored table in their order, block by block.

    Args:
        shards: the rows of each process that stored the table; all have as many numbers per row.
    """
    L, num_rows = len(shards), sum(len(shard) for shard in shards)
    row = shards[0][:1]
    step = L * max(1, BLOCK // max(1, L * row.nbytes))
    for first in range(0, num_rows, step):
        block = row.new_empty(min(step, num_rows - first), *row.shape[1:])
        for c, shard in enumerate(shards):
            part = block[c::L]
            part.copy_(shard[first // L : first // L + len(part)])
        yield block


def in_order(shards: Sequence[Tensor]) -> Tensor:
    """The whole table in memory."""
    whole = shards[0].new_empty(sum(map(len, shards)), *shards[0].shape[1:])
    for c, shard in enumerate(shards):
        whole[c :: len(shards)] = shard
    return whole
