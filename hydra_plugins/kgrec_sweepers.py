"""Where Hydra looks for sweepers. It does so whenever any Hydra program starts, so nothing heavy is here."""

from __future__ import annotations

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class Grid(Sweeper):
    """See :class:`kgrec.sweeps.grid.Grid`, which takes the same arguments."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments

    def make(self) -> Sweeper:
        """The sweeper itself."""
        from kgrec.sweeps.grid import Grid as Real

        return Real(**self.arguments)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """As Hydra calls it, before :meth:`sweep`."""
        self.real = self.make()
        self.real.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra calls it, with the overrides of the command line."""
        return self.real.sweep(arguments)


class Optuna(Grid):
    """See :class:`kgrec.sweeps.search.Search`, which takes the same arguments."""

    def make(self) -> Sweeper:
        """The sweeper itself."""
        from kgrec.sweeps.search import Search

        return Search(**self.arguments)
