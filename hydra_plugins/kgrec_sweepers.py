"""The sweepers of kgrec, in the folder where Hydra looks for plugins.

Hydra imports this file whenever a Hydra program starts, so heavy imports are left to the methods.
"""

from __future__ import annotations

import inspect
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """Stands for :class:`kgrec.sweeps.grid.Grid`, which takes the same arguments."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def sweeper_class(self) -> type[Sweeper]:
        """The class of the real sweeper."""
        from kgrec.sweeps.grid import Grid as RealGrid

        return RealGrid

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Makes the real sweeper; Hydra calls this before :meth:`sweep`.

        Raises:
            ConfigError: the sweeper does not take one of the arguments.
        """
        from kgrec.errors import ConfigError

        sweeper_class = self.sweeper_class()
        names = [name for name in inspect.signature(sweeper_class).parameters if name != "self"]
        for key in self.arguments:
            if key not in names:
                raise ConfigError(
                    f"hydra.sweeper.{key}: found an unknown key, expected one of "
                    f"{', '.join(names)} (hydra/sweeper={type(self).__name__.lower()})"
                )
        self.real = sweeper_class(**self.arguments)
        self.real.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep; Hydra calls this with the overrides of the command line."""
        return self.real.sweep(arguments)


class Optuna(Grid):
    """Stands for :class:`kgrec.sweeps.search.Search`, which takes the same arguments."""

    def sweeper_class(self) -> type[Sweeper]:
        """The class of the real sweeper."""
        from kgrec.sweeps.search import Search

        return Search
