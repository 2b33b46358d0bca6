"""A table of which each process has some rows: row r is on rank r mod W.

To a model it is the weight of an embedding, with the shape of the whole table. Reading rows by
their ids gathers them from the ranks that have them. Drawing initial values gives the same numbers
as in one process. Everything else would need the whole table, and is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.errors import ConfigError
from kgrec.sharding.exchange import gather

# Numbers that are drawn at once. PyTorch draws normal numbers in groups of 16, so chunks that are
# multiples of 16 give the numbers of one draw.
CHUNK = 2**20


class ShardedTable(Tensor):
    """The weight of an embedding (N, d), of which this process has the rows ``local``.

    Attributes:
        local: (rows of this rank, d) parameter that the optimiser updates; row i is row
            ``i * ranks + rank`` of the table.
        rank: number of this process.
        ranks: W, number of processes.
    """

    local: nn.Parameter
    rank: int
    ranks: int

    @staticmethod
    def __new__(cls, num_rows: int, local: Tensor, rank: int, ranks: int) -> ShardedTable:
        """Wraps the rows of this rank.

        Args:
            cls: the class.
            num_rows: N.
            local: rows of this rank; :func:`rows_of_rank` says how many.
            rank: number of this process.
            ranks: W, number of processes.
        """
        size = (num_rows, local.shape[1])
        table: Any = torch.Tensor._make_wrapper_subclass(
            cls, size, dtype=local.dtype, device=local.device, requires_grad=local.requires_grad
        )
        is_parameter = isinstance(local, nn.Parameter)
        table.local = local if is_parameter else nn.Parameter(local, local.requires_grad)
        table._is_param = True
        table.rank, table.ranks = rank, ranks
        return cast(ShardedTable, table)

    def __init__(self, num_rows: int, local: Tensor, rank: int, ranks: int) -> None:
        pass

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
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
        raise _refusal(getattr(func, "__name__", str(func)))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Refuses every operation on the numbers themselves."""
        raise _refusal(str(func))


def _refusal(use: str) -> ConfigError:
    return ConfigError(
        f"trainer: found sharded tables and a model that reads a whole table ({use}), expected a "
        "model that reads rows by their ids, or trainer=ddp, with which each process has all rows"
    )


def rows_of_rank(num_rows: int, rank: int, ranks: int) -> int:
    """Number of rows of a table of ``num_rows`` rows that are on a rank."""
    return (num_rows - rank + ranks - 1) // ranks


def local_part(parameter: Tensor) -> Tensor:
    """The rows of this rank of a sharded table, or any other parameter itself."""
    return parameter.local if isinstance(parameter, ShardedTable) else parameter


def tables_of(module: nn.Module) -> dict[str, ShardedTable]:
    """Sharded tables of a module, by their names in the state dict."""
    return {n: p for n, p in module.named_parameters() if isinstance(p, ShardedTable)}


def whole_norms(norms: Tensor) -> Tensor:
    """(n,) norms of vectors of which each process has a part; every process must call it.

    Args:
        norms: (n,) norms of the parts of this process.
    """
    squares = norms.double().square()  # in float32 a square may overflow
    dist.all_reduce(squares)
    return squares.sqrt().to(norms.dtype)


def read(table: ShardedTable, ids: Tensor) -> Tensor:
    """(…, d) rows for ids (…), which may repeat."""
    distinct, places = torch.unique(ids, return_inverse=True)
    return F.embedding(places, gather(table.local, distinct))


def _embedding(ids: Tensor, table: ShardedTable, *_: Any, **__: Any) -> Tensor:
    return read(table, ids)


def _select(table: ShardedTable, dim: int, index: Tensor) -> Tensor:
    if dim != 0:
        raise _refusal("index_select of columns")
    return read(table, index)


def _item(table: ShardedTable, key: Any) -> Tensor:
    if isinstance(key, int):
        return read(table, torch.tensor([key], device=table.local.device))[0]
    if isinstance(key, Tensor) and key.dtype == torch.int64:
        return read(table, key)
    raise _refusal("a slice" if isinstance(key, slice) else f"[{type(key).__name__}]")


def _drawn(draw: Callable[..., Tensor]) -> Callable[..., ShardedTable]:
    """A draw in place of the numbers of one process, of which the rows of this rank are kept."""

    def fill(table: ShardedTable, *args: Any, **kwargs: Any) -> ShardedTable:
        N, d = table.shape
        rank, ranks = table.rank, table.ranks
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
    return ShardedTable(len(table), table.local.detach(), table.rank, table.ranks)


def _required(table: ShardedTable, requires_grad: bool = True) -> ShardedTable:
    table.local.requires_grad_(requires_grad)
    return table


def _moved(table: ShardedTable, *args: Any, **kwargs: Any) -> ShardedTable:
    local = table.local.detach().to(*args, **kwargs)
    return ShardedTable(
        len(table), local.requires_grad_(table.requires_grad), table.rank, table.ranks
    )


def _needs_gradients(table: ShardedTable) -> bool:
    return table.local.requires_grad


def _new(name: str) -> Callable[..., Tensor]:
    return lambda table, *args, **kwargs: getattr(table.local, name)(*args, **kwargs)


def _set_data(table: ShardedTable, value: Tensor) -> None:
    table.local.data = local_part(value).data


def _device(table: ShardedTable) -> torch.device:
    return table.local.device


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
    **{getattr(Tensor, name): _new(name) for name in ("new_zeros", "new_full", "new_empty")},
    torch._has_compatible_shallow_copy_type: lambda *_: True,
    Tensor.to: _moved,
    Tensor.cpu: lambda table: _moved(table, "cpu"),
    Tensor.data.__set__: _set_data,  # type: ignore[attr-defined]
    Tensor.device.__get__: _device,
    Tensor.requires_grad.__get__: _needs_gradients,  # type: ignore[attr-defined]
    Tensor.detach: _detached,
    Tensor.requires_grad_: _required,
}
_PLAIN = {
    Tensor.size, Tensor.dim, Tensor.numel, Tensor.__len__, Tensor.stride, Tensor.is_floating_point,
    Tensor.is_complex, Tensor.__hash__, Tensor.nelement, Tensor.ndimension, Tensor.element_size,
}  # fmt: skip
