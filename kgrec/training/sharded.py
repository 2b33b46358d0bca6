"""``trainer=sharded``: tables that processes share; batches in parallel; the rest as DDP does.

A checkpoint of a model with such tables is a folder (:mod:`kgrec.runs.stored_tables`). A run may
resume from a folder or a file, with any number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kgrec.disk_errors import disk_error
from kgrec.files import atomic_folder
from kgrec.models.kgcn.graph_state import shared_state, whole_state
from kgrec.runs.stored_tables import PLAIN, TABLES, StoredTable, stored_tables, without_moments
from kgrec.sharding.checkpoint import in_order, save_tables, take_rows
from kgrec.sharding.table import ShardedTable, tables_of
from kgrec.training.distributed import DDP

MOMENTS = ("exp_avg", "exp_avg_sq")  # numbers of LazyAdam for every number of a table


class Sharded(DDP):
    """DDP for dense parameters; each process has the rows r of every table with r mod W = rank.

    Args:
        min_rows: tables with fewer rows are not shared; the model is built with it.
        arguments: arguments of Lightning's DDPStrategy.
    """

    def __init__(self, min_rows: int = 1, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.min_rows = min_rows

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The state of everything but the shared tables."""
        state = super().lightning_module_state_dict()
        return {n: t for n, t in state.items() if not isinstance(t, ShardedTable)}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The state of everything but the rows of shared tables, whose ``table`` it names."""
        state: dict[str, Any] = super().optimizer_state(optimizer)
        names = {id(table.local): name for name, table in self._tables().items()}
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for number, facts in state["state"].items():
            if name := names.get(id(parameters[number])):
                kept = {k: v for k, v in facts.items() if k not in MOMENTS}
                state["state"][number] = {**kept, "table": name}
        return state

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        """Writes the folder of a checkpoint, whole or not at all; all processes take part.

        Raises:
            DiskError: the folder cannot be written; an older checkpoint of this name is intact.
        """
        if not self._tables():
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(filepath)
        try:
            with atomic_folder(path) if self.is_global_zero else nullcontext() as own:
                incoming = self.broadcast(own)
                assert incoming is not None
                layouts = save_tables(self._stored(), incoming / TABLES)
                if self.is_global_zero:
                    plain = {**checkpoint, "tables": layouts}
                    self.checkpoint_io.save_checkpoint(plain, incoming / PLAIN, storage_options)
        except Exception as error:  # the other processes raise what the first one raises
            reported = disk_error(path, error)
            if reported is None or reported is error:
                raise
            raise reported from error
        self.barrier()

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The plain part of a checkpoint; the methods below take the rows of the tables.

        Raises:
            CheckpointError: the folder is damaged.
        """
        path = Path(checkpoint_path)
        if not path.is_dir():
            return super().load_checkpoint(path, weights_only)
        checkpoint = super().load_checkpoint(path / PLAIN, weights_only)
        return {**checkpoint, "tables": stored_tables(checkpoint, path)}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Restores parameters and buffers; every process takes its rows of the tables."""
        module, tables = self.lightning_module, self._tables()
        assert module is not None
        stored: dict[str, StoredTable] = checkpoint.get("tables", {})
        state = dict(checkpoint["state_dict"])
        for part in without_moments(stored.values()):
            if part.name not in tables:  # min_rows was smaller
                state[part.name] = in_order(part.shards())
        other = {name: table for name, table in tables.items() if name not in stored}
        state = shared_state(whole_state(state), other)
        plain = {name: value for name, value in state.items() if name not in tables}
        if strict and plain.keys() != module.state_dict().keys() - tables.keys():
            raise RuntimeError("found other parameters in the checkpoint than in the model")
        module.load_state_dict(plain, strict=False)
        for name, table in tables.items():
            take_rows(table, stored[name].shards() if name in stored else [state[name]])

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Restores the optimiser; every process takes the numbers of its rows."""
        stored: dict[str, StoredTable] = checkpoint.get("tables", {})
        tables = {id(table.local): table for table in self._tables().values()}
        states = []
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            own = {
                number: _own_moments(tables.get(id(parameters[number])), facts, stored)
                for number, facts in saved["state"].items()
            }
            states.append({**saved, "state": own})
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": states})

    def _tables(self) -> dict[str, ShardedTable]:
        assert self.lightning_module is not None
        return tables_of(self.lightning_module)

    def _stored(self) -> dict[str, ShardedTable]:
        """The tables, and the optimiser's numbers of their rows, which are tables too."""
        stored = self._tables()
        for name, table in list(stored.items()):
            for optimizer in self.optimizers:
                moments = optimizer.state.get(table.local, {})
                for moment in MOMENTS:
                    if moment in moments:
                        rows = ShardedTable(len(table), moments[moment], table.rank, table.ranks)
                        stored[f"{name}/{moment}"] = rows
        return stored


def _own_moments(
    table: ShardedTable | None, facts: Mapping[str, Any], stored: Mapping[str, StoredTable]
) -> dict[str, Any]:
    """The optimiser's state of a parameter, with the numbers of the rows of this process.

    Args:
        table: table of which the process has some rows; None: it has the whole parameter.
        facts: state in the checkpoint: the numbers of all rows, or the name of a stored table.
        stored: stored tables of the checkpoint; empty for a file.
    """
    own = {key: value for key, value in facts.items() if key != "table"}
    for moment in MOMENTS:
        part = stored.get(f"{facts.get('table')}/{moment}")
        if part is None and moment not in facts:
            continue
        shards = [facts[moment]] if part is None else part.shards()
        own[moment] = in_order(shards) if table is None else _rows_of(table, shards)
    return own


def _rows_of(table: ShardedTable, shards: Sequence[Tensor]) -> Tensor:
    """The numbers of the rows of this process."""
    rows = ShardedTable(len(table), torch.empty_like(table.local), table.rank, table.ranks)
    take_rows(rows, shards)
    return rows.local.detach()
