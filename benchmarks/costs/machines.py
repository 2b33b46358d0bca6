"""Seconds of kernels and exchanges: as measured here, or from the data sheets of GPUs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

Points = Sequence[Sequence[float]]


def between(points: Sequence[tuple[float, float]], x: float, logarithmic: bool = True) -> float:
    """The value at x between the nearest points (x, y); that of the last point beyond them."""
    points = sorted(points)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x <= x1:
            if x <= x0:
                return y0
            a, b, c = (math.log(v) if logarithmic else v for v in (x0, x1, x))
            return y0 + (y1 - y0) * (c - a) / (b - a)
    return points[-1][1]


class Measured:
    """This machine with some number of processes at work; see :class:`costs.model.Costs`.

    Args:
        constants: results of ``costs/kernels.py``.
    """

    def __init__(self, constants: dict[str, Any]) -> None:
        self._fixed = float(constants["fixed"])
        self._kernels: dict[str, Points] = constants["kernels"]
        self._exchanges: dict[str, Points] = constants.get("exchanges", {})

    def fixed(self, ranks: int) -> float:
        """See :class:`costs.model.Costs`."""
        return self._fixed

    def kernel(self, name: str, n: float, d: int, table: float) -> float:
        """Between the measured numbers of units, widths and sizes of tables."""
        points = self._kernels[name]
        of_width = []
        for width in sorted({p[1] for p in points}):
            of_table = []
            for rows in sorted({p[2] for p in points}):
                curve = [(p[0], p[3]) for p in points if p[1] == width and p[2] == rows]
                of_table.append((rows, between(curve, n)))
            of_width.append((width, between(of_table, max(table, 1))))
        return n * between(of_width, d, logarithmic=False)

    def all_to_all(self, sent: float, ranks: int) -> float:
        """Between the measured numbers of bytes; beyond them in proportion."""
        return _collective(self._exchanges["all_to_all"], sent)

    def all_reduce(self, size: float, ranks: int) -> float:
        """Between the measured numbers of bytes; beyond them in proportion."""
        return _collective(self._exchanges["all_reduce"], size)


def _collective(points: Points, size: float) -> float:
    largest, seconds = points[-1]
    if size > largest:
        return seconds * size / largest
    return between([(b, s) for b, s in points], size, logarithmic=False)


class Traffic(NamedTuple):
    """What a kernel moves in a GPU's memory, for each of its units.

    Attributes:
        fixed: bytes of ids, weights and keys.
        vectors: vectors of d floats that are read or written.
        operations: multiplications and additions, in d².
        launches: kernels that PyTorch launches.
    """

    fixed: float
    vectors: float
    operations: float
    launches: int


# Counted from the operations of the code that benchmarks/costs/kernels.py calls. A key that is
# sorted with its position has 8 passes of a byte each, which read and write 16 bytes.
KERNELS = {
    "attend": Traffic(240, 0, 0, 25),
    "unique": Traffic(8 * 2 * 16 + 64, 0, 0, 12),
    "route": Traffic(8 * 2 * 16 + 64, 0, 0, 10),
    "fetch": Traffic(8, 2, 0, 1),
    "single": Traffic(16, 5, 0, 2),
    "sums": Traffic(4 * 2 * 12 + 60, 3.5, 0, 15),
    "layer": Traffic(0, 20, 6, 12),
    "coalesce": Traffic(8 * 2 * 16 + 32, 3, 0, 8),
    "carry": Traffic(16, 6, 0, 4),
    "update": Traffic(48, 32, 0, 16),
}


class GPU(NamedTuple):
    """A kind of GPU and its network, from data sheets; nothing of it was measured.

    Attributes:
        memory: bytes per second of the device's memory.
        efficiency: share of the data sheet's rates that kernels are assumed to reach.
        operations: float32 operations per second.
        launch: seconds from one kernel's launch to the next.
        per_node: devices that are connected by the fast links.
        link: bytes per second that a device sends to others of its node.
        network: bytes per second that a device sends to other nodes.
        latency: seconds of a collective that sends nothing, in a node.
        far_latency: seconds of a collective that sends nothing, between nodes.
        python: seconds of a step outside of kernels.
    """

    memory: float
    efficiency: float
    operations: float
    launch: float
    per_node: int
    link: float
    network: float
    latency: float
    far_latency: float
    python: float

    def fixed(self, ranks: int) -> float:
        """See :class:`costs.model.Costs`."""
        return self.python

    def kernel(self, name: str, n: float, d: int, table: float) -> float:
        """The longest of moving bytes, computing and launching."""
        k = KERNELS[name]
        moving = n * (k.fixed + k.vectors * 4 * d) / (self.memory * self.efficiency)
        computing = n * k.operations * d * d / (self.operations * self.efficiency)
        return max(moving + computing, k.launches * self.launch)

    def all_to_all(self, sent: float, ranks: int) -> float:
        """The slower of the links of a node and the network between nodes."""
        near = min(ranks, self.per_node) - 1
        far = ranks - 1 - near
        links = sent * near / (ranks - 1) / self.link
        network = sent * far / (ranks - 1) / self.network
        return (self.far_latency if far else self.latency) + max(links, network)

    def all_reduce(self, size: float, ranks: int) -> float:
        """A ring, as fast as its slowest link."""
        far = ranks > self.per_node
        rate = self.network if far else self.link
        latency = self.far_latency if far else self.latency
        return latency + 2 * (ranks - 1) / ranks * size / rate


# One node: NVLink 4. Several: a 400 Gbit/s adapter for each GPU. docs/scale.md has the sources.
H100 = GPU(
    memory=3.35e12, efficiency=0.6, operations=67e12, launch=5e-6, per_node=8, link=335e9,
    network=48e9, latency=30e-6, far_latency=60e-6, python=3e-3,
)  # fmt: skip
H100_ETHERNET = H100._replace(network=0.9 * 100e9 / 8, far_latency=100e-6)
