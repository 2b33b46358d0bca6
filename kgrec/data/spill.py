"""Numbers that may exceed the memory: few stay in memory, many go to a file without a name.

The file has no name in any folder, so it ends with the process, also with one that is killed.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgrec.disk_errors import disk_error

IN_MEMORY = 1 << 24
"""Bytes of one :class:`Spill` that stay in memory."""

Numbers = NDArray[Any]

# Maps of files by the address of their first byte, for :func:`release`.
_MAPS: weakref.WeakValueDictionary[int, mmap.mmap] = weakref.WeakValueDictionary()


class Spill:
    """Numbers of one type, written at any position and read in pieces.

    Args:
        kind: type of the numbers.
        folder: folder on whose disk the file lies; None: the folder of temporary files.
    """

    def __init__(self, kind: str, folder: Path | None) -> None:
        self.kind = np.dtype(kind)
        self.folder = folder
        self.length = 0
        place = None if folder is None else str(folder)
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY, dir=place)  # noqa: SIM115
        weakref.finalize(self, self._file.close)

    def write(self, position: int, numbers: Numbers) -> None:
        """Writes numbers, the first of them at ``position``.

        Raises:
            DiskError: the disk is full.
        """
        content = np.ascontiguousarray(numbers, dtype=self.kind)
        try:
            self._file.seek(position * self.kind.itemsize)
            self._file.write(content.data)
        except OSError as error:
            place = self.folder or Path(tempfile.gettempdir())
            raise disk_error(place, error) or error from error
        self.length = max(self.length, position + len(content))

    def append(self, numbers: Numbers) -> None:
        """Writes numbers behind the last; raises what :meth:`write` raises."""
        self.write(self.length, numbers)

    def read(self, position: int, count: int) -> Numbers:
        """``count`` numbers from ``position`` on, as a new array."""
        numbers = np.empty(count, dtype=self.kind)
        if count:
            self._file.seek(position * self.kind.itemsize)
            self._file.readinto(numbers.data.cast("B"))
        return numbers

    def tensor(self) -> Tensor:
        """All numbers; those of a file are mapped, so that its pages are read when they are used.

        The file lasts as long as the tensor.
        """
        size = self.length * self.kind.itemsize
        if size <= IN_MEMORY:
            return torch.from_numpy(self.read(0, self.length))
        self._file.flush()
        mapped = mmap.mmap(self._file.fileno(), size)
        tensor = torch.from_numpy(np.frombuffer(mapped, dtype=self.kind))
        _MAPS[tensor.data_ptr()] = mapped
        return tensor


def release(tensor: Tensor) -> None:
    """Frees the memory of a mapped tensor; its pages are read again when they are used next.

    Other tensors stay as they are.
    """
    mapped = _MAPS.get(tensor.data_ptr())
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED") and os.name != "nt":
        mapped.madvise(mmap.MADV_DONTNEED)
