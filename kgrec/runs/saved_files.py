"""Reads files of ``torch.save``, whoever wrote them: no code in them runs, and sizes are checked.

``torch.load(weights_only=True)`` runs no code either. But it lets a file call constructors that
allocate any size (``bytearray(10**12)``), unpacks compressed entries, and takes the file's word for
the size of a storage, so that it reads memory behind the entry. This reader takes only what a
checkpoint consists of: plain values, OrderedDict, and dense tensors on whole, uncompressed entries.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import pickle
import re
import struct
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

MOST_PLAIN = 2**20  # bytes of the pickle, which has everything but the tensors' numbers
MOST_ENTRIES = 2**22  # bytes of the archive's list of entries
MOST_VALUES, DEEPEST = 2**20, 50  # plain values, each counted wherever it is referred to; nesting
SHARED = 4  # tensors may share numbers, but together not claim more than this times the file
CHUNK = 2**20  # bytes that are read at once
# Python before 3.13 has no name for it. Without it Linux refuses a map larger than memory and swap.
_NO_RESERVE = 0x4000 if sys.platform == "linux" else 0

STORAGES = {
    "Double": torch.float64, "Float": torch.float32, "Half": torch.float16,
    "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32, "Short": torch.int16,
    "Char": torch.int8, "Byte": torch.uint8, "Bool": torch.bool,
}  # fmt: skip
# Of Python's pickles, the operations that a plain value or a tensor needs.
OPERATIONS = (
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1",
    "BINFLOAT", "BINUNICODE", "EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT",
    "BINGET", "LONG_BINGET", "GLOBAL", "REDUCE", "BUILD", "BINPERSID",
)  # fmt: skip


class NotPlainError(ValueError):
    """A file holds something that a checkpoint does not consist of."""


def read_saved(path: Path, mapped: bool = False, writable: bool = True) -> Any:
    """Reads a file of ``torch.save`` onto the CPU.

    Memory is at most the size of the file and 128 MB for its plain values.

    Args:
        path: file.
        mapped: whether the numbers of tensors stay in the file, of which memory has the pages that
            are read; their checksums are then not compared.
        writable: whether mapped tensors may be changed, see :func:`map_file`.

    Raises:
        NotPlainError: the file names code, or claims other sizes than it holds.
        Exception: of many types, from the zip and pickle readers, for a damaged file.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        _check_archive(file, size)
        with zipfile.ZipFile(file) as archive:
            content = _Reader(archive, size, file if mapped else None, writable).load()
    _check_tree(content)
    return content


def map_file(
    file: IO[bytes], begin: int = 0, length: int | None = None, writable: bool = True
) -> Tensor:
    """Bytes of a file as a tensor (uint8), of which memory has the pages that are read.

    Changes of the tensor stay in memory. Unlike :func:`torch.from_file`, a file may be larger than
    the memory.

    Args:
        file: open file, which may be closed afterwards.
        begin: first byte.
        length: number of bytes; None: to the end.
        writable: whether the tensor may be changed. What cannot be changed is no part of the
            memory that ``ulimit -d`` limits; a change ends the process.
    """
    size = os.fstat(file.fileno()).st_size
    length = size - begin if length is None else length
    if begin < 0 or length < 0 or begin + length > size:
        raise ValueError(f"found {size} bytes, expected {begin + length}")
    if length == 0:
        return torch.empty(0, dtype=torch.uint8)
    start = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    extent = begin - start + length
    if os.name == "posix":
        kind = mmap.MAP_PRIVATE | getattr(mmap, "MAP_NORESERVE", _NO_RESERVE)
        use = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        numbers = mmap.mmap(file.fileno(), extent, kind, use, offset=start)
    else:
        numbers = mmap.mmap(file.fileno(), extent, access=mmap.ACCESS_COPY, offset=start)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")
        return torch.frombuffer(numbers, dtype=torch.uint8, count=length, offset=begin - start)


def _check_tree(content: Any) -> None:
    """Refuses what later readers cannot walk: references in a circle, deep or endless nesting."""
    level, count = [content], 0
    for _ in range(DEEPEST):
        parts: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                parts += value.values()
            elif isinstance(value, list) or type(value) is tuple:
                parts += value
            elif not isinstance(value, Tensor | str | int | float | None):
                raise NotPlainError("numbers without a tensor")
            if count + len(parts) > MOST_VALUES:
                raise NotPlainError("too many values")
        level, count = parts, count + len(parts)
    if level:
        raise NotPlainError("values that are nested too deeply")


def _check_archive(file: io.BufferedReader, size: int) -> None:
    """Refuses a file that is not one zip archive from its first to its last byte."""
    if file.read(4) != b"PK\x03\x04":
        raise ValueError("no archive")
    file.seek(max(0, size - 98))
    tail = file.read()
    signature, *_, listed, begin, comment = struct.unpack("<4s4H2LH", tail[-22:])
    end = size - 22
    if tail[:4] == b"PK\x06\x06" and tail[56:60] == b"PK\x06\x07":  # zip64
        listed, begin = struct.unpack("<2Q", tail[40:56])
        end = size - 98
    if signature != b"PK\x05\x06" or comment or begin + listed != end or listed > MOST_ENTRIES:
        raise ValueError("no archive")
    file.seek(0)


class _Storage(NamedTuple):
    """The numbers of an entry."""

    numbers: torch.UntypedStorage
    dtype: torch.dtype


class _Kind(NamedTuple):
    """A dtype that a pickle names as a type of storage."""

    dtype: torch.dtype


class _Reader(pickle._Unpickler):
    """Reads the pickle of an archive, with only the operations of plain values and tensors."""

    stack: list[Any]
    pop_mark: Callable[[], list[Any]]
    dispatch: ClassVar[dict[int, Any]] = {
        ord(getattr(pickle, name)): pickle._Unpickler.dispatch[ord(getattr(pickle, name))]
        for name in OPERATIONS
    }

    def __init__(
        self, archive: zipfile.ZipFile, size: int, mapped: io.BufferedReader | None, writable: bool
    ) -> None:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 for e in entries):
            raise NotPlainError("compressed or encrypted entries")
        if sum(entry.file_size for entry in entries) > size:
            raise NotPlainError("entries larger than the file")
        self.archive, self.size, self.claimed = archive, size, 0
        self.mapped, self.writable = mapped, writable
        self.folder = entries[0].filename.partition("/")[0]
        self.storages: dict[str, _Storage] = {}
        plain = archive.getinfo(f"{self.folder}/data.pkl")
        if plain.file_size > MOST_PLAIN:
            raise NotPlainError(f"{plain.file_size} bytes of plain values, expected {MOST_PLAIN}")
        order = f"{self.folder}/byteorder"
        if order in archive.namelist() and archive.read(order) != sys.byteorder.encode():
            raise NotPlainError("numbers of another byte order")
        super().__init__(io.BytesIO(archive.read(plain)))

    def find_class(self, module: str, name: str) -> Any:
        """One of the few names of a checkpoint; nothing is imported."""
        if module == "torch" and name.endswith("Storage") and name[:-7] in STORAGES:
            return _Kind(STORAGES[name[:-7]])
        path = f"{module}.{name}"
        if path not in ("collections.OrderedDict", "torch._utils._rebuild_tensor_v2"):
            shown = path if re.fullmatch(r"[\w.]{1,80}", path) else "code"
            raise NotPlainError(f"it names {shown}, which was not run")
        return path

    def persistent_load(self, pid: Any) -> _Storage:
        """The numbers of an entry: ``("storage", kind, name, device, count)``."""
        _, kind, name, _, count = pid
        if not (isinstance(kind, _Kind) and isinstance(name, str) and type(count) is int):
            raise NotPlainError("an odd reference to numbers")
        if name not in self.storages:
            self.storages[name] = _Storage(self._numbers(name), kind.dtype)
        storage = self.storages[name]
        if storage.dtype != kind.dtype or storage.numbers.nbytes() != count * kind.dtype.itemsize:
            raise NotPlainError(f"other numbers in an entry than the {count} it claims")
        return storage

    def _numbers(self, name: str) -> torch.UntypedStorage:
        entry = self.archive.getinfo(f"{self.folder}/data/{name}")
        if self.mapped is not None:
            self.mapped.seek(entry.header_offset)
            header = struct.unpack("<4s5H3L2H", self.mapped.read(30))
            begin = entry.header_offset + 30 + header[-2] + header[-1]
            numbers = map_file(self.mapped, begin, entry.file_size, self.writable)
            return numbers.untyped_storage()
        numbers = torch.empty(entry.file_size, dtype=torch.uint8)
        view, done = numbers.numpy(), 0
        with self.archive.open(entry) as source:  # which compares the checksum at the end
            while chunk := source.read(CHUNK):
                view[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
                done += len(chunk)
        if done != entry.file_size:
            raise NotPlainError(f"{done} bytes in an entry, expected {entry.file_size}")
        return numbers.untyped_storage()

    def load_reduce(self) -> None:
        """Makes an empty OrderedDict or a tensor; nothing else can be called."""
        arguments, path = self.stack.pop(), self.stack[-1]
        if path == "collections.OrderedDict" and arguments == ():
            self.stack[-1] = OrderedDict()
        elif path == "torch._utils._rebuild_tensor_v2":
            self.stack[-1] = self._tensor(*arguments[:4])
        else:
            raise NotPlainError("a call")

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any) -> Tensor:
        if not isinstance(storage, _Storage) or any(type(n) is not int or n < 0 for n in size):
            raise NotPlainError("a tensor without numbers or sizes")
        self.claimed += math.prod(size) * storage.dtype.itemsize
        if self.claimed > SHARED * self.size:
            raise NotPlainError("tensors that claim more numbers than the file has")
        tensor = torch.empty(0, dtype=storage.dtype)
        return tensor.set_(storage.numbers, offset, size, stride)  # which checks the bounds

    def load_build(self) -> None:
        """Leaves out the attributes of a state dict, which are only versions of modules."""
        self.stack.pop()
        if type(self.stack[-1]) is not OrderedDict:
            raise NotPlainError("attributes of an object")

    def load_setitem(self) -> None:
        """Sets a value in a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        self._set(key, value)

    def load_setitems(self) -> None:
        """Sets several values in a dictionary."""
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        if not isinstance(self.stack[-1], dict) or type(key) not in (str, int):
            raise NotPlainError(
                f"a key of type {type(key).__name__}"
            )  # a tuple may take long to hash
        self.stack[-1][key] = value

    dispatch[ord(pickle.REDUCE)] = load_reduce
    dispatch[ord(pickle.BUILD)] = load_build
    dispatch[ord(pickle.SETITEM)] = load_setitem
    dispatch[ord(pickle.SETITEMS)] = load_setitems
