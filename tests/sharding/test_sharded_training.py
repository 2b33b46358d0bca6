"""Processes that share tables train as one process with whole tables."""

import os
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.multiprocessing as mp
from conftest import ROOT
from hydra.errors import HydraException
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import (
    LightningEnvironment,
    find_free_network_port,
)
from training.test_ddp import Case, case, odd_dataset

from kgrec.config.messages import user_error
from kgrec.data.datamodule import KGDataModule
from kgrec.errors import ConfigError
from kgrec.models.kgcn.graph_state import whole_state
from kgrec.sharding.building import sharded_tables
from kgrec.sharding.table import tables_of
from kgrec.training import distributed
from kgrec.training.module import RecommenderModule
from kgrec.training.norms import Norms
from kgrec.training.sharded import Sharded
from kgrec.training.updates import UpdateRule

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))

# Sums in another order differ in the last digits, and three epochs of Adam enlarge that.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}

# Models that need a whole table; what their message names.
REFUSED = {"kgat": "a slice"}

# Models without nn.Embedding, of which each process has the whole.
REPLICATED = {"blend", "kgin", "lightckg", "lightgcn", "per"}

LAZY = "optimizer=lazy_adam"
FAST = [
    ("model=svd", LAZY),  # tables alone
    ("model=cke", LAZY, "min_rows:10"),  # a table in shards, another one whole
]
MORE = [
    ("model=kgcn", LAZY, "accumulate"),  # and the whole gradient is clipped
    ("model=kgcn", LAZY, "clip by value"),
    ("model=kgcn", LAZY, "weights"),
    ("model=kgcn", LAZY, "min_rows:1000"),  # every table is whole
    ("model=kgcn", LAZY, "model.aggregator=avg", "model.K=all", "pieces"),
    ("model=svd", LAZY, "loss=softmax", "negatives=in_batch", "pieces"),
    ("model=libfm", LAZY, "model.attributes=true", "min_rows:20"),
]

Overrides = tuple[str, ...]


class Curve(pl.Callback):
    """Keeps the metrics of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.epochs.append({name: v.clone() for name, v in trainer.callback_metrics.items()})


def fit(case: Case, overrides: Overrides, rank: int, ranks: int) -> dict[str, Any]:
    """Metrics of every epoch, weights, and the rows of this process, after training."""
    words = dict(word.split(":") for word in overrides if ":" in word)
    pl.seed_everything(0, verbose=False)
    if ranks > 1:
        with sharded_tables(rank, ranks, int(words.get("min_rows", 1))):
            recommender = instantiate(case.model, case.dataset)
    else:
        recommender = instantiate(case.model, case.dataset)
    rule = UpdateRule(1, 0.01, "value") if "clip by value" in overrides else case.update_rule
    recommender.objective = case.objective
    recommender.precompute(case.dataset)
    module = RecommenderModule(
        recommender, instantiate(case.optimizer), 0, {}, memory_budget=case.memory_budget,
        ks=[5, 10], rank_validation=True, update_rule=rule,
    )  # fmt: skip
    kinds, curve = recommender.step_batches, Curve()
    data = KGDataModule(case.dataset, case.batch_size, 64, case.negatives, kinds=kinds)
    trainer = pl.Trainer(
        strategy=Sharded(find_unused_parameters=True) if ranks > 1 else "auto", devices=ranks,
        accelerator="cpu", max_epochs=3, logger=False, plugins=LightningEnvironment(),
        callbacks=[Norms(), curve], enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    tables = tables_of(module)
    return {
        "curve": curve.epochs,
        "weights": {n: t for n, t in module.state_dict().items() if n not in tables},
        "shards": {n: t.local.detach() for n, t in tables.items()},
        "threshold": torch.tensor(module.threshold),
    }


def process(rank: int, ranks: int, port: int, cases: list[Overrides], folder: str) -> None:
    """One of several processes, with the environment of Lightning's launcher."""
    torch.set_num_threads(1)
    for number, overrides in enumerate(cases):
        os.environ |= {
            "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(ranks),
            "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        try:
            result = fit(case(overrides), overrides, rank, ranks)
        except (ConfigError, HydraException) as error:
            result = {"error": user_error(error)}
        torch.save(result, f"{folder}/{number}-{rank}.pt")
    distributed.close()


def check_parity(cases: list[Overrides], ranks: int, folder: Path) -> dict[Overrides, Any]:
    """Trains on several processes and on one, and compares everything.

    Returns:
        Names of the shared tables, or the error, of each case.
    """
    arguments = ranks, find_free_network_port(), cases, str(folder)
    mp.start_processes(process, arguments, nprocs=ranks, start_method="fork")
    outcomes = {}
    for number, overrides in enumerate(cases):
        files = [folder / f"{number}-{rank}.pt" for rank in range(ranks)]
        every = [torch.load(file, weights_only=True) for file in files]
        outcomes[overrides] = every[0].get("error") or list(every[0]["shards"])
        if "error" in every[0]:
            assert len({result["error"] for result in every}) == 1, overrides
        else:
            one = fit(case(overrides), overrides, 0, 1)
            compare(every, one, " ".join(overrides))
    return outcomes


def compare(every: list[dict[str, Any]], one: dict[str, Any], name: str) -> None:
    first = every[0]
    tables = {n: whole([e["shards"][n] for e in every]) for n in first["shards"]}
    for result in every[1:]:  # what all processes have is the same, bit by bit
        torch.testing.assert_close(result["weights"], first["weights"], rtol=0, atol=0)
        torch.testing.assert_close(result["curve"], first["curve"], rtol=0, atol=0)
    assert {"train/loss", "val/f1_val_threshold", "val/recall@10"} <= set(one["curve"][0]), name
    assert [set(epoch) for epoch in first["curve"]] == [set(epoch) for epoch in one["curve"]]

    def message(text: str) -> str:
        return f"{name}: {text}"

    weights = whole_state(first["weights"] | tables)
    assert weights.keys() == one["weights"].keys()
    torch.testing.assert_close(weights, one["weights"], **CLOSE, msg=message)
    torch.testing.assert_close(first["curve"], one["curve"], **CLOSE, msg=message)
    torch.testing.assert_close(first["threshold"], one["threshold"], **CLOSE, msg=message)


def whole(shards: list[torch.Tensor]) -> torch.Tensor:
    """The table whose row r is on rank r mod W."""
    table = shards[0].new_empty(sum(map(len, shards)), shards[0].shape[1])
    for rank, shard in enumerate(shards):
        table[rank :: len(shards)] = shard
    return table


def contract(ranks: int, folder: Path, models: list[str]) -> None:
    """Models train as on one process, or are refused with a message."""
    trained = [
        m for m in MODELS if instantiate(case((f"model={m}",)).model, odd_dataset()).trainable
    ]
    assert len(trained) > 8
    cases = {model: (f"model={model}", LAZY) for model in trained}
    outcomes = check_parity(list(cases.values()), ranks, folder)
    for model, overrides in cases.items():
        outcome = outcomes[overrides]
        if model in REFUSED:
            assert outcome == (
                "trainer: found sharded tables and a model that reads a whole table "
                f"({REFUSED[model]}), expected a model that reads rows by their ids, or "
                "trainer=ddp, with which each process has all rows"
            )
        else:
            assert isinstance(outcome, list), outcome
            assert (outcome == []) == (model in REPLICATED), (model, outcome)


def test_two_processes_train_as_one(tmp_path: Path):
    shared = check_parity(FAST, 2, tmp_path)
    names = {word: [name.split(".")[-2] for name in shared[word]] for word in FAST}
    assert names[FAST[0]] == ["user_embedding", "item_embedding"]
    assert names[FAST[1]] == ["user_embedding", "item_embedding", "entity_embedding"]


@pytest.mark.slow
def test_two_processes_train_every_model_as_one(tmp_path: Path):
    contract(2, tmp_path, MODELS)


@pytest.mark.slow
def test_four_processes_train_every_model_with_tables_as_one(tmp_path: Path):
    contract(4, tmp_path, [model for model in MODELS if model not in REPLICATED])


@pytest.mark.slow
def test_all_ways_of_a_step_are_those_of_one_process(tmp_path: Path):
    assert check_parity(MORE, 3, tmp_path).keys() == set(MORE)
