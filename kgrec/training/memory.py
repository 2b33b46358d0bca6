"""Memory of a training step: estimated from real degrees before training, limited by a budget."""

from __future__ import annotations

import gc
import math
import os
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor

from kgrec.data.batches import ListwiseBatch, PairwiseBatch, PointwiseBatch
from kgrec.errors import ConfigError
from kgrec.models.inner_product import InnerProduct
from kgrec.models.recommender import Recommender
from kgrec.sharding.table import local_part

GIB = 2**30
# Parameter, gradient and Adam's two moments.
COPIES_OF_PARAMETERS = 4
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Bytes of a step that a second thread speeds up by more than it disturbs (docs/performance.md).
WORTH_SHARING = 2**23
# Bytes of a score in a list that all rows share: score, log_q, weights, their gradients.
BYTES_OF_SHARED = 24
# Bytes of a row of an epoch: user, item and place in the order as int64, label.
BYTES_OF_ROW = 28


class Lists(NamedTuple):
    """The lists of negatives of a training step.

    Attributes:
        length: number of negatives of a positive.
        shared: whether all rows have the same list.
    """

    length: int = 1
    shared: bool = False


def threads_for(
    recommender: Recommender,
    items: Tensor,
    batch_size: int,
    cores: int | None = None,
    lists: Lists = Lists(),  # noqa: B008
) -> int:
    """One CPU thread for steps too small to share, every core for others.

    Args:
        recommender: the model.
        items: (n,) items as training meets them.
        batch_size: rows per step.
        cores: CPU cores that this process may use; None: all.
        lists: see :class:`RowBudget`.
    """
    whole, _ = RowBudget(recommender, math.inf, lists).step_bytes(items, batch_size)
    return (cores or CORES) if whole >= WORTH_SHARING else 1


def available_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory of this process so far in GB: on the GPU that it trains on, else its RAM."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource
    import sys

    unit = 1 if sys.platform == "darwin" else 1024  # bytes of the system's unit
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def forget_peak_memory() -> None:
    """Frees GPU memory of earlier runs in this process, and resets the peak.

    On a CPU the peak of a process cannot be reset.
    """
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


class RowBudget:
    """Cuts a batch into pieces that need no more than a budget, as far as rows can be estimated.

    The loss is a mean over rows, so the gradients of the pieces, each weighted by its share of
    the rows, add up to the gradient of the whole. Nothing is approximated; only one piece's
    receptive field is alive at a time.

    Args:
        recommender: the model.
        budget: bytes.
        lists: lists of negatives, for estimates before training.
    """

    def __init__(
        self,
        recommender: Recommender,
        budget: float,
        lists: Lists = Lists(),  # noqa: B008
    ) -> None:
        self.budget = budget
        self.fixed = recommender.fixed_bytes()
        kinds = recommender.step_batches
        # Only for these batches is the loss one mean over rows.
        self.cuttable = len(kinds) == 1 and kinds[0] in (
            PointwiseBatch, PairwiseBatch, ListwiseBatch,
        )  # fmt: skip
        bytes_per_row = recommender.bytes_per_row(torch.arange(recommender.catalogue_size))
        self._bytes = bytes_per_row.ceil().long()  # whole numbers: not all devices have float64
        self._most = float(self._bytes.max())
        self._lists = lists if kinds[0] is ListwiseBatch else None
        # A model's own rows may be pairs; of another model a pair has two rows.
        pairs = kinds[0] is PairwiseBatch and recommender.batches[0] is not PairwiseBatch
        self._scores = 2 if pairs else 1
        # In a list that all rows share only numbers are added, if the vectors are shared too.
        self._is_product = isinstance(recommender.trained_part, InnerProduct)

    def cut(self, batches: tuple[Any, ...]) -> list[tuple[tuple[Any, ...], float]]:
        """Pieces of one step, each with its share of the rows.

        Args:
            batches: one batch of each kind; only a lone batch of interactions is cut, because the
                means of several kinds are not over the same rows.
        """
        batch = batches[0]
        rows, most = len(batch.users), self._scores * self._most
        if isinstance(batch, ListwiseBatch):
            shared = batch.shared() is not None
            most += self._list_bytes(Lists(batch.negatives.shape[1], shared), self._most)
        if not self.cuttable or rows * most <= self.budget:
            return [(batches, 1.0)]
        if self._bytes.device != batch.users.device:
            self._bytes = self._bytes.to(batch.users.device)
        needed = self._bytes_of(batch).cumsum(0)
        number = torch.div(needed, max(1, int(self.budget)), rounding_mode="floor")
        sizes = torch.unique_consecutive(number, return_counts=True)[1].tolist()
        parts = zip(*(torch.split(column, sizes) for column in batch), strict=True)
        return [
            ((type(batch)(*part),), size / rows) for part, size in zip(parts, sizes, strict=True)
        ]

    def _bytes_of(self, batch: Any) -> Tensor:
        """(B,) bytes of the rows of a batch."""
        needed = self._scores * self._bytes[batch[1]]  # of a pair or a list, the positive
        if not isinstance(batch, ListwiseBatch):
            return needed
        if self._is_product and batch.shared() is not None:
            return needed + BYTES_OF_SHARED * batch.negatives.shape[1]
        return needed + self._bytes[batch.negatives].sum(dim=1)

    def _list_bytes(self, lists: Lists, each: float) -> float:
        """Bytes of a list of negatives, from the bytes of a score of its own."""
        return lists.length * (BYTES_OF_SHARED if lists.shared and self._is_product else each)

    def step_bytes(self, items: Tensor, batch_size: int) -> tuple[float, float]:
        """Estimated bytes of a whole step on rows of such items (n,), and of its largest piece."""
        rows = self._row_bytes(items, batch_size)
        piece = min(rows, self.budget + self._row(self._most)) if self.cuttable else rows
        return self.fixed + rows, self.fixed + piece

    def pieces(self, items: Tensor, batch_size: int) -> int:
        """Estimated number of pieces into which a step on rows of such items (n,) is cut."""
        return math.ceil(self._row_bytes(items, batch_size) / self.budget) if self.cuttable else 1

    def _row_bytes(self, items: Tensor, batch_size: int) -> float:
        return min(batch_size, 2 * len(items)) * self._row(_mean(self._bytes[items]))

    def _row(self, each: float) -> float:
        """Bytes of a row, from the bytes of a score."""
        return self._scores * each + (self._list_bytes(self._lists, each) if self._lists else 0)


def check_rows(ratio: int, rows: int, device: torch.device) -> None:
    """Refuses an epoch whose rows would not fit.

    Args:
        ratio: negatives for each positive.
        rows: rows of an epoch.
        device: device of the training, on which the rows are drawn.

    Raises:
        ConfigError: users, items, labels and order of the rows exceed the free memory.
    """
    needed, free = rows * BYTES_OF_ROW, available_bytes(device)
    if needed > free:
        raise ConfigError(
            f"negatives.ratio: found {ratio}, with which an epoch has {rows} rows and needs "
            f"{needed / GIB:.2f} GiB, expected at most the {free / GIB:.2f} GiB that are free on "
            f"{device}"
        )


def check_memory(
    recommender: Recommender,
    items: Tensor,
    batch_size: int,
    budget: float,
    device: torch.device,
    lists: Lists = Lists(),  # noqa: B008
    averages: bool = False,
) -> int:
    """Refuses a training step that would not fit, even in pieces.

    Args:
        recommender: the model.
        items: (n,) items as training meets them.
        batch_size: rows per step.
        budget: bytes that one piece of a step may need.
        device: device of the training.
        lists: see :class:`RowBudget`.
        averages: whether an average of the parameters is kept.

    Returns:
        Estimated number of pieces of a step.

    Raises:
        ConfigError: the estimate exceeds the free memory; the message says what to lower.
    """
    own = {name: local_part(p) for name, p in recommender.named_parameters()}
    parameters = sum(p.nbytes for p in own.values())
    rows = RowBudget(recommender, budget, lists)
    _, piece = rows.step_bytes(items, batch_size)
    parameters *= COPIES_OF_PARAMETERS + averages
    needed, free = parameters + piece, available_bytes(device)
    if parameters > free:
        name, table = max(own.items(), key=lambda pair: pair[1].nbytes)
        raise ConfigError(
            f"model: found {' × '.join(map(str, table.shape))} numbers in {name}, the largest "
            f"parameter; all parameters, their gradients and Adam's moments need "
            f"{parameters / GIB:.2f} GiB, expected at most the {free / GIB:.2f} GiB that are free "
            f"on {device}; lower the sizes of the model, such as model.d"
        )
    if needed > free:
        raise ConfigError(
            f"memory_budget: found {budget / GIB:.2f} GiB for a piece of a step; with the "
            f"parameters, their gradients and Adam's moments "
            f"({parameters / GIB:.2f} GiB) training needs about "
            f"{needed / GIB:.2f} GiB, expected at most the {free / GIB:.2f} GiB that are free on "
            f"{device}; lower memory_budget, batch_size, or the model's receptive field (model.K, "
            "model.H) and size (model.d)"
        )
    return rows.pieces(items, batch_size)


def evaluation_batch_size(recommender: Recommender, items: Tensor, budget: float = GIB) -> int:
    """Number of rows to score at once so that ``budget`` bytes are enough."""
    return int(max(64, min(65_536, budget / max(1.0, _mean(recommender.bytes_per_row(items))))))


def _mean(values: Tensor) -> float:
    return float(values.cpu().double().mean())
