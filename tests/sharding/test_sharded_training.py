"""Processes that share tables train as one process with whole tables."""

import os
from typing import Any

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import (
    LightningEnvironment,
)
from training.test_ddp import Case, case

from kgrec.data.datamodule import KGDataModule
from kgrec.sharding.building import sharded_tables
from kgrec.sharding.table import tables_of
from kgrec.training import distributed
from kgrec.training.module import RecommenderModule


def fit(case: Case, rank: int, ranks: int) -> dict[str, Any]:
    pl.seed_everything(0, verbose=False)
    if ranks > 1:
        with sharded_tables(rank, ranks):
            recommender = instantiate(case.model, case.dataset)
    else:
        recommender = instantiate(case.model, case.dataset)
    recommender.objective = case.objective
    recommender.precompute(case.dataset)
    module = RecommenderModule(
        recommender, instantiate(case.optimizer), 0, {}, memory_budget=case.memory_budget,
        ks=[5, 10], rank_validation=True, update_rule=case.update_rule,
    )  # fmt: skip
    kinds = recommender.step_batches
    data = KGDataModule(case.dataset, case.batch_size, 64, case.negatives, kinds=kinds)
    strategy = distributed.DDP(find_unused_parameters=True) if ranks > 1 else "auto"
    trainer = pl.Trainer(
        strategy=strategy, devices=ranks, accelerator="cpu", max_epochs=3, logger=False,
        plugins=LightningEnvironment(), enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    state = {n: t for n, t in module.state_dict().items() if n not in tables_of(module)}
    shards = {n: t.local.detach() for n, t in tables_of(module).items()}
    metrics = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    return {"weights": state, "shards": shards, "metrics": metrics}


def process(rank: int, ranks: int, port: int, cases: list[tuple[str, ...]], folder: str) -> None:
    torch.set_num_threads(1)
    for number, overrides in enumerate(cases):
        os.environ |= {
            "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(ranks),
            "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        try:
            result = fit(case(overrides), rank, ranks)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        torch.save(result, f"{folder}/{number}-{rank}.pt")
    distributed.close()
