"""What a training step moves between processes: exact for given ids, and expected for a model.

A read of a table with distinct ids sends, from each process to the others,

    8·(W - 1)    the number of ids for each process
    8·n_away     ids whose rows are on other processes
    b·n_asked    rows that other processes want, of b bytes each
    b·n_away     gradients of the rows that came from other processes, if the table is trained

with n_away the distinct ids of this process that are on other processes, and n_asked those of other
processes that are on this one. :data:`kgrec.sharding.exchange.MOVED` counts the same bytes. If ids
are spread evenly, a share (W - 1) / W of the distinct ids is away, and the mean of n_asked over
processes is that of n_away.

The average of the dense gradients is DistributedDataParallel's own, and no part of that counter: by
a ring, each process sends 2·(W - 1) / W times the bytes of all dense parameters.

Shapes: W processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

ID = 8  # bytes of an id, and of a count of ids


class Read(NamedTuple):
    """One read of a table in every step.

    Attributes:
        ids: ids that each process reads in a step, with repetitions.
        rows: rows of the table that are read, N.
        row_bytes: bytes of a row.
        trained: whether gradients go back.
    """

    ids: float
    rows: int
    row_bytes: int
    trained: bool = True


def bytes_of_read(ids: Sequence[Tensor], row_bytes: int, trained: bool = True) -> Tensor:
    """(W,) bytes that each process sends in one read, forward and backward.

    Args:
        ids: the ids that each process reads, which may repeat.
        row_bytes: bytes of a row.
        trained: whether gradients go back.
    """
    W = len(ids)
    # Row i has the numbers of distinct ids that process i reads of each process.
    wanted = torch.stack([torch.bincount(torch.unique(part) % W, minlength=W) for part in ids])
    away, asked = wanted.sum(dim=1) - wanted.diag(), wanted.sum(dim=0) - wanted.diag()
    return ID * (W - 1) + ID * away + row_bytes * (asked + trained * away)


def expected_distinct(ids: float, rows: int, weights: Tensor | None = None) -> float:
    """Expected number of distinct rows among ids that are drawn independently.

    N · (1 - (1 - 1/N)^n) if all rows are alike, and Σ_i 1 - (1 - p_i)^n in general. Unequal rows
    have fewer distinct ids, so the formula for equal rows is an upper bound.

    Args:
        ids: number of ids n.
        rows: number of rows N.
        weights: (N,) relative frequency of each row; None: all are equal.
    """
    if weights is None:
        shares, times = torch.tensor([1 / rows], dtype=torch.float64), rows
    else:
        shares, times = weights.double() / weights.double().sum(), 1
    return float(times * -torch.expm1(ids * torch.log1p(-shares)).sum())


def expected_bytes(read: Read, processes: int, weights: Tensor | None = None) -> float:
    """Expected bytes that a process sends in one read, the mean over processes.

    Args:
        read: the read.
        processes: W.
        weights: see :func:`expected_distinct`.
    """
    away = expected_distinct(read.ids, read.rows, weights) * (processes - 1) / processes
    return ID * (processes - 1) + away * (ID + read.row_bytes * (1 + read.trained))


def bytes_of_step(reads: Sequence[Read], processes: int, dense_bytes: int = 0) -> float:
    """Expected bytes that a process sends in one step, the mean over processes.

    Args:
        reads: reads of a step, such as :func:`reads_of_kgcn`.
        processes: W.
        dense_bytes: bytes of the dense parameters, whose gradients are averaged; 0: leave out what
            the counter leaves out.
    """
    ring = 2 * (processes - 1) / processes * dense_bytes
    return ring + sum(expected_bytes(read, processes) for read in reads)


def reads_of_kgcn(
    rows: float,
    users: int,
    entities: int,
    d: int,
    K: int,
    H: int,
    index_bytes: int = 4,
    items: int | None = None,
) -> list[Read]:
    """Reads of one step of KGCN with K sampled neighbours, if items and neighbours spread evenly.

    A row reads its user. The neighbours of an entity, with their relations, are read once, however
    many rows reach it: so level h + 1 has K entities for each distinct one of level h. All vectors
    of entities of a step are one read. Paths that return to an entity make the real numbers
    smaller, most where entities have few more than K neighbours.

    Args:
        rows: positives and negatives that each process has in a step.
        users: rows of the table of users.
        entities: rows of the table of entities.
        d: embedding size.
        K: number of sampled neighbours.
        H: number of hops.
        index_bytes: bytes of the number of an entity: 4, or 8 from 2^31 entities on.
        items: number of items, among which the first level is; None: as many as entities.
    """
    levels, sizes = [rows], [items or entities, *[entities] * H]
    for size in sizes[:-1]:
        levels.append(K * expected_distinct(levels[-1], size))
    neighbors = [
        Read(ids, size, 2 * K * index_bytes, trained=False)
        for ids, size in zip(levels[:-1], sizes, strict=False)
    ]
    return [Read(rows, users, 4 * d), *neighbors, Read(sum(levels), entities, 4 * d)]
