"""The cache of prepared data: made once, then mapped into memory.

An entry is a folder, named after the data set and a key. The key changes with the content of the
raw files, the settings and the code that prepares the data. An entry is written under another name
and renamed when it is complete. A lock lets one process do the work while others wait. An entry
that does not fit (damaged, of other code or an older layout) is made again. :func:`kept` caches
other results in the same way.

The manifest has a checksum of every file and of itself, which is compared at every reading. It is
CRC-32, which finds every flipped bit and every burst of up to 32 bits; other damage escapes with
probability 2⁻³². It protects against damage, not against people.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from filelock import FileLock, Timeout
from safetensors import SafetensorError

from kgrec.data import prepared_files
from kgrec.data.dataset import PreparedData
from kgrec.disk_errors import disk_error
from kgrec.errors import DataError
from kgrec.files import atomic_folder, make_folder, remove_leftovers, write_json

log = logging.getLogger(__name__)

LAYOUT = 2
"""Version of the manifest; entries of another layout are made again."""

_MANIFEST = "manifest.json"

_PACKAGE = Path(__file__).parents[1]

# Errors of reading JSON that is damaged.
_DAMAGE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)

T = TypeVar("T")


def code_files(*modules: str) -> list[Path]:
    """Files of the modules, and of all that they import from kgrec, directly or not.

    Args:
        modules: dotted names of modules of kgrec.
    """
    files: dict[str, Path] = {}
    names = list(modules)
    while names:
        name = names.pop()
        base = _PACKAGE.joinpath(*name.split(".")[1:])
        file = next(
            (f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None
        )
        if name in files or file is None:  # an imported name need not be a module
            continue
        files[name] = file
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        names = [name for name in names if name.split(".")[0] == _PACKAGE.name]
    return [files[name] for name in sorted(files)]


@cache
def code_digest(*modules: str) -> str:
    """A hash of the source code of :func:`code_files`."""
    digest = hashlib.sha256()
    for file in code_files(*modules):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(inputs: Mapping[str, Any]) -> str:
    """64 hex digits that change with the inputs and the code of their "modules"."""
    code = code_digest(*inputs.get("modules", ()))
    content = {"layout": LAYOUT, "code": code, **inputs}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached(
    folder: Path | None, name: str, inputs: Mapping[str, Any], make: Callable[[], PreparedData]
) -> PreparedData:
    """Prepared data from the cache; makes and caches the data if they are missing.

    Args:
        folder: folder of the cache; None: make the data without caching them.
        name: name of the data set, for people.
        inputs: everything that the data depend on, see :func:`kept`.
        make: function that makes the data.
    """
    return kept(folder, name, inputs, make, prepared_files.save, prepared_files.load)


def kept(
    folder: Path | None,
    name: str,
    inputs: Mapping[str, Any],
    make: Callable[[], T],
    save: Callable[[T, Path], Mapping[str, Any]],
    load: Callable[[Path, Mapping[str, Any]], T],
) -> T:
    """A result from the cache; makes and caches the result if it is missing.

    Args:
        folder: folder of the cache; None: make the result without caching it.
        name: name of the result, for people.
        inputs: everything that the result depends on, as plain data; "modules" are the names of
            the modules with the functions that make it (what these import, and the module of
            ``save``, are added).
        make: function that makes the result.
        save: function that writes its files into a folder and returns entries for the manifest,
            "counts" among them.
        load: function that reads the files, given the folder and the manifest.
    """
    if folder is None:
        return make()
    inputs = {**inputs, "modules": sorted({*inputs.get("modules", ()), save.__module__})}
    key = key_of(inputs)
    entry = folder / f"{re.sub('[^A-Za-z0-9_.-]', '_', name).lstrip('.')}-{key[:16]}"
    result = _read(entry, key, load)
    if result is not None:
        remove_leftovers(entry)  # of a process that was killed right after it had written the entry
        return result
    try:
        make_folder(folder)
        lock = FileLock(folder / f"{entry.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process prepares %s; waiting for it", name)
            lock.acquire()
    except (OSError, NotImplementedError) as error:  # NotImplementedError: a disk without locks
        reason = disk_error(folder / entry.name, error) or f"{folder}: {error}"
        log.warning("%s; the prepared data are not cached", reason)
        return make()
    try:
        result = _read(entry, key, load, log_problem=False)
        if result is None:
            # This process has the lock, so any half-written entry is of a process that has died.
            for stale in folder.glob(f".{entry.name}.*"):
                shutil.rmtree(stale, ignore_errors=True)
            fresh = make()
            try:
                _write(entry, key, name, inputs, lambda incoming: save(fresh, incoming))
            except OSError as error:
                log.warning("%s; the prepared data are not cached", error)
                return fresh
            result = _read(entry, key, load)
        return result if result is not None else fresh
    finally:
        lock.release()


def _write(
    entry: Path,
    key: str,
    name: str,
    inputs: Mapping[str, Any],
    save: Callable[[Path], Mapping[str, Any]],
) -> None:
    with atomic_folder(entry) as incoming:
        entries = save(incoming)
        files = sorted(incoming.iterdir())
        manifest = {
            "layout": LAYOUT,
            "key": key,
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": inputs,
            **entries,
            "bytes": {path.name: path.stat().st_size for path in files},
            "crc32": {path.name: _checksum(path) for path in files},
        }
        write_json(incoming / _MANIFEST, manifest | {"manifest_crc32": _own_checksum(manifest)})


def _checksum(path: Path) -> int:
    """CRC-32 of a file."""
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            checksum = zlib.crc32(piece, checksum)
    return checksum


def _own_checksum(manifest: Mapping[str, Any]) -> int:
    """CRC-32 of a manifest's content."""
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _read(
    entry: Path,
    key: str,
    load: Callable[[Path, Mapping[str, Any]], T],
    log_problem: bool = True,
) -> T | None:
    """The result in an entry, or None where the entry is missing or does not fit."""
    if not entry.exists():
        return None
    try:
        return load(entry, _manifest(entry, key))
    except (*_DAMAGE, SafetensorError, pl.exceptions.PolarsError, DataError) as error:
        if log_problem:
            log.warning("%s: %s; the data are prepared again", entry, _one_line(error))
        return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _manifest(entry: Path, key: str) -> dict[str, Any]:
    """The manifest of an entry, after its files have been compared with it."""
    manifest: dict[str, Any] = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))
    own = manifest.pop("manifest_crc32")
    if _own_checksum(manifest) != own:
        raise ValueError(f"found a damaged {_MANIFEST}, expected the checksum that it names")
    for field, expected in (("layout", LAYOUT), ("key", key)):
        if manifest[field] != expected:
            raise ValueError(f"found {field} {manifest[field]!r}, expected {expected!r}")
    for name, expected in manifest["bytes"].items():
        size = (entry / name).stat().st_size
        if size != expected:
            raise ValueError(f"found {size} bytes in {name}, expected {expected}")
        if _checksum(entry / name) != manifest["crc32"][name]:
            raise ValueError(
                f"found other content in {name}, expected the checksum of its manifest"
            )
    return manifest


# ------------------------------------------------------------------ list and clear


@dataclass(frozen=True)
class Entry:
    """One folder of the cache.

    Attributes:
        path: the folder.
        name: name of the data set; empty for an incomplete entry.
        created: time of creation, ISO 8601 in UTC.
        size: size in bytes.
        counts: sizes of the data set.
        usable: whether the present code would use the entry.
    """

    path: Path
    name: str
    created: str
    size: int
    counts: dict[str, int]
    usable: bool


def entries(folder: Path) -> list[Entry]:
    """The entries of the cache, also half-written entries of processes that have died."""
    if not folder.is_dir():
        return []
    listed = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        try:
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        except FileNotFoundError:  # another process has just completed or removed it
            continue
        try:
            manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
            usable = manifest["layout"] == LAYOUT and manifest["key"] == key_of(manifest["inputs"])
            facts = (manifest["name"], manifest["created"], manifest["counts"])
        except _DAMAGE:
            usable, facts = False, ("", "", {})
        listed.append(Entry(path, *facts[:2], size, facts[2], usable))
    return listed


def clear(folder: Path, name: str | None = None) -> tuple[list[Entry], list[Entry]]:
    """Removes all entries, or the entries of one data set.

    Returns:
        The removed entries, and the entries that stay because a process is writing them.
    """
    removed, in_use = [], []
    for entry in entries(folder):
        if name is not None and entry.name != name:
            continue
        key = entry.path.name
        if key.startswith("."):  # .NAME-KEY.HOST-PID.incoming, half-written
            key = key[1:].removesuffix(".incoming").rpartition(".")[0]
        path = folder / f"{key}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            in_use.append(entry)
            continue
        try:
            if entry.path.exists():  # not yet removed, or completed, by another process
                shutil.rmtree(entry.path)
                removed.append(entry)
        finally:
            # The lock file stays: of two processes, one could hold the removed file, one a new one.
            lock.release()
    return removed, in_use
