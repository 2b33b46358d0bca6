"""Reads checkpoints safely, and rebuilds models from only a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kgrec.errors import CheckpointError
from kgrec.models.objectives import Objective
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender
from kgrec.runs.saved_files import NotPlainError, read_saved


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint safely: no code in it is run.

    Raises:
        CheckpointError: the file is missing or is not a checkpoint of kgrec.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: found no such file, expected a checkpoint")
    try:
        checkpoint = read_saved(path)
    except Exception as error:  # of many kinds, from the zip and pickle readers
        raise CheckpointError(
            f"{path}: found no readable checkpoint ({_reason(error)}), expected one of kgrec, "
            "which holds only tensors and plain values"
        ) from None
    if not _is_ours(checkpoint):
        raise CheckpointError(
            f"{path}: found a file that is not a checkpoint of kgrec, expected one of a run"
        )
    return dict(checkpoint)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    return str(error) if isinstance(error, NotPlainError) else "damaged or of another kind"


def _is_ours(checkpoint: Any) -> bool:
    """Whether a file has the parts of a checkpoint that a run writes."""
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("kgrec"), dict):
        return False
    parts = checkpoint | checkpoint["kgrec"]
    kinds = {"state_dict": dict, "epoch": int, "recipe": dict, "dataset": dict, "settings": dict}
    recipe_kinds = {"class": str, "arguments": dict}
    return all(isinstance(parts.get(name), kind) for name, kind in kinds.items()) and all(
        isinstance(parts["recipe"].get(name), kind) for name, kind in recipe_kinds.items()
    )


def load_recommender(path: Path, trust: Iterable[str] = ()) -> Recommender:
    """Rebuilds a model from only its checkpoint, ready to score.

    A checkpoint may come from a stranger. It can only name models and aggregators of
    :mod:`kgrec.models`, unless the caller trusts further packages.

    Args:
        path: checkpoint file.
        trust: dotted paths of packages, modules or classes of the user's own, such as
            ``("mypackage",)``, that the checkpoint may name.

    Raises:
        CheckpointError: the file is not a checkpoint of kgrec, or names code that is not trusted.
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
    recommender.objective = _objective(checkpoint["kgrec"]["settings"])
    return recommender.eval()


def _objective(settings: dict[str, Any]) -> Objective | None:
    """The objective of a run, from the settings in its checkpoint; None: the model's own loss."""
    name, temperature = settings.get("loss.name"), settings.get("loss.temperature", 1.0)
    if name not in Objective.names or type(temperature) not in (int, float) or temperature <= 0:
        return None
    return Objective(str(name), float(temperature))
