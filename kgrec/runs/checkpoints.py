"""Reads checkpoints safely, and rebuilds models from only a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kgrec.errors import CheckpointError
from kgrec.models.kgcn.graph_state import whole_state
from kgrec.models.objectives import Objective
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender
from kgrec.runs.saved_files import NotPlainError, read_saved
from kgrec.runs.stored_tables import PLAIN, TABLES, stored_tables, without_moments
from kgrec.sharding.checkpoint import in_order


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint safely: no code in it is run.

    Of a folder, the content of ``plain.ckpt`` is read, and the files of the tables are only looked
    for (:mod:`kgrec.runs.stored_tables`).

    Args:
        path: file, or folder that the processes of a sharded run have written.

    Raises:
        CheckpointError: the file is missing or is not a checkpoint of kgrec, or a file of a table
            is missing or of another size.
    """
    file = path / PLAIN if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"{file}: found no such file, expected a checkpoint")
    try:
        checkpoint = read_saved(file)
    except Exception as error:  # of many kinds, from the zip and pickle readers
        raise CheckpointError(
            f"{file}: found no readable checkpoint ({_reason(error)}), expected one of kgrec, "
            "which holds only tensors and plain values"
        ) from None
    if not _is_ours(checkpoint):
        raise CheckpointError(
            f"{file}: found a file that is not a checkpoint of kgrec, expected one of a run"
        )
    if file != path:
        stored_tables(checkpoint, path)
    elif "tables" in checkpoint:
        raise CheckpointError(f"{path}: found a checkpoint without its tables, expected its folder")
    return dict(checkpoint)


def whole_checkpoint(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint folder as of a checkpoint file of one process.

    The tables and the optimiser's numbers of their rows are whole, and in memory.

    Raises:
        CheckpointError: see :func:`read_checkpoint`.
    """
    checkpoint = read_checkpoint(folder)
    stored = stored_tables(checkpoint, folder)
    del checkpoint["tables"]
    for table in without_moments(stored.values()):
        checkpoint["state_dict"][table.name] = in_order(table.shards())
    checkpoint["state_dict"] = whole_state(checkpoint["state_dict"])
    for optimizer in checkpoint.get("optimizer_states", []):
        for state in optimizer["state"].values():
            if name := state.pop("table", None):
                moments = [table for table in stored if table.startswith(f"{name}/")]
                state |= {m.partition("/")[2]: in_order(stored[m].shards()) for m in moments}
    return checkpoint


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


def checkpoint_files(path: Path) -> list[tuple[Path, str]]:
    """The files of a checkpoint, with their names in it; those that can be made anew left out."""
    if not path.is_dir():
        return [(path, path.name)]
    tables = sorted((path / TABLES).iterdir()) if (path / TABLES).is_dir() else []
    return [(file, str(file.relative_to(path.parent))) for file in [path / PLAIN, *tables]]


def load_recommender(path: Path, trust: Iterable[str] = ()) -> Recommender:
    """Rebuilds a model from only its checkpoint, ready to score.

    A checkpoint may come from a stranger. It can only name models and aggregators of
    :mod:`kgrec.models`, unless the caller trusts further packages.

    Tables that processes have shared stay in files, of which memory has the pages that are read.

    Args:
        path: checkpoint file, or checkpoint folder of a sharded run.
        trust: dotted paths of packages, modules or classes of the user's own, such as
            ``("mypackage",)``, that the checkpoint may name.

    Raises:
        CheckpointError: the file is not a checkpoint of kgrec, or names code that is not trusted.
    """
    checkpoint = read_checkpoint(path)
    prefix, sharded = "recommender.", path.is_dir()
    tensors = checkpoint["state_dict"]
    if sharded:
        stored = without_moments(stored_tables(checkpoint, path).values())
        tensors |= {table.name: table.mapped() for table in stored}
    state = {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if isinstance(name, str) and name.startswith(prefix)
    }
    try:
        state = whole_state(state) if sharded else state
        recommender = rebuild(checkpoint["kgrec"]["recipe"], state, trust, in_place=sharded)
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
