"""Checks of the integer tensors in a checkpoint, which are rows of tables or offsets.

A row beyond its table would be an error of torch while a user is scored, and odd offsets may read
memory that is not the model's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from kgrec.errors import CheckpointError

OFFSETS = {"indptr": "neighbors", "offsets": "attributes"}  # offsets and what they divide


def check_index_tensors(state: Mapping[str, Tensor], num_users: int, num_items: int) -> None:
    """Refuses rows that are beyond their table, and offsets that do not ascend to their end.

    Args:
        state: state dict of a model of kgrec.
        num_users: number of users.
        num_items: number of items.

    Raises:
        CheckpointError: names the tensor, what was found and what is expected.
    """
    for name, value in state.items():
        if value.is_floating_point() or value.dtype == torch.bool or not value.numel():
            continue
        least, most = (int(number) for number in value.aminmax())
        lowest = -1 if name.endswith("ripples") else 0  # -1: the user has no ripple set
        limit = _rows(name, state, num_users, num_items)
        if least < lowest or most >= limit:
            outside = least if least < lowest else most
            expected = f"expected {lowest} to {limit - 1}"
            raise CheckpointError(f"{name}: found a number {outside}, {expected}")
        if name.rpartition(".")[2] in OFFSETS:
            ends = int(value[0]), int(value[-1])
            if ends != (0, limit - 1) or bool((value.diff() < 0).any()):
                raise CheckpointError(f"{name}: found odd offsets, expected 0 … {limit - 1}")


def _rows(name: str, state: Mapping[str, Tensor], num_users: int, num_items: int) -> int:
    """Number of rows of the table into which an integer tensor points, or more."""
    prefix, _, kind = name.rpartition(".")
    prefix += "." if prefix else ""
    if kind in OFFSETS:
        return len(state.get(prefix + OFFSETS[kind], ())) + 1
    if kind in ("users", "items"):
        return num_users if kind == "users" else num_items
    if kind == "neighbors":
        return len(state[f"{prefix}indptr"]) - 1 if f"{prefix}indptr" in state else num_items
    tables = {"ripples": "heads", "relations": "relation_", "attributes": "attribute_"}
    if kind in tables:
        begin = prefix + tables[kind]
        lengths = [len(table) for other, table in state.items() if other.startswith(begin)]
    else:
        lengths = [len(t) for t in state.values() if t.is_floating_point() and t.dim()]
    everything = [max(table.shape, default=0) for table in state.values()]
    return max(lengths or everything)
