"""Settings whose sizes do not fit into memory, in the words of the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from kgrec.errors import ConfigError

GIB = 2**30
LEAST = 1000  # smaller numbers are seldom the reason by themselves


class Need(NamedTuple):
    """Memory that could not be had.

    Attributes:
        sizes: sizes in each dimension, or the bytes; empty if they are unknown.
        words: the size in words.
    """

    sizes: tuple[int, ...]
    words: str


def need(error: BaseException | None) -> Need | None:
    """The memory that an error says was not to be had; None if the error is another one."""
    while error is not None:
        text = " ".join(str(error).split())
        if (shape := getattr(error, "shape", None)) is not None and isinstance(error, MemoryError):
            size = getattr(error, "nbytes", None)
            return Need(tuple(shape), text if size is None else f"{text} ({size / GIB:,.2f} GiB)")
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            amount = re.search(r"llocate ([\d.]+ [KMGTPE]iB)", text)
            return Need((), amount[1] if amount else "more memory")
        if asked := re.search(r"can't allocate memory: you tried to allocate (\d+) bytes", text):
            return Need((int(asked[1]),), f"{int(asked[1]) / GIB:,.2f} GiB at once")
        if re.search(r"[Ss]torage size calc.*overflow|Overflow when unpacking long", text):
            return Need((), "more numbers than a computer can count")
        # torch.save raises an error of its own while a MemoryError of its file is handled.
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def message(error: BaseException) -> str | None:
    """One line on an error for lack of memory, wherever it occurs; None for another error."""
    if (found := need(error)) is None:
        return None
    return (
        f"memory: found a need of {found.words}, expected no more than is free; lower batch_size, "
        "eval_batch_size, memory_budget, negatives.ratio, or the sizes of the model (such as "
        "model.d)"
    )


@contextmanager
def fitting(group: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Refuses tensors larger than the free memory, and names the setting that asks for them.

    Args:
        group: configuration group, such as ``model``.
        settings: plain content of the group.

    Raises:
        ConfigError: the settings need more memory than there is.
    """
    import psutil

    from kgrec.training.allocation import BoundedAllocations

    try:
        with BoundedAllocations():
            yield
    except Exception as error:
        if (found := need(error)) is None:
            raise
        free = psutil.virtual_memory().available / GIB
        raise ConfigError(
            f"{_responsible(group, settings, found.sizes)}, which needs {found.words}, expected "
            f"sizes that fit into the {free:,.2f} GiB that are free"
        ) from error


def _responsible(group: str, settings: Mapping[str, Any], sizes: Sequence[int]) -> str:
    """The setting that is a factor of a size; without one, all whole numbers of the group."""
    numbers = dict(_numbers(group, settings))
    factors = {
        key: number
        for key, number in numbers.items()
        if number >= LEAST and any(size % number == 0 for size in sizes)
    }
    if factors:
        key = max(factors, key=factors.__getitem__)
        return f"{key}: found {factors[key]}"
    return ", ".join(f"{key}: found {number}" for key, number in numbers.items()) or group


def _numbers(key: str, value: Any) -> Iterator[tuple[str, int]]:
    """Every whole number of nested settings, with its key; a number of a list has the list's."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _numbers(f"{key}.{name}", part)
    elif isinstance(value, list | tuple):
        whole = [part for part in value if type(part) is int]
        if whole:
            yield key, max(whole)
    elif type(value) is int:
        yield key, value
