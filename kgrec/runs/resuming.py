"""How a command starts in a run folder: nothing to do, resume from a checkpoint, or begin.

Single runs with ``resume=auto`` and jobs of a sweep decide in the same way, from files only. So the
processes of one training, which read the same folder before any of them trains, decide alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig

from kgrec.errors import CheckpointError, ConfigError
from kgrec.files import remove_leftovers
from kgrec.runs.checkpoints import read_checkpoint
from kgrec.runs.folder import VALIDATED, RunFolder
from kgrec.runs.identity import difference, result_settings, resume_settings


class Start(NamedTuple):
    """How a run starts.

    Attributes:
        finished: whether the folder has a finished run, so that nothing is left to do.
        checkpoint: checkpoint to resume from; None: the run begins.
        remark: one line on a checkpoint that cannot be resumed from; None: there is none.
    """

    finished: bool = False
    checkpoint: Path | None = None
    remark: str | None = None


def start_in(folder: RunFolder) -> Start:
    """How a run in this folder starts.

    An unfinished run resumes from ``last.ckpt``. If that file is damaged, the run resumes from
    ``best.ckpt``, which holds the same things, of an earlier epoch. If that file is damaged too,
    the run begins anew. Both ways lead to the same end, because a resumed run equals an
    uninterrupted one.
    """
    if folder.finished:
        return Start(finished=True)
    problems = []
    for name in ("last", "best"):
        checkpoint = folder.checkpoint(name)
        remove_leftovers(checkpoint)  # brings back what a killed process was about to replace
        if not checkpoint.exists():
            continue
        try:
            whole = _whole(read_checkpoint(checkpoint))
            if name == "last":  # the test reads the best checkpoint, perhaps of an earlier epoch
                read_checkpoint(folder.checkpoint("best"))
        except CheckpointError as error:
            problems.append(str(error))
            continue
        if whole:
            consequence = f"the run resumes from {checkpoint}"
            return Start(checkpoint=checkpoint, remark=_remark(problems, consequence))
        if name == "last":
            problems.append(f"{checkpoint}: found no state of a training, expected one to resume")
    return Start(remark=_remark(problems, "the run begins anew"))


def _whole(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a run can resume exactly: with an optimiser, and from the end of an epoch.

    A model without training has a best checkpoint of weights alone. With
    ``check_val_every_n_epoch`` Lightning writes the best checkpoint inside an epoch.
    """
    try:
        progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        return bool(checkpoint["optimizer_states"]) and progress["processed"] == progress["started"]
    except (KeyError, TypeError):
        return False


def _remark(problems: list[str], consequence: str) -> str | None:
    return f"warning: {problems[0]}; {consequence}" if problems else None


def check_folder(folder: RunFolder, cfg: DictConfig) -> None:
    """Checks that a run folder, if it has a run, has one with these settings.

    A finished run must agree in all settings that results depend on, an unfinished one in those
    that must stay when a run resumes.

    Raises:
        ConfigError: the folder has a run with other settings, or a run that cannot resume.
        DataError: the configuration of the run is damaged.
    """
    if folder.kind != VALIDATED:
        raise ConfigError(
            f"hydra.run.dir: found {folder.path} of kind {folder.kind}, expected the folder of a "
            "run with a validation"
        )
    finished = folder.finished
    settings = result_settings(cfg) if finished else resume_settings(cfg)
    message = difference(folder.config_file, settings, resumes=not finished)
    if message is not None:
        verb = "finished" if finished else "began"
        raise ConfigError(
            f"resume: {message}: the run in this folder {verb} with other settings; these need "
            "another hydra.run.dir"
        )
