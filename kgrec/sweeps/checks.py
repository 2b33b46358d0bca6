"""Checks of a sweep before it starts, and warnings about its jobs."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from kgrec.config.location import conf_dir
from kgrec.errors import ConfigError
from kgrec.runs.identity import role
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.progress import words
from kgrec.sweeps.state import Job, shared_overrides

ANOTHER_NAME = "a sweep keeps its settings; start another one with sweep=NAME"
# A job that reads this many times the neighbours of another is named before the sweep starts.
UNEVEN = 50


def check_name(overrides: Sequence[Override]) -> None:
    """Refuses several names for one sweep.

    Raises:
        ConfigError: ``sweep`` has several values.
    """
    for override in overrides:
        if override.get_key_element() == "sweep" and override.is_sweep_override():
            value = override.get_value_string()
            raise ConfigError(f"sweep: found {value!r}, expected one name")


def check_experiments(overrides: Sequence[Override]) -> None:
    """Refuses several experiments if an experiment brings its own sweep, which would get lost.

    Raises:
        ConfigError: one of several experiments brings its own sweep.
    """
    for override in overrides:
        if override.get_key_element() != "experiment" or not override.is_sweep_override():
            continue
        for name in map(str, override.sweep_iterator()):
            path = conf_dir() / "experiment" / f"{name}.yaml"
            content = OmegaConf.load(path) if path.is_file() else OmegaConf.create()
            if OmegaConf.select(content, "hydra.sweeper.params"):
                raise ConfigError(
                    f"experiment: found several, and {name} brings a sweep of its own that would "
                    "get lost, expected one; kgrec reproduce takes several, one after another"
                )


def check_same_sweep(sweep: SweepFolder, job: Job, keys: Sequence[str]) -> None:
    """Checks that a sweep has the varied keys and the shared overrides of a job.

    Args:
        sweep: sweep that exists already.
        job: job to add to it.
        keys: keys that the job's command varies.

    Raises:
        ConfigError: the sweep varies other keys, or sets another value for all jobs.
    """
    if set(sweep.keys) != set(keys):
        raise ConfigError(
            f"{sweep.path}: found a sweep over {_listed(sweep.keys)}, expected one over "
            f"{_listed(keys)}: {ANOTHER_NAME}"
        )
    earlier, current = sweep.content["shared"], shared_overrides(job, keys)
    for key in sorted(earlier.keys() | current.keys()):
        if earlier.get(key) != current.get(key) and role(key).results:
            raise ConfigError(
                f"{sweep.path}: found a sweep with {key} {earlier.get(key, 'not set')}, "
                f"expected {current.get(key, 'not set')}: {ANOTHER_NAME}"
            )


def check_keys(keys: Sequence[str]) -> None:
    """Checks the varied keys.

    Raises:
        ConfigError: the metric by which jobs are compared is varied.
    """
    if "monitor" in keys:
        raise ConfigError("monitor: found several, expected one: jobs are compared by this metric")


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "nothing"


def uneven_jobs(configurations: Sequence[tuple[Job, DictConfig]]) -> str | None:
    """A warning if one job reads many times the neighbours of another, else None.

    A row of KGCN reads about K^H neighbours, so its time grows about in this way. Models without
    K and H, and K=all, are not estimated.

    Args:
        configurations: the jobs to run, each with its composed configuration.
    """
    neighbors: list[tuple[int, Job]] = []
    for job, cfg in configurations:
        K, H = cfg.model.get("K"), cfg.model.get("H")
        if type(K) is int and type(H) is int and K > 0 and H > 0:
            neighbors.append((K**H, job))
    if not neighbors:
        return None
    (least, light), (most, heavy) = (f(neighbors, key=lambda pair: pair[0]) for f in (min, max))
    if most < UNEVEN * least:
        return None
    return (
        f"warning: a row of {words(heavy)} reads about {most:,} neighbours (K^H), a row of "
        f"{words(light)} {least:,}: expect the job to take {most // least:,} times as long, or more"
    )
