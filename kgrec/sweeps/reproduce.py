"""Several experiments of conf/experiment on several data sets, each as a sweep of its own.

A multirun of Hydra takes only one experiment that brings its own sweep.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kgrec.config.location import conf_dir
from kgrec.errors import ConfigError
from kgrec.files import inside, quoted
from kgrec.interrupts import SIGNALS, call, on_interrupt
from kgrec.sweeps.grid import jobs_of
from kgrec.sweeps.state import FINISHED, Job, State, folder_name

INTERRUPTED = [128 + number for number in SIGNALS]  # exit codes


def sweep_of(experiment: str) -> dict[str, str]:
    """The sweep that an experiment's file brings: key to values, such as ``2,4,8``.

    Raises:
        ConfigError: there is no such experiment.
    """
    folder = conf_dir() / "experiment"
    path = folder / f"{experiment}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"found no experiment {experiment!r}, expected one of {names}")
    params: Any = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params")
    return {} if params is None else {str(k): str(v) for k, v in params.items()}


def jobs_of_experiment(experiment: str, dataset: str, overrides: Sequence[str]) -> list[Job]:
    """All jobs of an experiment on a data set.

    Args:
        experiment: name of a file in conf/experiment.
        dataset: name of the data set.
        overrides: further overrides; they replace the experiment's own values of the same key.

    Raises:
        ConfigError: the experiment or an override cannot be read.
    """
    own = sweep_of(experiment)
    words = [*(f"{k}={v}" for k, v in own.items()), *overrides]
    parser, parsed = OverridesParser.create(), []
    for word in [f"experiment={experiment}", f"dataset={dataset}", *words]:
        try:
            parsed.append(parser.parse_override(word))
        except Exception as error:  # Hydra's grammar raises many kinds
            raise ConfigError(f"{word}: {error}") from error
    return jobs_of(parsed, list(own))[0]


def sweep_folder(experiment: str, dataset: str, overrides: Sequence[str], out: Path) -> Path:
    """The folder of a sweep, which depends on the overrides that all its jobs share."""
    shared = [o for o in overrides if o.partition("=")[0] not in sweep_of(experiment)]
    folder = inside(inside(out, experiment, "experiment"), dataset, "--dataset")
    return folder / folder_name(shared) if shared else folder


def reproduce(
    words: Sequence[str], datasets: Sequence[str], at_once: int, out: str, only_list: bool = False
) -> None:
    """Runs the unfinished jobs of experiments, one sweep after another.

    Args:
        words: names of experiments, and overrides.
        datasets: names of data sets; overrides are allowed here too.
        at_once: number of jobs that run at once.
        out: folder of the sweeps.
        only_list: whether to print the commands of the unfinished jobs instead.

    Raises:
        ConfigError: there is no such experiment, or an override cannot be read.
        SystemExit: a job has failed; the exit code is 1.
    """
    if at_once < 1:
        raise ConfigError(f"--jobs: found {at_once}, expected at least 1")
    root = Path(out)
    overrides = [word for word in [*words, *datasets] if "=" in word]
    experiments = [word for word in words if "=" not in word]
    datasets = [word for word in datasets if "=" not in word]
    if not experiments:
        raise ConfigError("found no experiment, expected one or more, such as table3")
    folders = {
        (experiment, dataset): sweep_folder(experiment, dataset, overrides, root)
        for experiment in experiments
        for dataset in datasets
    }
    jobs = {sweep: jobs_of_experiment(*sweep, overrides) for sweep in folders}
    to_run = {sweep: unfinished(jobs[sweep], folder) for sweep, folder in folders.items()}
    total, remaining = sum(map(len, jobs.values())), sum(map(len, to_run.values()))
    print(f"{total} runs, {total - remaining} of them finished", flush=True)  # noqa: T201
    if only_list:
        for job in (job for listed in to_run.values() for job in listed):
            print(shlex.join(["python", "train.py", *job.overrides]))  # noqa: T201
        return
    with on_interrupt(lambda: "the same command resumes"):
        codes = [
            run_sweep(*sweep, overrides, folders[sweep], at_once)
            for sweep, listed in to_run.items()
            if listed
        ]
    print(f"kgrec report {root} makes tables and plots of {root}")  # noqa: T201
    if any(codes):
        sys.exit(1)


def unfinished(jobs: Sequence[Job], folder: Path) -> list[Job]:
    """The unfinished jobs of a sweep in this folder."""
    return [job for job in jobs if State.read(job, folder / job.name).state != FINISHED]


def run_sweep(
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
    code = call(command)
    if code in INTERRUPTED:  # also where the sweep alone was interrupted
        raise KeyboardInterrupt
    return code
