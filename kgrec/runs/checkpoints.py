"""Reads checkpoints safely, and rebuilds models from them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kgrec.errors import CheckpointError
from kgrec.models.recommender import Recommender, rebuild


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint safely (no code in it is run).

    Raises:
        CheckpointError: no file is there, or it is no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: found no such file, expected a checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: found no readable checkpoint: {error}") from error
    if not isinstance(checkpoint, dict) or "kgrec" not in checkpoint:
        raise CheckpointError(f"{path}: found a file that is no checkpoint of kgrec")
    return checkpoint


def load_recommender(path: Path) -> Recommender:
    """Rebuilds a model from its checkpoint alone, ready to score.

    Raises:
        CheckpointError: the file is no checkpoint of kgrec.
    """
    checkpoint = read_checkpoint(path)
    recommender = rebuild(checkpoint["kgrec"]["recipe"])
    prefix = "recommender."
    state = checkpoint["state_dict"].items()
    recommender.load_state_dict(
        {k.removeprefix(prefix): v for k, v in state if k.startswith(prefix)}
    )
    return recommender.eval()
