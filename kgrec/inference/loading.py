"""Finds a finished run and loads its model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kgrec.errors import CheckpointError, ConfigError, DataError
from kgrec.inference.index import index_of
from kgrec.inference.kept_data import KeptData, read
from kgrec.inference.loaded_model import LoadedModel
from kgrec.inference.new_items import add_items, read_triples
from kgrec.models.recipes import LONGEST_REASON
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import load_recommender
from kgrec.runs.folder import (
    LISTS,
    REFIT,
    VALIDATED,
    RunFolder,
    finished_folders,
    unfinished_folders,
)  # fmt: skip
from kgrec.runs.identity import data_digest

LATEST = "latest"
LOGS = Path("logs")


class FoundRun(NamedTuple):
    """A finished run.

    Attributes:
        folder: its folder.
        checkpoint: its checkpoint.
        reason: why this run, if there were several; else empty.
    """

    folder: RunFolder
    checkpoint: Path
    reason: str


def find_run(place: str | Path) -> FoundRun:
    """Finds the run that a user names.

    Args:
        place: run folder; checkpoint in a run folder; folder with several runs, such as a sweep:
            the run that is best on validation; or "latest": the run in ``logs`` that finished
            last.

    Raises:
        DataError: there is no finished run, or the runs cannot be compared.
    """
    if not isinstance(place, str | Path):
        raise DataError(f"run: found {place!r}, expected a run folder, a sweep folder, or latest")
    path = Path(place).expanduser()
    if str(place) == LATEST and not path.exists():
        return _latest()
    if path.suffix == ".ckpt":
        folder = RunFolder(path.parent.parent)
        if path.exists() and not folder.finished:
            raise DataError(
                f"{path}: found a checkpoint outside the folder of a finished run, expected it in "
                "its run folder, whose ids it needs"
            )
        return FoundRun(_finished(folder), path, "")
    folder = RunFolder(path)
    if not folder.finished and path.is_dir() and (runs := list(finished_folders(path))):
        return _of_several(path, runs)
    return FoundRun(_finished(folder), folder.checkpoint("best"), "")


def load(
    run: str | Path,
    trust: Iterable[str] = (),
    device: str | torch.device = "cpu",
    extra_triples: Any = None,
    index: str | None = None,
) -> LoadedModel:
    """Loads the model of a finished run; the training data are not needed.

    Args:
        run: run folder, checkpoint in a run folder, folder of a sweep (its best run on
            validation), or "latest".
        trust: packages of your own whose models and aggregators the checkpoint may name.
        device: device that computes.
        extra_triples: triples of items that were added after the training: a frame or a table
            with columns ``head``, ``relation``, ``tail`` and, for titles, ``name``. A head that is
            no item of the run becomes one.
        index: "faiss": an approximate index finds the best items of the whole catalogue, for
            models whose score is one inner product. It needs ``pip install 'kgrec[ann]'`` and
            pays for catalogues of 100,000 items and more. None: every item is scored.

    Raises:
        DataError: there is no finished run, a file of the run is missing or damaged, or the extra
            triples are of no new item.
        CheckpointError: the checkpoint cannot be read.
        ConfigError: the device does not exist, or there can be no index.
    """
    chosen = find_run(run)
    data = read(chosen.folder)
    if str(device) == "meta":  # torch's device without memory
        raise ConfigError("device: found meta, expected a device that computes")
    try:
        model = load_recommender(chosen.checkpoint, trust).to(device)
    except (RuntimeError, AssertionError) as error:  # torch's errors for a device
        raise ConfigError(f"device: found {device}: {error}") from error
    for kind, ids in (("users", data.ids.users), ("items", data.ids.items)):
        size = model.arguments.get(f"num_{kind}", ids.height)
        if size != ids.height:
            raise DataError(
                f"{chosen.checkpoint}: found a model of {size} {kind}, expected the {ids.height} "
                f"of {chosen.folder.ids}"
            )
    _try(model, data, chosen.checkpoint)
    rec = LoadedModel(model, data, chosen.folder.path, chosen.reason)
    if index is not None:
        rec.ranker.index = index_of(rec.model, rec.name, rec.ranker.encoded, index)
    if extra_triples is None:
        return rec
    added = add_items(rec.model, data, read_triples(extra_triples))
    plural = "" if added.items == 1 else "s"
    notes = [f"extra triples: {added.items} new item{plural}"]
    notes += [f"extra triples: {count} left out, because of {why}" for why, count in added.left_out]
    return LoadedModel(added.model, added.data, chosen.folder.path, chosen.reason, notes)


def _try(model: Recommender, data: KeptData, checkpoint: Path) -> None:
    """Scores two pairs, because the tables of an odd checkpoint need not fit together.

    Raises:
        CheckpointError: the model cannot score.
    """
    numbers = [[0, ids.height - 1] for ids in (data.ids.users, data.ids.items)]
    device = next((t.device for t in [*model.parameters(), *model.buffers()]), None)
    try:
        with torch.no_grad():
            model.score(*(torch.tensor(pair, device=device) for pair in numbers))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of any kind, as tables do not fit in many ways
        reason = " ".join(str(error).split())[:LONGEST_REASON]
        raise CheckpointError(
            f"{checkpoint}: found a model that cannot score ({reason}), expected tables that fit "
            "together"
        ) from error


def _finished(folder: RunFolder) -> RunFolder:
    """The folder, if its run is finished.

    Raises:
        DataError: it is not; the message says what is there.
    """
    if folder.finished:
        if folder.kind == LISTS:
            raise DataError(f"{folder.path}: found scored lists, which have no model")
        return folder
    if not folder.path.exists():
        raise DataError(f"{folder.path}: found no such folder, expected a run folder, or latest")
    state = "an unfinished run" if next(unfinished_folders(folder.path), None) else "no run"
    raise DataError(
        f"{folder.path}: found {state} (no {folder.metrics_file.name}), expected the folder of a "
        "finished run"
    )


def _latest() -> FoundRun:
    runs = [run for run in finished_folders(LOGS) if run.kind != LISTS]
    if not runs:
        raise DataError(f"latest: found no finished run in {LOGS.absolute()}, expected one")
    newest = max(runs, key=lambda run: run.metrics_file.stat().st_mtime)
    reason = f"the latest of {len(runs)} runs" if len(runs) > 1 else "the only run"
    refit = f", a refit of {newest.about().get('refit_of')}" if newest.kind == REFIT else ""
    return FoundRun(newest, newest.checkpoint("best"), f"{reason} in {LOGS}{refit}")


def _of_several(place: Path, runs: list[RunFolder]) -> FoundRun:
    """The run of a folder that is best on validation; refits and scored lists are no candidates.

    Raises:
        DataError: the runs cannot be compared, or there are only refits and scored lists.
    """
    validated = [run for run in runs if run.kind == VALIDATED]
    if validated:
        return _best(place, validated)
    refits = [run for run in runs if run.kind == REFIT]
    if len(refits) == 1:
        reason = f"a refit of {refits[0].about().get('refit_of')}"
        return FoundRun(refits[0], refits[0].checkpoint("best"), reason)
    found = f"{len(refits)} refits" if refits else "scored lists, which have no model"
    raise DataError(f"{place}: found {found}, expected the folder of one run")


def _best(place: Path, runs: list[RunFolder]) -> FoundRun:
    """The run of a sweep that is best on validation.

    Raises:
        DataError: the runs are of several data sets, or chose their epoch by different metrics.
    """
    abouts = [run.about() for run in runs]
    differing = {key: [str(about.get(key)) for about in abouts] for key in ("dataset", "monitor")}
    differing["the files of their data"] = [data_digest(run.dataset()) for run in runs]
    for key, values in differing.items():
        if len(distinct := sorted(set(values))) > 1:
            raise DataError(
                f"{place}: found runs that differ in {key} ({', '.join(distinct)}), expected the "
                "folder of one run or of comparable runs"
            )
    monitor = str(abouts[0]["monitor"])
    value, best = max(
        ((run.metrics().get(monitor, -1.0), run) for run in runs), key=lambda pair: pair[0]
    )
    reason = f"the best of {len(runs)} runs: {monitor} {value:.4f}"
    return FoundRun(best, best.checkpoint("best"), reason)
