"""``kgrec reproduce``: experiments run whole, one after another, each a sweep that goes on.

A multirun takes one experiment that carries a sweep; this takes several, on several data sets.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kgrec.config import conf_dir
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


def run(arguments: argparse.Namespace) -> None:
    """Runs what is unfinished, and ends with 1 if a run failed."""
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs: found {arguments.jobs}, expected at least 1")
    out = Path(arguments.out)
    words = [*arguments.words, *arguments.dataset]  # overrides may stand anywhere
    overrides = [word for word in words if "=" in word]
    experiments = [word for word in arguments.words if "=" not in word]
    datasets = [word for word in arguments.dataset if "=" not in word]
    if not experiments:
        raise ConfigError("found no experiment, expected one or more, such as table3")
    listed = {
        (experiment, dataset): jobs(experiment, dataset, overrides)
        for experiment in experiments
        for dataset in datasets
    }
    left = {key: unfinished(found, place(*key, overrides, out)) for key, found in listed.items()}
    total, todo = sum(map(len, listed.values())), sum(map(len, left.values()))
    print(f"{total} runs, {total - todo} of them finished before", flush=True)  # noqa: T201
    if arguments.list:
        for job in (job for found in left.values() for job in found):
            print(shlex.join(["python", "train.py", *job.overrides]))  # noqa: T201
        return
    failed = False
    for key in (key for key, found in left.items() if found):
        failed |= sweep(*key, overrides, place(*key, overrides, out), arguments.jobs) != 0
    print(f"{out}: kgrec report {out} draws tables and plots")  # noqa: T201
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
