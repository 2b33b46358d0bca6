"""Checkpoints that are written whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from kgrec.files import make_folder, write_bytes


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
        content = io.BytesIO()
        torch.save(checkpoint, content)
        make_folder(Path(path).parent)
        write_bytes(Path(path), content.getbuffer())
