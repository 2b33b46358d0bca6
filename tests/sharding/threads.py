"""Threads in place of processes: collectives of torch.distributed within one process."""

import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

SECONDS = 10  # after which a thread no longer waits for the others


class Threads:
    """A process group of threads; a collective that not all of them call fails.

    Args:
        ranks: number of threads.
    """

    def __init__(self, ranks: int) -> None:
        self.ranks, self.calls = ranks, 0
        self._here, self._barrier = threading.local(), threading.Barrier(ranks)
        self._given: list[Any] = [None] * ranks

    def run(self, function: Callable[[int], Any]) -> list[Any]:
        """The result of a function from ranks, or the error that it raised, of each thread."""
        results: list[Any] = [None] * self.ranks

        def work(rank: int) -> None:
            self._here.rank = rank
            try:
                results[rank] = function(rank)
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(self.ranks)]
        names = ("all_to_all_single", "all_gather", "all_reduce")
        patches = {name: getattr(self, name) for name in names} | {
            "is_initialized": lambda: True, "get_rank": lambda: self._here.rank,
            "get_world_size": lambda: self.ranks,
        }  # fmt: skip
        with mock.patch.multiple(dist, **patches):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return results

    def all_to_all_single(
        self, output: Tensor, sent: Tensor, arrive: Any = None, leave: Any = None
    ) -> None:
        leave = leave or [len(sent) // self.ranks] * self.ranks
        pieces = self._exchange("all_to_all", torch.split(sent, leave))
        own = [piece[self._here.rank] for piece in pieces]
        assert arrive is None or [len(piece) for piece in own] == arrive
        output.copy_(torch.cat(own))

    def all_gather(self, outputs: list[Tensor], sent: Tensor) -> None:
        for output, given in zip(outputs, self._exchange("all_gather", sent), strict=True):
            output.copy_(given)

    def all_reduce(self, tensor: Tensor, op: Any) -> None:
        assert op == dist.ReduceOp.MAX
        tensor.copy_(torch.stack(self._exchange("all_reduce", tensor.clone())).amax(dim=0))

    def _exchange(self, name: str, value: Any) -> list[Any]:
        """What all threads give to the same collective."""
        self._given[self._here.rank] = name, value
        self._barrier.wait(SECONDS)
        given = list(self._given)
        self._barrier.wait(SECONDS)
        assert {of for of, _ in given} == {name}
        return [value for _, value in given]
