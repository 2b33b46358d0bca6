"""Checkpoints that are written whole or not at all."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from kgrec.files import copy_file, make_folder, replacement, write_bytes
from kgrec.runs.checkpoints import whole_checkpoint
from kgrec.runs.stored_tables import MAPPED


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint in its own folder, and renames it when the disk has all of it.

    Lightning writes to a temporary file in TMPDIR and moves it. Between file systems a move is a
    copy onto the old checkpoint, so a kill or a full disk would leave a part of it.

    The bytes are made in memory before a file is opened, as Lightning does, so an error of
    ``torch.save`` touches no file, and the message of a full disk can say how many bytes there are.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: state of the training, as Lightning makes it.
            path: checkpoint file on a local or mounted disk.
            storage_options: not used, as with Lightning's own class.

        Raises:
            DiskError: the file cannot be written; an older checkpoint of this name is intact.
        """
        content, path = io.BytesIO(), Path(path)
        torch.save(checkpoint, content)
        if not path.is_dir():
            make_folder(path.parent)
            write_bytes(path, content.getbuffer())
            return
        with replacement(path) as file:  # a sharded run has left a folder
            file.write_bytes(content.getbuffer())

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Reads a checkpoint; that of a sharded run with whole tables.

        Args:
            path: file or folder.
            args: arguments of Lightning's own method.
            kwargs: more of them.

        Raises:
            CheckpointError: the folder is damaged.
        """
        if Path(path).is_dir():
            return whole_checkpoint(Path(path))
        return super().load_checkpoint(path, *args, **kwargs)


def copy_checkpoint(source: Path, path: Path) -> None:
    """Copies a checkpoint, file or folder; the copy is whole or not there.

    Raises:
        DiskError: the copy cannot be written.
    """
    if not source.is_dir():
        copy_file(source, path)
        return
    with replacement(path) as incoming:
        shutil.copytree(source, incoming, ignore=shutil.ignore_patterns(MAPPED, ".*.incoming"))
