"""A target of fuzzing: one reader, the folders it reads, and the files of them that change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing.mutations import Files


@dataclass(frozen=True)
class Target:
    """One reader.

    Attributes:
        name: name on the command line and in the table.
        seeds: function that returns folders as a user has them; it takes the folder of materials,
            such as a trained run.
        read: function that reads a folder as kgrec does and returns what the reading must repeat.
            It may raise KgrecError or OSError for a mistake of the user.
        files: patterns of the files that may change.
        share: share of the inputs, relative to other targets; slow readers get few.
        names_folder: whether every message names the folder or one of its files.
        begin: function that prepares a worker, such as one that loads a model; takes the folder of
            materials.
    """

    name: str
    seeds: Callable[[Path], Sequence[Files]]
    read: Callable[[Path], Any]
    files: tuple[str, ...] = ("*",)
    share: float = 1.0
    names_folder: bool = True
    begin: Callable[[Path], None] = lambda _: None


def folder_files(folder: Path) -> Files:
    """The files below a folder, by their path in it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


def write_files(folder: Path, files: Files) -> None:
    """Writes files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
