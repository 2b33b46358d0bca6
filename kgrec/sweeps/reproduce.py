"""``kgrec reproduce``: experiments run whole, one after another, each a sweep that goes on.

A multirun takes one experiment that carries a sweep; this takes several, on several data sets.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kgrec.config.location import conf_dir
from kgrec.errors import ConfigError
from kgrec.sweeps.folder import FINISHED, Job, State, folder_name
from kgrec.sweeps.grid import jobs_of
from kgrec.sweeps.sweeper import quoted


def sweep_of(experiment: str) -> dict[str, str]:
    """The sweep that an experiment's file carries: key to values, such as ``2,4,8``.

    Raises:
        ConfigError: there is no such experiment.
    """
    folder = conf_dir() / "experiment"
    path = folder / f"{experiment}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"found no experiment {experiment!r}, expected one of {known}")
    found: Any = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params")
    return {} if found is None else {str(k): str(v) for k, v in found.items()}


def jobs(experiment: str, dataset: str, overrides: Sequence[str]) -> list[Job]:
    """All runs of an experiment on a data set.

    Args:
        experiment: a file of conf/experiment.
        dataset: as in ``dataset=``.
        overrides: more of them; they replace the experiment's own sweep over the same key.

    Raises:
        ConfigError: the experiment or an override cannot be read.
    """
    own = sweep_of(experiment)
    words = [*(f"{k}={v}" for k, v in own.items()), *overrides]
    parser, parsed = OverridesParser.create(), []
    for word in [f"experiment={experiment}", f"dataset={dataset}", *words]:
        try:
            parsed.append(parser.parse_override(word))
        except Exception as error:  # whatever Hydra's grammar says
            raise ConfigError(f"{word}: {error}") from error
    return jobs_of(parsed, list(own))[0]


def place(experiment: str, dataset: str, overrides: Sequence[str], out: Path) -> Path:
    """Folder of a sweep, its own for other settings that all its jobs share."""
    shared = [o for o in overrides if o.partition("=")[0] not in sweep_of(experiment)]
    where = out / experiment / dataset
    return where / folder_name(shared) if shared else where


def reproduce(
    words: Sequence[str], datasets: Sequence[str], at_once: int, out: str, only_list: bool = False
) -> None:
    """Runs the unfinished jobs of experiments, and ends with 1 if a job failed.

    Args:
        words: names of experiments, and overrides.
        datasets: names of data sets; overrides may stand among them too.
        at_once: jobs that run side by side.
        out: folder of the sweeps.
        only_list: whether to print the unfinished jobs instead.

    Raises:
        ConfigError: there is no such experiment, or an override cannot be read.
    """
    if at_once < 1:
        raise ConfigError(f"--jobs: found {at_once}, expected at least 1")
    root = Path(out)
    overrides = [word for word in [*words, *datasets] if "=" in word]
    experiments = [word for word in words if "=" not in word]
    datasets = [word for word in datasets if "=" not in word]
    if not experiments:
        raise ConfigError("found no experiment, expected one or more, such as table3")
    planned = {
        (experiment, dataset): jobs(experiment, dataset, overrides)
        for experiment in experiments
        for dataset in datasets
    }
    left = {
        key: unfinished(of_sweep, place(*key, overrides, root)) for key, of_sweep in planned.items()
    }
    total, todo = sum(map(len, planned.values())), sum(map(len, left.values()))
    print(f"{total} runs, {total - todo} of them are finished", flush=True)  # noqa: T201
    if only_list:
        for job in (job for of_sweep in left.values() for job in of_sweep):
            print(shlex.join(["python", "train.py", *job.overrides]))  # noqa: T201
        return
    failed = False
    for key in (key for key, of_sweep in left.items() if of_sweep):
        failed |= sweep(*key, overrides, place(*key, overrides, root), at_once) != 0
    print(f"{root}: kgrec report {root} draws tables and plots")  # noqa: T201
    if failed:
        sys.exit(1)


def unfinished(found: Sequence[Job], folder: Path) -> list[Job]:
    """Those of the jobs that are not finished."""
    return [job for job in found if State.read(job, folder / job.name).state != FINISHED]


def sweep(
    experiment: str, dataset: str, overrides: Sequence[str], folder: Path, at_once: int
) -> int:
    """Runs one experiment on one data set in a process of its own; returns its exit code."""
    command = [sys.executable, "-m", "kgrec.cli", "train", "-m"]
    command += [f"experiment={experiment}", f"dataset={dataset}", *overrides]
    if not any(o.startswith("logger=") for o in overrides):
        command.append("logger=csv")
    command.append(f"hydra.sweep.dir={quoted(str(folder.resolve()))}")
    if at_once > 1:
        command += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={at_once}"]
    return subprocess.run(command, check=False).returncode
