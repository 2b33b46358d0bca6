"""``trainer=sharded``: tables that processes share; batches in parallel; the rest as DDP does.

A checkpoint is a folder. ``plain.ckpt`` has everything but the shared tables, as a checkpoint of
one process. ``tables/`` has the tables and the optimiser's numbers of their rows, which every
process writes for itself (:mod:`kgrec.sharding.checkpoint`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from kgrec.sharding.checkpoint import PLAIN, TABLES, load_tables, save_tables
from kgrec.sharding.table import ShardedTable, tables_of
from kgrec.training.distributed import DDP

MOMENTS = ("exp_avg", "exp_avg_sq")  # numbers of LazyAdam for every number of a table


class Sharded(DDP):
    """DDP for dense parameters; each process has the rows r of every table with r mod W = rank.

    Args:
        min_rows: tables with fewer rows are not shared; the model is built with it.
        arguments: arguments of Lightning's DDPStrategy.
    """

    _folder: Path  # checkpoint from which the run resumes

    def __init__(self, min_rows: int = 1, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.min_rows = min_rows

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The state of everything but the shared tables."""
        state = super().lightning_module_state_dict()
        return {n: t for n, t in state.items() if not isinstance(t, ShardedTable)}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of everything but the rows of shared tables."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        shared = {id(table.local) for table in self._tables().values()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        kept = {
            number: {k: v for k, v in facts.items() if k not in MOMENTS}
            if id(parameters[number]) in shared
            else facts
            for number, facts in state["state"].items()
        }
        return {**state, "state": kept}

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Writes a folder under another name, and renames it; all processes take part."""
        path = Path(filepath)
        incoming = path.with_name(f".{path.name}.incoming")
        if self.is_global_zero:
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(parents=True)
        self.barrier()
        layouts = save_tables(self._stored(), incoming / TABLES)
        if self.is_global_zero:
            whole = {**checkpoint, "tables": layouts}
            self.checkpoint_io.save_checkpoint(whole, incoming / PLAIN, storage_options)
            replaced = path.with_name(f".{path.name}.replaced")
            if path.exists():
                path.rename(replaced)
            incoming.rename(path)
            shutil.rmtree(replaced, ignore_errors=True)
        self.barrier()

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The plain part of a checkpoint; the methods below read the tables."""
        self._folder = Path(checkpoint_path)
        return super().load_checkpoint(self._folder / PLAIN, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Restores parameters and buffers; every process reads its rows of the tables."""
        module, tables = self.lightning_module, self._tables()
        assert module is not None
        expected = module.state_dict().keys() - tables.keys()
        module.load_state_dict(checkpoint["state_dict"], strict=False)
        if strict and expected != checkpoint["state_dict"].keys():
            raise RuntimeError("found other parameters in the checkpoint than in the model")
        load_tables(tables, checkpoint["tables"], self._folder / TABLES)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Restores the optimiser; every process reads the numbers of its rows."""
        super().load_optimizer_state_dict(checkpoint)
        layouts = checkpoint["tables"]
        for name, table in self._tables().items():
            for moment in MOMENTS:
                if f"{name}/{moment}" in layouts:
                    numbers = torch.zeros_like(table.local)
                    self._optimizer_state_of(table)[moment] = numbers
        moments = {n: t for n, t in self._stored().items() if n not in self._tables()}
        load_tables(moments, layouts, self._folder / TABLES)

    def _tables(self) -> dict[str, ShardedTable]:
        assert self.lightning_module is not None
        return tables_of(self.lightning_module)

    def _optimizer_state_of(self, table: ShardedTable) -> dict[str, Any]:
        """What the optimiser keeps for a table; empty without an optimiser."""
        states: list[dict[str, Any]] = [
            optimizer.state[table.local]
            for optimizer in self.optimizers
            if any(table.local is p for group in optimizer.param_groups for p in group["params"])
        ]
        return states[0] if states else {}

    def _stored(self) -> dict[str, ShardedTable]:
        """The tables, and the optimiser's numbers of their rows, which are tables too."""
        stored = self._tables()
        for name, table in list(stored.items()):
            for moment in MOMENTS:
                numbers = self._optimizer_state_of(table).get(moment)
                if numbers is not None:
                    rows = ShardedTable(len(table), numbers, table.rank, table.ranks)
                    stored[f"{name}/{moment}"] = rows
        return stored
