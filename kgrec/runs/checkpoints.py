"""Checkpoints: whose they are, and models rebuilt from them alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kgrec.errors import CheckpointError
from kgrec.models.recommender import Recommender, rebuild


def check_identity(checkpoint: dict[str, Any], expected: dict[str, Any]) -> None:
    """Checks that a checkpoint belongs to a model, a data set and the settings of a training.

    Args:
        checkpoint: as Lightning reads it.
        expected: what the module that goes on says of itself (``RecommenderModule.identity``).

    Raises:
        CheckpointError: it does not; tells the first difference.
    """
    if "kgrec" not in checkpoint:
        raise CheckpointError("ckpt_path: found a checkpoint that kgrec did not write")
    found = checkpoint["kgrec"]
    for key, value in expected["dataset"].items():
        if found["dataset"].get(key) != value:
            raise CheckpointError(
                "ckpt_path: found a checkpoint of another data set "
                f"({key} {found['dataset'].get(key)!r}), expected {key} {value!r}"
            )
    recipe, wanted = found["recipe"], expected["recipe"]
    if recipe["class"] != wanted["class"]:
        raise CheckpointError(
            f"ckpt_path: found a checkpoint of {recipe['class']}, expected {wanted['class']}"
        )
    for key, value in wanted["arguments"].items():
        if recipe["arguments"].get(key) != value:
            raise CheckpointError(
                f"ckpt_path: found a checkpoint with model.{key} "
                f"{recipe['arguments'].get(key)!r}, expected {value!r}"
            )
    for key, value in expected["settings"].items():
        if found["settings"].get(key) != value:
            raise CheckpointError(
                "ckpt_path: found a checkpoint of a training with "
                f"{key} {found['settings'].get(key)!r}, expected {value!r}: "
                "a run goes on with the settings that it began with"
            )


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
