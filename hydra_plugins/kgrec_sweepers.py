"""Where Hydra looks for sweepers, whenever a Hydra program starts: nothing heavy is here."""

from __future__ import annotations

import inspect
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """See :class:`kgrec.sweeps.grid.Grid`, which takes the same arguments."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def kind(self) -> type[Sweeper]:
        """The sweeper itself."""
        from kgrec.sweeps.grid import Grid as Real

        return Real

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """As Hydra calls it, before :meth:`sweep`.

        Raises:
            ConfigError: a key that the sweeper does not know.
        """
        from kgrec.errors import ConfigError

        kind = self.kind()
        known = [name for name in inspect.signature(kind).parameters if name != "self"]
        for key in self.arguments:
            if key not in known:
                raise ConfigError(
                    f"hydra.sweeper.{key}: found an unknown key, expected one of "
                    f"{', '.join(known)} (hydra/sweeper={type(self).__name__.lower()})"
                )
        self.real = kind(**self.arguments)
        self.real.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra calls it, with the overrides of the command line."""
        return self.real.sweep(arguments)


class Optuna(Grid):
    """See :class:`kgrec.sweeps.search.Search`, which takes the same arguments."""

    def kind(self) -> type[Sweeper]:
        """The sweeper itself."""
        from kgrec.sweeps.search import Search

        return Search
