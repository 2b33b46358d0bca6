"""A model of what a training step of KGCN costs on W devices: memory, bytes, seconds.

Each of W devices has b = B / W rows of a step, and the rows r of every table with r mod W = rank.
One entity has K sampled neighbours, and there are H layers. Level h of a receptive field has
n_h = b·K^h nodes; m = Σ_{h<=H} b·K^h vectors are read, of which L = b·K^H are leaves.

Distinct ids. A draw of n ids from N equally likely rows has D(N, n) = N·(1 - (1 - 1/N)^n) distinct
ones on average. The neighbours of an entity stay the same, so repeated entities bring no new
neighbours: x_0 = D(items, b), x_h = D(E, K·x_{h-1}), and the levels together have
x = E·(1 - Π_h (1 - x_h / E)) distinct entities.

Seconds of a step: a fixed time; for each kernel the number of its units times its time per unit;
for each exchange a latency and its bytes divided by the bandwidth. Nothing overlaps.

Shapes: E entities, U users, d numbers per row, R relations, W devices.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

FLOAT, ID = 4, 8  # bytes


class Sizes(NamedTuple):
    """What is trained, and on how many devices.

    Attributes:
        entities: E; the first of them are the items.
        users: U.
        items: number of items.
        relations: R.
        d: embedding size.
        K: number of sampled neighbours.
        H: number of layers.
        batch: B, rows of a step over all devices.
        ranks: W.
    """

    entities: int
    users: int
    items: int
    relations: int = 32
    d: int = 32
    K: int = 4
    H: int = 2
    batch: int = 65_536
    ranks: int = 1

    @property
    def rows(self) -> int:
        """b, rows of a step on one device."""
        return self.batch // self.ranks


class Costs(Protocol):
    """Seconds on one kind of device, with W of them at work.

    A kernel's units: ``attend`` an edge (its neighbour, relation, logit and softmax, forward and
    backward); ``unique`` an id; ``fetch`` a row of a large table, rows ascending; ``single`` a row
    of the step's rows and its gradient; ``sums`` a read in a weighted sum, forward and backward;
    ``layer`` a node of an aggregator, forward and backward; ``coalesce`` a row of a sparse
    gradient with repetitions; ``update`` a row of lazy_adam; ``route`` an id that is sorted by its
    rank; ``carry`` a row that is sorted by rank, forward and backward.
    """

    def fixed(self, ranks: int) -> float:
        """A step with one row on each device."""

    def kernel(self, name: str, n: float, d: int, table: float) -> float:
        """A kernel on n units with d numbers each.

        Args:
            name: name of the kernel.
            n: number of units.
            d: numbers per unit.
            table: rows of the table that it reads or writes.
        """

    def all_to_all(self, sent: float, ranks: int) -> float:
        """An exchange in which each device sends so many bytes to others."""

    def all_reduce(self, size: float, ranks: int) -> float:
        """A sum over devices of so many bytes."""


class Counts(NamedTuple):
    """Expected numbers of a step.

    Attributes:
        nodes: n_0 … n_{H-1} of one device.
        edges: edges whose weights one device computes.
        leaves: L.
        reads: m.
        users: distinct users that one device reads.
        entities: distinct entities that one device reads.
        own_users: distinct users of one device that any device reads.
        own_entities: distinct entities of one device that any device reads.
    """

    nodes: list[float]
    edges: float
    leaves: float
    reads: float
    users: float
    entities: float
    own_users: float
    own_entities: float


def distinct(rows: float, n: float) -> float:
    """D(N, n), the expected number of distinct ids of n draws from N rows."""
    return -rows * math.expm1(n * math.log1p(-1 / rows)) if rows > 1 else min(rows, n)


def distinct_entities(s: Sizes, rows: float) -> list[float]:
    """x_0 … x_H, and x, of a batch with so many rows."""
    levels = [distinct(s.items, rows)]
    for _ in range(s.H):
        levels.append(distinct(s.entities, s.K * levels[-1]))
    unread = math.prod(1 - x / s.entities for x in levels)
    return [*levels, s.entities * (1 - unread)]


def counts(s: Sizes) -> Counts:
    """The numbers of a step, in expectation."""
    nodes = [s.rows * distinct(s.entities, s.K**h) for h in range(s.H)]
    edges = sum(n * s.K for n in nodes)
    leaves = nodes[-1] * s.K
    return Counts(
        nodes=nodes,
        edges=edges,
        leaves=leaves,
        reads=sum(nodes) + leaves,
        users=distinct(s.users, s.rows),
        entities=distinct_entities(s, s.rows)[-1],
        own_users=distinct(s.users, s.rows * s.ranks) / s.ranks,
        own_entities=distinct_entities(s, s.rows * s.ranks)[-1] / s.ranks,
    )


# -------------------------------------------------------------- memory and bytes


def shard_rows(rows: int, s: Sizes) -> int:
    """Rows of a table on rank 0, which has most."""
    return -(-rows // s.ranks)


def dense_numbers(s: Sizes) -> int:
    """Numbers of the replicated parameters: relations and, per layer, a matrix and a bias."""
    return s.relations * s.d + s.H * (s.d * s.d + s.d)


def memory(s: Sizes) -> dict[str, int]:
    """Bytes on one device; the moments of Adam are two numbers for each parameter."""
    tables = FLOAT * s.d * (shard_rows(s.users, s) + shard_rows(s.entities, s))
    dense = FLOAT * dense_numbers(s)
    if s.ranks > 1:
        graph = index_bytes(s) * 2 * s.K * shard_rows(s.entities, s)
    else:  # an offset per entity, and an entity and a relation per neighbour
        graph = ID * (s.entities + 1) + 2 * ID * s.entities * s.K
    rows = sum(n * (100 + 24 * s.d * (s.H - h)) for h, n in enumerate(counts(s).nodes))
    return {
        "parameters": tables + dense,
        "moments": 2 * (tables + dense),
        "graph": graph,
        "step": int(rows + 100 * counts(s).leaves),
    }


class Read(NamedTuple):
    """A read of a shared table.

    Attributes:
        n: distinct rows that one device reads.
        row_bytes: bytes of a row.
        trained: whether gradients go back.
    """

    n: float
    row_bytes: int
    trained: bool = True

    def sent(self, ranks: int) -> list[float]:
        """Bytes that one device sends: counts of ids, ids, rows, gradients."""
        away = self.n * (ranks - 1) / ranks
        rows = [self.row_bytes * away] * (2 if self.trained else 1)
        return [ID * (ranks - 1), ID * away, *rows]


def reads(s: Sizes) -> list[Read]:
    """Reads of a step: the user; the neighbours of each level; all vectors."""
    c, levels = counts(s), distinct_entities(s, s.rows)
    neighbors = [Read(x, 2 * s.K * index_bytes(s), trained=False) for x in levels[: s.H]]
    return [Read(c.users, FLOAT * s.d), *neighbors, Read(c.entities, FLOAT * s.d)]


def sent(s: Sizes) -> float:
    """Expected bytes that one device sends to others in the reads of a step."""
    return sum(sum(read.sent(s.ranks)) for read in reads(s)) if s.ranks > 1 else 0.0


def index_bytes(s: Sizes) -> int:
    """Bytes of the number of an entity in a table of neighbours."""
    return FLOAT if s.entities < 2**31 else ID


# -------------------------------------------------------------- seconds


def step(s: Sizes, costs: Costs) -> dict[str, float]:
    """Seconds of the parts of a step; their sum is the step."""
    c, W = counts(s), s.ranks

    def kernel(name: str, n: float, table: float = 0, d: int = s.d) -> float:
        return costs.kernel(name, n, d, table or n)

    compute = kernel("attend", c.edges, s.entities)
    compute += sum(kernel("unique", n) for n in c.nodes[1:]) + kernel("unique", c.reads)
    compute += kernel("single", sum(c.nodes), c.entities) + kernel("sums", c.leaves)
    for layer in range(s.H):
        compute += sum(kernel("layer", n) for n in c.nodes[: s.H - layer])
        compute += sum(kernel("sums", n) for n in c.nodes[1 : s.H - layer])
    tables = (
        # In one process the gradient of users has a row for each row of the batch.
        (c.users, c.own_users, shard_rows(s.users, s), s.rows if W == 1 else c.users),
        (c.entities, c.own_entities, shard_rows(s.entities, s), c.entities),
    )
    update = 0.0
    for n, own, rows, gradients in tables:
        compute += kernel("fetch", n, rows)
        update += kernel("coalesce", gradients) + kernel("update", own, rows)
    parts = {"fixed": costs.fixed(W), "compute": compute, "update": update}
    if W == 1:
        return parts
    order = kernel("unique", s.rows) + kernel("single", s.rows)
    for n in (c.users, c.entities):
        order += kernel("route", n) + kernel("carry", n)
    width = 2 * s.K * index_bytes(s) // FLOAT  # a row of neighbours, as a number of floats
    for n, read in zip(c.nodes, reads(s)[1:-1], strict=True):
        order += kernel("unique", n) + kernel("single", n, d=width) + kernel("route", read.n)
        order += kernel("fetch", read.n, shard_rows(s.entities, s), width)
        order += kernel("carry", read.n, d=width) / 2  # forward only
    exchange = sum(costs.all_to_all(size, W) for read in reads(s) for size in read.sent(W))
    average = costs.all_reduce(FLOAT * dense_numbers(s), W)
    return {**parts, "order": order, "exchange": exchange, "average": average}
