"""Tensors that are larger than the free memory are refused before the memory is taken."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Functions that make a tensor of a given size, as separate numbers or as one sequence.
SIZED = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn})
SIZED_AS = frozenset({Tensor.new_empty, Tensor.new_zeros, Tensor.new_ones, Tensor.new_full})
COUNTED = frozenset({torch.arange, torch.randperm})  # whole numbers, usually of 64 bits
FACTORIES = SIZED | SIZED_AS | COUNTED | {torch.full, torch.randint, torch.eye}
WORTH_A_LOOK = 2**26  # bytes


class TooLarge(MemoryError):  # noqa: N818 - as Python's own
    """A tensor that does not fit into memory.

    Attributes:
        shape: size in each dimension.
        nbytes: bytes of the tensor.
    """

    def __init__(self, shape: tuple[int, ...], nbytes: int) -> None:
        super().__init__(f"a tensor of {' × '.join(map(str, shape))} numbers")
        self.shape, self.nbytes = shape, nbytes


class BoundedAllocations(TorchFunctionMode):
    """While it is entered, no tensor is made on the CPU that is larger than the free memory.

    The system may promise memory that it does not have, and then kill the process that uses it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The result of the function.

        Raises:
            TooLarge: the function would make a tensor larger than the free memory.
        """
        kwargs = kwargs or {}
        if func in FACTORIES and _on_cpu(args, kwargs):
            try:
                shape = _shape(func, args, kwargs)
                nbytes = math.prod(shape) * _itemsize(func, args, kwargs)
            except (LookupError, TypeError, ValueError, ArithmeticError):
                return func(*args, **kwargs)  # torch says what is wrong
            if nbytes > WORTH_A_LOOK and nbytes > psutil.virtual_memory().available:
                raise TooLarge(shape, nbytes)
        return func(*args, **kwargs)


def _shape(func: Any, args: Any, kwargs: Mapping[str, Any]) -> tuple[int, ...]:
    """The size of the tensor that a factory would make.

    It is computed here: on torch's meta device some factories would import a compiler for seconds.
    """
    if func in COUNTED:
        first, *rest = args or (kwargs.get("end", kwargs.get("n", 0)),)
        start, end = (first, rest[0]) if rest else (0, first)
        step = rest[1] if len(rest) > 1 else kwargs.get("step", 1)
        return (max(0, math.ceil((end - start) / step)),)
    if func is torch.eye:
        return (args[0], args[-1])
    if func is torch.randint:
        size = kwargs.get("size", args[-1] if args else ())
    elif func is torch.full or func is Tensor.new_full:
        size = kwargs["size"] if "size" in kwargs else args[0 if func is torch.full else 1]
    else:
        size = args[1:] if func in SIZED_AS else args
        size = size or kwargs.get("size", ())
        if len(size) == 1 and not isinstance(size[0], int):
            size = size[0]
    return tuple(int(n) for n in size)


def _itemsize(func: Any, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Bytes of a number of the tensor that a factory would make."""
    dtype = kwargs.get("dtype")
    if dtype is None and func in SIZED_AS:
        dtype = args[0].dtype
    elif dtype is None:
        whole = func in COUNTED or func is torch.randint
        dtype = torch.int64 if whole else torch.get_default_dtype()
    return int(dtype.itemsize)


def _on_cpu(args: Any, kwargs: Mapping[str, Any]) -> bool:
    device = kwargs.get("device")
    if device is None and args and isinstance(args[0], Tensor):
        device = args[0].device
    return torch.device(device or torch.get_default_device()).type == "cpu"
