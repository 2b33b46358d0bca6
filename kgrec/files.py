"""Paths that users name, and files that are written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.errors import DataError

if TYPE_CHECKING:
    import polars as pl


def user_path(text: str) -> Path:
    """A path that the user named, with ``~`` expanded.

    A relative path starts from the folder in which the command was typed, also where Hydra has
    changed the working directory (``hydra.job.chdir=true``).
    """
    from hydra.core.hydra_config import HydraConfig

    path = Path(text).expanduser()
    if HydraConfig.initialized() and HydraConfig.get().job.chdir:
        path = Path(HydraConfig.get().runtime.cwd) / path
    return path


def expand_home(word: str) -> str:
    """A word of the command line; ``~`` in ``key=~/folder``, which Hydra cannot read, expanded."""
    return re.sub(r"(?<=[=,])~(?=[/,]|$)", str(Path.home()), word)


def quoted(text: str) -> str:
    """Text, such as a path, as a quoted value of Hydra's grammar."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def inside(folder: Path, name: str, key: str) -> Path:
    """The path of a file or folder in ``folder``, whose name comes from data or a configuration.

    Args:
        folder: folder that the path must not leave.
        name: name of the file or folder.
        key: key or file that the name comes from, for the message.

    Raises:
        DataError: the name has a separator or a control character, or means a folder itself.
    """
    if name.strip() in ("", ".", "..") or "/" in name or "\\" in name or min(name) < " ":
        shown = name if len(name) <= 100 else f"{name[:97]}..."
        raise DataError(f"{key}: found {shown!r}, expected a name, without folders")
    return folder / name


def write_text(path: Path, text: str) -> None:
    """Writes a text file in UTF-8."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.incoming")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_parquet(path: Path, table: pl.DataFrame) -> None:
    """Writes a table, and makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.incoming")
    table.write_parquet(temporary)
    temporary.rename(path)
