"""Shares of rows, and starts that are refused, of several processes."""

import pytest
import torch
from conftest import Train

from kgrec.data.batches import Epochs, own_rows
from kgrec.data.training_rows import PointwiseRows
from kgrec.errors import ConfigError
from kgrec.training import distributed


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
