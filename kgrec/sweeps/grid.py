"""Every combination of the values that are given: ``-m model.K=2,4 seed=1,2``."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.types import Override

from kgrec.errors import ConfigError
from kgrec.sweeps.folder import FILE, Job, SweepFolder
from kgrec.sweeps.sweeper import KgrecSweeper


class Grid(KgrecSweeper):
    """All combinations, those of one seed or setting nearest together in the order as typed."""

    def _sweep(self, arguments: list[str]) -> Any:
        overrides = self.parsed(arguments)
        # One value of what a sweep varies is a value more.
        there = SweepFolder.read(self.folder).keys if (self.folder / FILE).is_file() else []
        jobs, keys = jobs_of(overrides, list(dict.fromkeys([*there, *self.params])))
        self.check()
        sweep = self.begin(jobs, keys)
        self.launch(sweep, jobs)
        self.end(sweep, jobs)


def jobs_of(overrides: Sequence[Override], always: Sequence[str]) -> tuple[list[Job], list[str]]:
    """All combinations, and the keys that they are named by.

    Args:
        overrides: parsed; of a key that comes twice the last one counts.
        always: keys that name a job even where only one value is asked for, such as those of an
            experiment's own sweep; they come first in the name.

    Raises:
        ConfigError: a sweep over an interval, which has no end.
    """
    choices: dict[str, list[str]] = {}
    swept: dict[str, bool] = {}
    for override in overrides:
        key = override.get_key_element()
        swept[key] = override.is_sweep_override()
        if not swept[key]:
            choices[key] = [override.get_value_element_as_str()]
        elif override.is_discrete_sweep():
            choices[key] = list(override.sweep_string_iterator())
        else:
            raise ConfigError(
                f"{key}: found {override.get_value_string()}, expected values to try one by one; "
                "hydra/sweeper=optuna searches intervals"
            )
    keys = [key for key in always if key in choices]
    keys += [key for key in choices if swept[key] and key not in always]
    combinations = itertools.product(*([f"{k}={v}" for v in vs] for k, vs in choices.items()))
    return [Job.of(combination, keys) for combination in combinations], keys
