"""The grid sweeper: every combination of the given values, as in ``-m model.K=2,4 seed=1,2``."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from kgrec.errors import ConfigError
from kgrec.sweeps.checks import uneven_jobs
from kgrec.sweeps.claims import LEASE
from kgrec.sweeps.folder import FILE, SweepFolder
from kgrec.sweeps.progress import say
from kgrec.sweeps.sharing import share
from kgrec.sweeps.state import FINISHED, Job
from kgrec.sweeps.sweeper import KgrecSweeper


class Grid(KgrecSweeper):
    """Runs all combinations in the order as typed; the last key varies fastest.

    Args:
        params: keys of the configuration's own sweep and their values.
        shared: whether this process is one of several workers that share the jobs of the sweep.
        lease: seconds after which a worker without a heartbeat counts as dead.
    """

    def __init__(
        self, params: DictConfig | None = None, shared: bool = False, lease: float = LEASE
    ) -> None:
        super().__init__(params)
        self.shared, self.lease = shared, lease

    def run(self, sweep: SweepFolder, jobs: Sequence[Job]) -> None:
        """Runs the unfinished jobs, or those that no other worker runs."""
        if self.shared:
            share(jobs, sweep, self.launcher, self.job_overrides, float(self.lease))
        else:
            super().run(sweep, jobs)

    def _check_worker(self) -> None:
        """Checks the settings of a worker.

        Raises:
            ConfigError: a setting cannot work.
        """
        if type(self.shared) is not bool:
            raise ConfigError(
                f"hydra.sweeper.shared: found {self.shared!r}, expected true or false"
            )
        if type(self.lease) not in (int, float) or not self.lease >= 1:
            raise ConfigError(
                f"hydra.sweeper.lease: found {self.lease!r}, expected a number of seconds >= 1"
            )
        launcher = self.config.hydra.runtime.choices["hydra/launcher"]
        if self.shared and launcher != "basic":
            raise ConfigError(
                f"hydra/launcher: found {launcher} with hydra.sweeper.shared=true, expected basic: "
                "each worker runs one job at a time; start one for each device"
            )

    def _sweep(self, arguments: list[str]) -> Any:
        overrides = self.parsed(arguments)
        for text in repeated(overrides):
            say(text)
        # A single value of a key that the sweep varies already is one more value.
        varied = SweepFolder.read(self.folder).keys if (self.folder / FILE).is_file() else []
        jobs, keys = jobs_of(overrides, list(dict.fromkeys([*varied, *self.params])))
        self._check_worker()
        self.check()
        sweep = self.begin(jobs, keys)
        finished = {s.job.name for s in sweep.states() if s.state == FINISHED}
        to_run = [job for job in jobs if job.name not in finished | self._invalid]
        if (warning := uneven_jobs([(job, self.composed(job)) for job in to_run])) is not None:
            say(warning)
        self.launch(sweep, jobs)
        self.end(sweep, jobs)


def jobs_of(overrides: Sequence[Override], always: Sequence[str]) -> tuple[list[Job], list[str]]:
    """All combinations of values, and the keys that name the jobs.

    Args:
        overrides: parsed overrides; the last override of a key counts.
        always: keys that name a job even if they have only one value, such as the keys of an
            experiment's own sweep; they come first in the name.

    Raises:
        ConfigError: an override sweeps over an interval, which has no end.
    """
    values: dict[str, list[str]] = {}
    swept: dict[str, bool] = {}
    for override in overrides:
        key = override.get_key_element()
        swept[key] = override.is_sweep_override()
        values[key] = list(dict.fromkeys(values_of(override)))
    keys = [key for key in always if key in values]
    keys += [key for key in values if swept[key] and key not in always]
    combinations = itertools.product(*([f"{k}={v}" for v in vs] for k, vs in values.items()))
    return [Job.of(combination, keys) for combination in combinations], keys


def values_of(override: Override) -> list[str]:
    """The values of an override, as typed.

    Raises:
        ConfigError: the values are an interval.
    """
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if override.is_discrete_sweep():
        return list(override.sweep_string_iterator())
    raise ConfigError(
        f"{override.get_key_element()}: found {override.get_value_string()}, expected values to "
        "try one by one; hydra/sweeper=optuna searches intervals"
    )


def repeated(overrides: Sequence[Override]) -> list[str]:
    """One line for each value that a key has twice; the value runs once."""
    last = {override.get_key_element(): override for override in overrides}
    counts = {key: Counter(values_of(override)) for key, override in last.items()}
    return [
        f"{key}: found {value} {count} times; the value runs once"
        for key, values in counts.items()
        for value, count in values.items()
        if count > 1
    ]
