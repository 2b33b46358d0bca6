"""Tables in the folder of a checkpoint, which several processes have written.

A checkpoint of ``trainer=sharded`` is a folder. ``plain.ckpt`` has everything but the tables that
the processes share, as a checkpoint of one process. ``tables/`` has the tables and the optimiser's
numbers of their rows; each process has written its own (:mod:`kgrec.sharding.checkpoint`).

The folder may come from a stranger. The layout of the tables is in ``plain.ckpt``, which is read
safely, and each file of ``tables/`` is a file of ``torch.save``, which is read in the same way.
PyTorch's ``.metadata`` is never read, because it is a pickle.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kgrec.errors import CheckpointError, DiskError
from kgrec.files import atomic_file, inside, make_folder
from kgrec.runs.saved_files import map_file, read_saved
from kgrec.sharding.checkpoint import rows_in_order
from kgrec.sharding.table import rows_of_rank

log = logging.getLogger(__name__)

# In the folder of a checkpoint. MAPPED has tables whose rows have been put in order.
PLAIN, TABLES, MAPPED = "plain.ckpt", "tables", "mapped"
DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32")
FILE = re.compile(r"__[0-9]{1,9}_[0-9]{1,9}\.distcp")  # as torch.distributed.checkpoint names it


class StoredTable(NamedTuple):
    """A table in the folder of a checkpoint; its files are there, with their sizes.

    Attributes:
        name: name of the table in the state dict, or with ``/`` and a moment of the optimiser.
        folder: folder of the checkpoint.
        num_rows: N.
        width: d, numbers per row.
        dtype: type of the numbers.
        files: name of the file of each shard; None: a shard without rows.
    """

    name: str
    folder: Path
    num_rows: int
    width: int
    dtype: torch.dtype
    files: tuple[str | None, ...]

    def shards(self) -> list[Tensor]:
        """The rows of each process that wrote the table, mapped from their files, to be read only.

        Raises:
            CheckpointError: a file has other numbers than the layout says.
        """
        return [self._shard(c) for c in range(len(self.files))]

    def _shard(self, c: int, writable: bool = False) -> Tensor:
        size, name = (rows_of_rank(self.num_rows, c, len(self.files)), self.width), self.files[c]
        if name is None:
            return torch.empty(size, dtype=self.dtype)
        path = self.folder / TABLES / name
        try:
            rows = read_saved(path, mapped=True, writable=writable)
        except Exception as error:  # of many kinds, from the zip and pickle readers
            raise CheckpointError(
                f"{path}: found no readable rows ({type(error).__name__}), expected {self.name}"
            ) from None
        if not isinstance(rows, Tensor) or (rows.shape, rows.dtype) != (size, self.dtype):
            found = "a tensor" if isinstance(rows, Tensor) else "no tensor"
            raise CheckpointError(
                f"{path}: found {found} of another size or type, expected {list(size)} numbers of "
                f"type {self.dtype} ({self.name})"
            )
        return rows

    def mapped(self) -> Tensor:
        """(N, d) the table, mapped from a file of its rows in order.

        The file is written on the first call. It lies in the folder of the checkpoint, or, if this
        cannot be written, in the folder for temporary files for as long as it is used.

        Raises:
            CheckpointError: a file has other numbers than the layout says.
            DiskError: the file can be written in neither place.
        """
        if len(self.files) == 1:
            return self._shard(0, writable=True)
        shards = self.shards()
        path = inside(self.folder / MAPPED, f"{self.name}.rows", f"{self.folder}: table")
        size = self.num_rows * self.width * self.dtype.itemsize
        if not path.is_file() or path.stat().st_size != size:
            try:
                make_folder(path.parent)
                with atomic_file(path, size) as temporary, temporary.open("wb") as file:
                    _write(file, shards)
            except DiskError as error:
                log.warning(
                    "warning: %s; the rows of %s are put in order in %s, at each start again",
                    error, self.name, tempfile.gettempdir(),
                )  # fmt: skip
                return self._mapped_elsewhere(shards)
        with path.open("rb") as file:
            return self._table(map_file(file, 0, size))

    def _mapped_elsewhere(self, shards: list[Tensor]) -> Tensor:
        """The table, mapped from a file that has no name any more."""
        size = self.num_rows * self.width * self.dtype.itemsize
        try:
            with tempfile.TemporaryFile() as file:
                _write(file, shards)
                file.flush()
                return self._table(map_file(file, 0, size))
        except OSError as error:
            place = tempfile.gettempdir()
            raise DiskError(
                f"{self.folder / MAPPED}: found no room for {size:,} bytes ({error.strerror}), nor "
                f"in {place}, expected room in one of the two (TMPDIR names the second)"
            ) from error

    def _table(self, numbers: Tensor) -> Tensor:
        return numbers.view(self.dtype).view(self.num_rows, self.width)


def _write(file: Any, shards: list[Tensor]) -> None:
    for block in rows_in_order(shards):
        file.write(block.view(torch.uint8).numpy())


def stored_tables(checkpoint: Mapping[str, Any], folder: Path) -> dict[str, StoredTable]:
    """The tables of a checkpoint folder, by name; nothing is read but the sizes of their files.

    Args:
        checkpoint: content of ``plain.ckpt``.
        folder: the folder.

    Raises:
        CheckpointError: the layout of a table is odd, or a file is missing or of another size.
    """
    layouts = checkpoint.get("tables")
    if not isinstance(layouts, Mapping):
        raise CheckpointError(f"{folder / PLAIN}: found no tables, expected those of a sharded run")
    tables = {}
    for name, layout in layouts.items():
        if not isinstance(name, str) or name in checkpoint["state_dict"]:
            raise CheckpointError(f"{folder / PLAIN}: found {name!r} twice, expected it once")
        tables[name] = _stored(name, layout, folder)
    used = [file for table in tables.values() for file in table.files if file is not None]
    if len(set(used)) < len(used):
        raise CheckpointError(f"{folder / PLAIN}: found a file of two tables, expected one of each")
    return tables


def _stored(name: str, layout: Any, folder: Path) -> StoredTable:
    """A table, whose layout and files are checked."""
    odd = CheckpointError(
        f"{folder / PLAIN}: found an odd layout of the table {name[:80]!r}, expected shape, dtype "
        "and files"
    )
    if not isinstance(layout, Mapping) or layout.keys() != {"shape", "dtype", "files"}:
        raise odd
    shape, dtype, files = layout["shape"], layout["dtype"], layout["files"]
    sizes = isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)
    if not sizes or min(shape) < 1 or dtype not in DTYPES or not isinstance(files, list):
        raise odd
    (num_rows, width), kind, names = shape, getattr(torch, dtype), []
    for c, entry in enumerate(files):
        rows = rows_of_rank(num_rows, c, len(files))
        names.append(_file(folder, entry, rows * width * kind.itemsize, odd))
    if not names:
        raise odd
    return StoredTable(name, folder, num_rows, width, kind, tuple(names))


def _file(folder: Path, entry: Any, least: int, odd: CheckpointError) -> str | None:
    """The name of a shard's file, which is there and has room for the numbers; None: no rows."""
    if entry is None and least == 0:
        return None
    if not isinstance(entry, list) or len(entry) != 2 or least == 0:
        raise odd
    name, size = entry
    if not isinstance(name, str) or not FILE.fullmatch(name) or type(size) is not int:
        raise odd
    path = folder / TABLES / name
    if not path.is_file() or path.stat().st_size != size or size < least:
        found = f"{path.stat().st_size:,} bytes" if path.is_file() else "no such file"
        raise CheckpointError(f"{path}: found {found}, expected {max(size, least):,} bytes")
    return name


def without_moments(tables: Iterable[StoredTable]) -> list[StoredTable]:
    """The tables of the model, without the optimiser's numbers of their rows."""
    return [table for table in tables if "/" not in table.name]
