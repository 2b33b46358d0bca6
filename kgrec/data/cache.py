"""Prepared data, kept on disk: made once, mapped into memory ever after.

An entry is a folder, named after the data set and a key that changes with the content of the raw
files, the settings and the code that prepares. It is written under another name and renamed when
it is whole; a lock lets one process do the work while others wait for it. What does not fit
(truncated, foreign, of an older layout) is made anew. :func:`kept` does so for whatever else is
worth keeping.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from kgrec.data import prepared_files
from kgrec.data.dataset import PreparedData
from kgrec.errors import DataError

log = logging.getLogger(__name__)

LAYOUT = 1
"""Of the files below; entries of another layout are made anew."""

_MANIFEST = "manifest.json"

T = TypeVar("T")


@cache
def code_digest(*modules: str) -> str:
    """Changes when the code that reads and prepares does, or further modules of kgrec do."""
    here = Path(__file__).parent
    names = ("raw_tables", "text_files", "csv_files", "prepare", "interactions", "knowledge_graph")
    files = [here / f"{name}.py" for name in names] + sorted((here / "formats").glob("*.py"))
    files += [here.parent / module for module in modules]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(inputs: Mapping[str, Any]) -> str:
    """64 hex digits for all that prepared data depend on, "modules" in ``inputs`` among it."""
    code = code_digest(*inputs.get("modules", ()))
    content = {"layout": LAYOUT, "code": code, **inputs}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached(
    folder: Path | None, name: str, inputs: Mapping[str, Any], make: Callable[[], PreparedData]
) -> PreparedData:
    """Takes prepared data from the cache, or makes them and puts them there.

    Args:
        folder: of the cache; None: make them.
        name: of the data set, for people.
        inputs: plain facts on everything that the data depend on, hashes of the files among them.
        make: makes the data.
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
    """Takes anything from the cache, or makes it and puts it there.

    Args:
        folder: of the cache; None: make it.
        name: for people.
        inputs: plain facts on everything that it depends on; "modules", if there, are the files
            of kgrec's further code that makes it.
        make: makes it.
        save: writes its files into a folder; returns what the manifest should hold, "counts"
            among it.
        load: reads them, given the manifest; may raise what files that do not fit raise.
    """
    if folder is None:
        return make()
    key = key_of(inputs)
    entry = folder / f"{re.sub('[^A-Za-z0-9_.-]', '_', name).lstrip('.')}-{key[:16]}"
    found = _read(entry, key, load)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f"{entry.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process prepares %s; waiting for it", name)
            lock.acquire()
    except OSError as error:
        log.warning("%s: %s; the prepared data are not kept", folder, error)
        return make()
    try:
        found = _read(entry, key, load, log_problem=False)
        if found is None:
            # The lock is ours, so what stands half-written is of a process that has died.
            for stale in folder.glob(f".{entry.name}.*"):
                shutil.rmtree(stale, ignore_errors=True)
            made = make()
            try:
                _write(entry, key, name, inputs, lambda incoming: save(made, incoming))
            except OSError as error:
                log.warning("%s: %s; the prepared data are not kept", entry, error)
                return made
            found = _read(entry, key, load)
        return found if found is not None else made
    finally:
        lock.release()


def _write(
    entry: Path,
    key: str,
    name: str,
    inputs: Mapping[str, Any],
    save: Callable[[Path], Mapping[str, Any]],
) -> None:
    incoming = entry.with_name(f".{entry.name}.{os.getpid()}")
    incoming.mkdir()
    try:
        about = save(incoming)
        manifest = {
            "layout": LAYOUT,
            "key": key,
            "name": name,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "inputs": inputs,
            **about,
            "bytes": {path.name: path.stat().st_size for path in sorted(incoming.iterdir())},
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (incoming / _MANIFEST).write_text(text, encoding="utf-8")
        if entry.exists():  # it did not fit
            shutil.rmtree(entry)
        incoming.rename(entry)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _read(
    entry: Path,
    key: str,
    load: Callable[[Path, Mapping[str, Any]], T],
    log_problem: bool = True,
) -> T | None:
    """What an entry holds, or None where it is missing or does not fit."""
    if not entry.exists():
        return None
    try:
        return load(entry, _manifest(entry, key))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, DataError) as error:
        if log_problem:
            log.warning("%s: %s; the data are prepared anew", entry, error)
        return None


def _manifest(entry: Path, key: str) -> dict[str, Any]:
    """Of an entry whose files are whole."""
    manifest: dict[str, Any] = json.loads((entry / _MANIFEST).read_text(encoding="utf-8"))
    for what, expected in (("layout", LAYOUT), ("key", key)):
        if manifest[what] != expected:
            raise ValueError(f"found {what} {manifest[what]!r}, expected {expected!r}")
    for name, expected in manifest["bytes"].items():
        size = (entry / name).stat().st_size
        if size != expected:
            raise ValueError(f"found {size} bytes in {name}, expected {expected}")
    return manifest


# ------------------------------------------------------------------ looking after it


@dataclass(frozen=True)
class Entry:
    """One folder of the cache.

    Attributes:
        path: the folder.
        name: of the data set; empty for what is no whole entry.
        created: when, ISO 8601 in UTC.
        size: in bytes.
        counts: sizes of the data set.
        usable: whether the present code would take it.
    """

    path: Path
    name: str
    created: str
    size: int
    counts: dict[str, int]
    usable: bool


def entries(folder: Path) -> list[Entry]:
    """What the cache holds, half-written folders of dead processes among it."""
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir()):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        try:
            manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
            usable = manifest["layout"] == LAYOUT and manifest["key"] == key_of(manifest["inputs"])
            about = (manifest["name"], manifest["created"], manifest["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            usable, about = False, ("", "", {})
        found.append(Entry(path, about[0], about[1], size, about[2], usable))
    return found


def clear(folder: Path, name: str | None = None) -> tuple[list[Entry], list[Entry]]:
    """Removes entries: all of them, or those of one data set.

    Returns:
        What was removed, and what was left because a process is at work on it.
    """
    removed, kept = [], []
    for entry in entries(folder):
        if name is not None and entry.name != name:
            continue
        key = entry.path.name
        if key.startswith("."):  # .NAME-KEY.PID, half-written
            key = key[1:].rpartition(".")[0]
        path = folder / f"{key}.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            kept.append(entry)
            continue
        shutil.rmtree(entry.path)
        lock.release()
        path.unlink(missing_ok=True)
        removed.append(entry)
    return removed, kept
