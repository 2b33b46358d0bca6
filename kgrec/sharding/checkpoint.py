"""Tables in checkpoints of torch.distributed.checkpoint, for any number of processes.

A table is stored in columns: column c has the rows r with r mod L = c. If the number of processes
divides L, a column belongs to one process, which writes it and reads it in place. Any other number
of processes can read the columns too: a process then reads each column and keeps its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from kgrec.sharding.table import ShardedTable, rows_of_rank

PLAIN, TABLES = "plain.ckpt", "tables"  # in the folder of a checkpoint

# Columns of a table, or a little more: many numbers of processes divide 48.
COLUMNS = 48


def save_tables(tables: Mapping[str, ShardedTable], folder: Path) -> dict[str, dict[str, Any]]:
    """Writes the rows of this process; every process must call it.

    Args:
        tables: tables by name, the same names on all processes.
        folder: folder that all processes see.

    Returns:
        The layout of each table, for :func:`load_tables`: ``shape``, ``dtype`` and ``columns``.
    """
    layouts, columns = {}, {}
    for name, table in tables.items():
        L = math.lcm(table.ranks, COLUMNS) if table.ranks <= COLUMNS else table.ranks
        dtype = str(table.dtype).removeprefix("torch.")
        layouts[name] = {"shape": list(table.shape), "dtype": dtype, "columns": L}
        for c in range(table.rank, min(L, len(table)), table.ranks):
            columns[f"{name}/{c}"] = table.local.detach()[c // table.ranks :: L // table.ranks]
    save(columns, checkpoint_id=folder)
    return layouts


def load_tables(
    tables: Mapping[str, ShardedTable], layouts: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Reads the rows of this process in place; every process must call it.

    Args:
        tables: tables by name.
        layouts: result of :func:`save_tables`.
        folder: the folder that it wrote.
    """
    in_place: dict[str, Tensor] = {}
    for name, table in tables.items():
        L, local = layouts[name]["columns"], table.local.detach()
        if L % table.ranks == 0:
            for c in range(table.rank, min(L, len(table)), table.ranks):
                in_place[f"{name}/{c}"] = local[c // table.ranks :: L // table.ranks]
    load(in_place, checkpoint_id=folder)
    for name, table in tables.items():
        if layouts[name]["columns"] % table.ranks:
            for first, step, rows in columns_of(name, layouts[name], folder):
                ids = torch.arange(first, len(table), step)
                own = ids % table.ranks == table.rank
                table.local.data[ids[own] // table.ranks] = rows[own].to(table.device)


def columns_of(
    name: str, layout: Mapping[str, Any], folder: Path
) -> Iterator[tuple[int, int, Tensor]]:
    """Columns of a stored table, one at a time; one process alone may call it.

    Yields:
        First row, step between rows, and the rows of a column.
    """
    (N, d), L = layout["shape"], layout["columns"]
    for c in range(min(L, N)):
        rows = torch.empty(rows_of_rank(N, c, L), d, dtype=getattr(torch, layout["dtype"]))
        load({f"{name}/{c}": rows}, checkpoint_id=folder, no_dist=True)
        yield c, L, rows


def mapped_table(name: str, layout: Mapping[str, Any], folder: Path, file: Path) -> Tensor:
    """A stored table as a tensor that is mapped from a file, which is written if it is missing.

    Memory holds one column while the file is written, and later the pages that are read.

    Args:
        name: name of the table.
        layout: its layout.
        folder: the folder that :func:`save_tables` wrote.
        file: file of the rows, in order.
    """
    (N, d), dtype = layout["shape"], getattr(torch, layout["dtype"])
    if not file.is_file():
        incoming = file.with_name(f".{file.name}.incoming")
        rows = torch.from_file(str(incoming), shared=True, size=N * d, dtype=dtype).view(N, d)
        for first, step, column in columns_of(name, layout, folder):
            rows[first::step] = column
        del rows
        incoming.rename(file)
    return torch.from_file(str(file), shared=False, size=N * d, dtype=dtype).view(N, d)
