"""Shares of rows, and starts that are refused, of several processes."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytorch_lightning as pl
import torch
from conftest import ROOT, SMALL, Train, small
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import (
    LightningEnvironment,
)

from kgrec.data.batches import Epochs, own_rows
from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.data.training_rows import PointwiseRows
from kgrec.errors import ConfigError
from kgrec.training import distributed
from kgrec.training.module import RecommenderModule
from kgrec.training.updates import UpdateRule


class Case(NamedTuple):
    """A short training: 3 epochs, whose last step has one row."""

    model: Any
    optimizer: Any
    dataset: RecDataset
    batch_size: int
    memory_budget: float
    update_rule: UpdateRule


def odd_dataset() -> RecDataset:
    """Odd numbers of validation rows and of users to evaluate: two processes have unequal shares.

    With 343 pairs, or 686 rows with their negatives, several batch sizes leave one row for the last
    step.
    """
    dataset = clean(small(), RandomSplit())
    train = dataset.train.take(torch.arange(343))
    odd = replace(dataset, train=train, val=dataset.val.take(slice(0, 229)))
    assert len(odd.val) == 229
    assert len(odd.val.users[odd.val.labels == 1].unique()) % 2
    return odd


def case(overrides: tuple[str, ...]) -> Case:
    dataset = odd_dataset()
    words = [word for word in overrides if "=" in word]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*SMALL, "protocol=clean", *words, "paths.run=x"])
    kinds = instantiate(cfg.model, dataset).batches
    rows = KGDataModule(dataset, 1, 1, kinds=kinds).train_batches.num_rows
    batch_size = next(n for n in range(50, rows) if rows % n == 1)
    budget = 20_000.0 if "pieces" in overrides else float("inf")
    rule = UpdateRule(3, gradient_clip_val=0.1) if "accumulate" in overrides else UpdateRule()
    return Case(cfg.model, cfg.optimizer, dataset, batch_size, budget, rule)


def fit(case: Case, strategy: Any, devices: int, folder: Path | None = None) -> dict[str, Any]:
    """Weights and logged metrics after training."""
    pl.seed_everything(0, verbose=False)
    recommender = instantiate(case.model, case.dataset)
    recommender.precompute(case.dataset)
    module = RecommenderModule(
        recommender, instantiate(case.optimizer), 0, {}, memory_budget=case.memory_budget,
        ks=[5, 10], rank_validation=True, update_rule=case.update_rule,
    )  # fmt: skip
    data = KGDataModule(case.dataset, case.batch_size, 64, kinds=recommender.batches)
    trainer = pl.Trainer(
        strategy=strategy, devices=devices, accelerator="cpu", max_epochs=3, logger=False,
        plugins=LightningEnvironment(), enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data)
    metrics = {name: value.clone() for name, value in trainer.callback_metrics.items()}
    return {"weights": module.state_dict(), "metrics": metrics, "threshold": module.threshold}


def process(rank: int, port: int, cases: list[tuple[str, ...]], folder: str) -> None:
    """One of two processes, with the environment of Lightning's launcher."""
    torch.set_num_threads(1)
    os.environ |= {
        "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    for number, overrides in enumerate(cases):
        os.environ["WORLD_SIZE"] = "2"  # a trainer removes it
        result = fit(case(overrides), distributed.DDP(find_unused_parameters=True), 2)
        torch.save(result, f"{folder}/{number}-{rank}.pt")
    distributed.close()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
def test_shares_of_rows_are_complete_and_even(n, world_size):
    parts = [list(range(n)[own_rows(n, rank, world_size)]) for rank in range(world_size)]
    assert [row for part in parts for row in part] == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_processes_together_serve_one_epoch(dataset):
    source = PointwiseRows(dataset.train)
    size = source.num_rows // 3 - 1  # three whole steps, and a last step with few rows
    whole = [step for [step] in Epochs([source], size, lambda: 3)]
    parts = [
        [step for [step] in Epochs([source], size, lambda: 3, place=lambda r=rank: (r, 8))]
        for rank in range(8)
    ]
    assert {len(steps) for steps in parts} == {len(whole)}
    assert len(whole[-1].batches[0].users) < 8
    for number, (batches, _) in enumerate(whole):
        steps = [steps[number] for steps in parts]
        assert sum(step.weight for step in steps) == pytest.approx(8)
        served = [step.batches[0] for step in steps if step.weight]
        for column, expected in enumerate(batches[0]):
            assert torch.equal(torch.cat([batch[column] for batch in served]), expected)
        for step in steps:
            if not step.weight:  # a process without rows takes part with a row of the step
                assert len(step.batches[0].users) == 1
                assert step.batches[0].items[0] in batches[0].items


DDP = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]


def check_start(devices=2, nodes=1, multirun=False, folder_given=False):
    distributed.check_start(devices, nodes, multirun, folder_given)


def test_several_devices_in_one_job_of_a_sweep_are_refused():
    check_start()
    with pytest.raises(ConfigError, match=r"found 2 devices in a multirun, expected 1"):
        check_start(multirun=True)
    check_start(devices=1, multirun=True)


def test_torchrun_must_start_the_configured_number_of_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match=r"expected 4 in all, the processes that torchrun"):
        check_start(devices=1)
    with pytest.raises(ConfigError, match=r"hydra.run.dir: found none, expected the run folder"):
        check_start(nodes=2)
    check_start(nodes=2, folder_given=True)
    monkeypatch.setenv(distributed.STARTED, "2000-01-01")
    check_start(nodes=2)


def test_slurm_must_start_the_configured_number_of_tasks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    check_start()  # Lightning starts the processes
    with pytest.raises(ConfigError, match=r"trainer.num_nodes: found 2, expected a start by"):
        check_start(nodes=2)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    check_start(devices=1)  # separate runs
    with pytest.raises(ConfigError, match=r"expected 4 in all, the processes that SLURM"):
        check_start()
    with pytest.raises(ConfigError, match=r"hydra.run.dir: found none, expected the run folder"):
        check_start(nodes=2)
    check_start(nodes=2, folder_given=True)


def test_several_devices_in_a_multirun_are_refused(train: Train):
    run = train("-m", *DDP, "seed=1,2")
    assert run.code == 1
    assert "trainer.devices: found 2 devices in a multirun, expected 1" in run.out + run.err


def test_only_rank_0_prints(monkeypatch: pytest.MonkeyPatch):
    assert distributed.begin(2)
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert distributed.begin(1)  # a separate run
