"""Checkpoints: safe reading, the identity of their run, and models rebuilt from them alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from kgrec.errors import CheckpointError
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender

# Constructor arguments that from_dataset takes under another name.
KEYS = {"sampling": "neighbors", "num_attributes": "attributes"}


def check_identity(checkpoint: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Checks that a checkpoint belongs to a model, a data set and the settings of a training.

    Args:
        checkpoint: as Lightning reads it.
        expected: identity of the module that resumes (``RecommenderModule.identity``).

    Raises:
        CheckpointError: it does not; names the first difference.
    """
    identity = _identity(checkpoint)
    for key, value in expected["dataset"].items():
        if identity["dataset"].get(key) != value:
            raise CheckpointError(
                "ckpt_path: found a checkpoint of another data set "
                f"({key} {identity['dataset'].get(key)!r}), expected {key} {value!r}"
            )
    recipe, wanted = identity["recipe"], expected["recipe"]
    if recipe.get("class") != wanted["class"]:
        raise CheckpointError(
            f"ckpt_path: found a checkpoint of {recipe.get('class')}, expected {wanted['class']}"
        )
    arguments = recipe.get("arguments")
    if not isinstance(arguments, Mapping):
        raise CheckpointError("ckpt_path: found a checkpoint whose model has no arguments")
    # Settings first: the shapes of tensors follow from them.
    for key, value in sorted(wanted["arguments"].items(), key=lambda pair: _has_shape(pair[1])):
        # An older checkpoint lacks arguments that came later.
        if key in arguments and arguments[key] != value:
            raise CheckpointError(
                f"ckpt_path: found a checkpoint with model.{KEYS.get(key, key)} "
                f"{arguments[key]!r}, expected {value!r}"
            )
    for key, value in expected["settings"].items():
        if identity["settings"].get(key) != value:
            raise CheckpointError(
                "ckpt_path: found a checkpoint of a training with "
                f"{key} {identity['settings'].get(key)!r}, expected {value!r}: "
                "a run resumes with the settings that it started with"
            )


def _has_shape(value: Any) -> bool:
    return isinstance(value, Mapping) and "shape" in value


def _identity(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """What kgrec added to a checkpoint: recipe, data set and settings.

    Raises:
        CheckpointError: kgrec did not write the checkpoint.
    """
    identity = checkpoint.get("kgrec")
    if not isinstance(identity, Mapping) or not all(
        isinstance(identity.get(key), Mapping) for key in ("recipe", "dataset", "settings")
    ):
        raise CheckpointError("ckpt_path: found a checkpoint that kgrec did not write")
    return identity


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint safely: no code in it is run.

    Raises:
        CheckpointError: the file is missing or is no checkpoint of kgrec.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: found no such file, expected a checkpoint")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"{path}: found no readable checkpoint: {error}") from error
    parts = {"state_dict": Mapping, "epoch": int}
    if not isinstance(checkpoint, dict) or not all(
        isinstance(checkpoint.get(key), kind) for key, kind in parts.items()
    ):
        raise CheckpointError(f"{path}: found a file that is no checkpoint of kgrec")
    try:
        _identity(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: found a file that is no checkpoint of kgrec") from error
    return checkpoint


def load_recommender(path: Path, trust: Iterable[str] = ()) -> Recommender:
    """Rebuilds a model from its checkpoint alone, ready to score.

    A checkpoint may come from a stranger. It can only name models and aggregators of
    :mod:`kgrec.models`, unless the caller trusts further packages.

    Args:
        path: checkpoint file.
        trust: dotted paths of packages, modules or classes of the user's own, such as
            ``("mypackage",)``, that the checkpoint may name.

    Raises:
        CheckpointError: the file is no checkpoint of kgrec, or names code that is not trusted.
    """
    checkpoint = read_checkpoint(path)
    prefix = "recommender."
    state = {
        name.removeprefix(prefix): value
        for name, value in checkpoint["state_dict"].items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    try:
        recommender = rebuild(checkpoint["kgrec"]["recipe"], state, trust)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return recommender.eval()
