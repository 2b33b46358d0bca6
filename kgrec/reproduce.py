"""``kgrec reproduce``: the runs of whole experiments, one by one, going on where it stopped.

A job's folder is named by what the job sets, so a job that has finished is never run again, and one
that was cut short goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kgrec.config import conf_dir
from kgrec.errors import ConfigError
from kgrec.training.memory import CORES


class Job(NamedTuple):
    """One run.

    Attributes:
        overrides: what it sets.
        folder: where it goes.
    """

    overrides: tuple[str, ...]
    folder: Path

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        return (self.folder / "metrics.json").is_file()


class Outcome(NamedTuple):
    """How a job went.

    Attributes:
        job: which.
        seconds: it took.
        error: its last words, or None.
    """

    job: Job
    seconds: float
    error: str | None


def sweep_of(experiment: str) -> dict[str, str]:
    """The sweep that an experiment's file carries: key to values, such as ``2,4,8``.

    Raises:
        ConfigError: there is no such experiment, or it has no sweep.
    """
    folder = conf_dir() / "experiment"
    path = folder / f"{experiment}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml")))
        raise ConfigError(f"found no experiment {experiment!r}, expected one of {known}")
    found: Any = OmegaConf.select(OmegaConf.load(path), "hydra.sweeper.params")
    return {} if found is None else {str(k): str(v) for k, v in found.items()}


def jobs(experiment: str, dataset: str, overrides: Sequence[str], out: Path) -> list[Job]:
    """All runs of an experiment on a data set.

    Args:
        experiment: a file of conf/experiment.
        dataset: as in ``dataset=``.
        overrides: more of them; they replace the experiment's own sweep over the same key.
        out: a folder under which every job has its own.

    Raises:
        ConfigError: the experiment or an override cannot be read.
    """
    asked = sweep_of(experiment)
    for override in overrides:
        key, _, values = override.partition("=")
        asked[key] = values
    parser, choices = OverridesParser.create(), []
    for key, values in asked.items():
        try:
            parsed = parser.parse_override(f"{key}={values}")
            swept = parsed.is_sweep_override()
            found = list(parsed.sweep_string_iterator()) if swept else [values]
        except Exception as error:  # whatever Hydra's grammar says
            raise ConfigError(f"{key}={values}: {error}") from error
        choices.append([f"{key}={value}" for value in found])
    made = []
    for combination in itertools.product(*choices):
        name = ",".join(combination).replace("/", "-") or "run"
        made.append(
            Job(
                (f"experiment={experiment}", f"dataset={dataset}", *combination),
                out / experiment / dataset / name,
            )
        )
    return made


def run_job(job: Job, extra: Sequence[str]) -> Outcome:
    """Runs one job in a process of its own, from its last checkpoint if it has one."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "kgrec.cli", "train", *job.overrides, *extra]
    command.append(f"hydra.run.dir={quoted(job.folder.resolve())}")
    last = job.folder / "checkpoints" / "last.ckpt"
    if last.is_file():
        command.append(f"ckpt_path={quoted(last.resolve())}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0 and job.finished:
        return Outcome(job, time.perf_counter() - begin, None)
    words = [x for x in (done.stdout + done.stderr).splitlines() if x.startswith("error")]
    told = words[-1] if words else (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Outcome(job, time.perf_counter() - begin, told)


def quoted(path: Path) -> str:
    """A path as a value of Hydra's grammar, whose own signs it may hold."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"


def run(arguments: argparse.Namespace) -> None:
    """Runs what is unfinished, says how each job went, and ends with 1 if one failed."""
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs: found {arguments.jobs}, expected at least 1")
    out = Path(arguments.out)
    words = [*arguments.words, *arguments.dataset]  # overrides may stand anywhere
    overrides = [word for word in words if "=" in word]
    experiments = [word for word in arguments.words if "=" not in word]
    datasets = [word for word in arguments.dataset if "=" not in word]
    if not experiments:
        raise ConfigError("found no experiment, expected one or more, such as table3")
    listed = [
        job
        for experiment in experiments
        for dataset in datasets
        for job in jobs(experiment, dataset, overrides, out)
    ]
    todo = [job for job in listed if not job.finished]
    print(f"{len(listed)} runs, {len(listed) - len(todo)} of them finished before")  # noqa: T201
    if arguments.list:
        for job in todo:
            print(shlex.join(["python", "train.py", *job.overrides]))  # noqa: T201
        return
    extra = ["logger=csv", *_threads(arguments.jobs, overrides)]
    failed = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        running = [pool.submit(run_job, job, extra) for job in todo]
        try:
            for number, future in enumerate(as_completed(running), 1):
                outcome = future.result()
                failed += outcome.error is not None
                print(f"{number:>4} of {len(todo)}  {_told(outcome)}", flush=True)  # noqa: T201
        except KeyboardInterrupt:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    print(f"{out}: kgrec report {out} draws tables and plots")  # noqa: T201
    if failed:
        sys.exit(1)


def _threads(jobs: int, overrides: Iterable[str]) -> list[str]:
    """Several jobs at once share the cores."""
    if jobs == 1 or any(o.startswith("threads=") for o in overrides):
        return []
    return [f"threads={max(1, CORES // jobs)}"]


def _told(outcome: Outcome) -> str:
    what = " ".join(outcome.job.overrides)
    if outcome.error is not None:
        return f"{what}: failed after {outcome.seconds:.0f} s: {outcome.error}"
    metrics = json.loads((outcome.job.folder / "metrics.json").read_text(encoding="utf-8"))
    shown = {"AUC": "test/auc", "Recall@20": "test/recall@20"}
    figures = "  ".join(f"{n} {metrics[m]:.4f}" for n, m in shown.items() if m in metrics)
    return f"{what}: {figures}  {outcome.seconds:.0f} s"
