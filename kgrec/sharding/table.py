"""A table of which each process has some rows: row r is on rank r mod W.

To a model it is the weight of an embedding, with the shape of the whole table. Reading rows by
their ids gathers them from the ranks that have them. Drawing initial values gives the same numbers
as in one process. Everything else would need the whole table, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.errors import SettingError
from kgrec.sharding.exchange import gather

# Numbers that are drawn at once. PyTorch draws normal numbers in groups of 16, so chunks that are
# multiples of 16 give the numbers of one draw.
CHUNK = 2**20


class ShardedTable(Tensor):
    """The weight of an embedding (N, d), of which this process has the rows ``local``.

    Attributes:
        local: (rows of this rank, d) parameter that the optimiser updates; row i is row
            ``i * W + rank`` of the table.
    """

    local: nn.Parameter

    @staticmethod
    def __new__(cls, num_rows: int, local: Tensor) -> ShardedTable:
        """Wraps the rows of this rank.

        Args:
            num_rows: N.
            local: rows of this rank, from :func:`rows_of_rank`.
        """
        size = (num_rows, local.shape[1])
        table = torch.Tensor._make_wrapper_subclass(
            cls, size, dtype=local.dtype, device=local.device, requires_grad=local.requires_grad
        )
        is_parameter = isinstance(local, nn.Parameter)
        table.local = local if is_parameter else nn.Parameter(local, local.requires_grad)
        table._is_param = True
        return table  # type: ignore[no-any-return]

    def __init__(self, num_rows: int, local: Tensor) -> None:
        pass

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"ShardedTable({tuple(self.shape)}, local={len(self.local)})"

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Rows for reads by id, draws in place, and facts such as the shape."""
        kwargs = dict(kwargs or {})
        if func in _OWN:
            return _OWN[func](*args, **kwargs)
        if func in _PLAIN or getattr(func, "__name__", "") == "__get__":
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        name = getattr(func, "__name__", str(func))
        raise SettingError(
            f"trainer: found sharded tables and a model that reads a whole table ({name}), "
            "expected a model that reads rows by their ids"
        )

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Refuses every operation on the numbers themselves."""
        raise SettingError(f"found {func} of a sharded table, expected a read of rows by their ids")


def rows_of_rank(num_rows: int, rank: int, ranks: int) -> int:
    """Number of rows of a table of ``num_rows`` rows that are on a rank."""
    return (num_rows - rank + ranks - 1) // ranks


def read(table: ShardedTable, ids: Tensor) -> Tensor:
    """(…, d) rows for ids (…), which may repeat."""
    distinct, places = torch.unique(ids, return_inverse=True)
    return F.embedding(places, gather(table.local, distinct))


def _embedding(ids: Tensor, table: ShardedTable, *_: Any, **__: Any) -> Tensor:
    return read(table, ids)


def _select(table: ShardedTable, dim: int, index: Tensor) -> Tensor:
    if dim != 0:
        raise SettingError("trainer: found a read of columns of a sharded table, expected rows")
    return read(table, index)


def _item(table: ShardedTable, key: Any) -> Tensor:
    if isinstance(key, int):
        return read(table, torch.tensor([key], device=table.local.device))[0]
    if isinstance(key, Tensor) and key.dtype == torch.int64:
        return read(table, key)
    raise SettingError(
        f"trainer: found a read of {key} of a sharded table, expected rows by their ids"
    )


def _drawn(draw: Callable[..., Tensor]) -> Callable[..., ShardedTable]:
    """A draw in place that takes the same numbers as in one process, and keeps those of its rows."""

    def fill(table: ShardedTable, *args: Any, **kwargs: Any) -> ShardedTable:
        N, d = table.shape
        rank, ranks = dist.get_rank(), dist.get_world_size()
        step = max(16, CHUNK // d // 16 * 16)
        for first in range(0, N, step):
            last = N if first + 2 * step > N else first + step  # a short draw has its own way
            rows = draw(table.local.new_empty(last - first, d), *args, **kwargs)
            own = (rank - first) % ranks
            start = (first + own - rank) // ranks
            part = rows[own::ranks]
            table.local.data[start : start + len(part)] = part
            if last == N:
                break
        return table

    return fill


_uniform, _normal = _drawn(Tensor.uniform_), _drawn(Tensor.normal_)


def _init_normal(
    tensor: ShardedTable, mean: float = 0.0, std: float = 1.0, generator: Any = None
) -> ShardedTable:
    return _normal(tensor, mean, std, generator=generator)


def _init_uniform(
    tensor: ShardedTable, a: float = 0.0, b: float = 1.0, generator: Any = None
) -> ShardedTable:
    return _uniform(tensor, a, b, generator=generator)


def _init_constant(tensor: ShardedTable, val: float) -> ShardedTable:
    return _filled(tensor, val)


def _filled(table: ShardedTable, value: float) -> ShardedTable:
    table.local.data.fill_(value)
    return table


def _zeroed(table: ShardedTable) -> ShardedTable:
    return _filled(table, 0.0)


def _detached(table: ShardedTable) -> ShardedTable:
    return ShardedTable(len(table), table.local.detach())


def _required(table: ShardedTable, requires_grad: bool = True) -> ShardedTable:
    table.local.requires_grad_(requires_grad)
    return table


_OWN: dict[Any, Callable[..., Any]] = {
    F.embedding: _embedding,
    Tensor.index_select: _select,
    torch.index_select: _select,
    Tensor.__getitem__: _item,
    Tensor.uniform_: _uniform,
    Tensor.normal_: _normal,
    nn.init.uniform_: _init_uniform,
    nn.init.normal_: _init_normal,
    nn.init.constant_: _init_constant,
    Tensor.fill_: _filled,
    Tensor.zero_: _zeroed,
    Tensor.detach: _detached,
    Tensor.requires_grad_: _required,
}
_PLAIN = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, Tensor.stride, Tensor.is_floating_point,
    Tensor.is_complex, Tensor.__hash__, Tensor.nelement, Tensor.ndimension, Tensor.element_size,
}  # fmt: skip
