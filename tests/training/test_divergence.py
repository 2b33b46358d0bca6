"""A training whose numbers are no longer finite stops, and its last good checkpoint stays."""

import csv
import re
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import Train
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from torch import Tensor, nn

import kgrec.training.module
from kgrec.errors import DivergedError
from kgrec.runs.status import read_status
from kgrec.training.divergence import LossWatch, check_parameters
from kgrec.training.losses import step_loss

NAN, INF = float("nan"), float("inf")
STEPS_PER_EPOCH = 4  # of the small data with batches of 200 rows
QUICK = ["model=svd", "ranking=none", "epochs=5", "batch_size=200"]


def watched(*losses: float) -> LossWatch:
    watch = LossWatch(nn.Linear(2, 1))
    watch.begin(2)
    for loss in losses:
        watch.look()
        watch.add(torch.tensor(loss))
    return watch


def test_the_first_loss_that_is_not_finite_is_named_with_the_loss_before_it():
    with pytest.raises(DivergedError) as error:
        watched(0.5, 123.0, NAN, 1.0, INF).look(1)
    assert "found a loss of nan in epoch 3, step 3 (123 in the step before" in str(error.value)
    assert re.search(r"norm of the gradient 0, largest norm of a row 0\.\d+ in ", str(error.value))
    assert "lower optimizer.lr" in str(error.value)
    assert "the checkpoints of epoch 2 and before are kept" in str(error.value)


def test_an_epoch_is_not_waited_for():
    with pytest.raises(DivergedError, match=r"loss of inf in epoch 3, step 41 \(2 in the step"):
        watched(*[2.0] * 40, INF, *[1.0] * 20)
    watched(*[1e38] * 60).look(1)  # large, and finite


def test_a_parameter_is_named_with_the_count_of_its_bad_numbers():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model.empty = nn.Parameter(torch.empty(0, 4))
    model.scalar = nn.Parameter(torch.tensor(1.0))
    with torch.no_grad():
        model[0].weight.fill_(3e38)  # their norm overflows
        check_parameters(model, 0)
        model[1].weight[0, 1] = -INF
    with pytest.raises(
        DivergedError, match=r"found 1 of 2 numbers of the parameter 1\.weight that"
    ):
        check_parameters(model, 0)
    model[1].weight.requires_grad_(requires_grad=False)
    check_parameters(model, 0)


def breaks(monkeypatch: pytest.MonkeyPatch, step: int, parameter: bool) -> None:
    """Makes the loss, or a number that no later step reads, not finite in a step of a run."""
    calls = []

    def broken(recommender, batches) -> Tensor:
        calls.append(1)
        loss = step_loss(recommender, batches)
        if len(calls) == step:
            if not parameter:
                return loss * NAN
            with torch.no_grad():
                recommender.user_embedding.weight[-1, 0] = INF
        return loss

    monkeypatch.setattr(kgrec.training.module, "step_loss", broken)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (False, f"found a loss of nan in epoch 2, step {STEPS_PER_EPOCH} (0."),
        (True, "of the parameter user_embedding.weight that are not finite after epoch 2"),
    ],
)
def test_a_run_that_diverges_keeps_its_checkpoints(parameter, message, train: Train, monkeypatch):
    one = train(*QUICK, "epochs=1", folder="one")
    assert one.code == 0
    breaks(monkeypatch, step=2 * STEPS_PER_EPOCH, parameter=parameter)
    run = train(*QUICK)
    assert run.code == 1
    assert (run.out + run.err).count("error: ") == 1
    assert message in run.out
    assert "Traceback" not in run.out + run.err
    status = read_status(run.folder)
    assert (status["state"], status["epoch"]) == ("diverged", 1)
    assert message in status["error"]
    for name in ("last", "best"):
        mine, reference = (
            torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
            for folder in (run.folder, one.folder)
        )
        assert mine["epoch"] == reference["epoch"]
        for key, value in mine["state_dict"].items():
            assert torch.equal(value, reference["state_dict"][key])
    assert not (run.folder / "metrics.json").exists()
    assert [p for p in run.folder.rglob("*") if p.name.startswith(".")] == []


def jobs(sweep: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((sweep / "sweep.csv").read_text(encoding="utf-8").splitlines()))


@pytest.mark.slow
def test_a_sweep_goes_on_marks_the_job_and_does_not_repeat_it(train: Train, tmp_path: Path):
    words = ["-m", *QUICK, "epochs=1", "optimizer.lr=1e37,1e-2", "hydra.sweep.dir=sweep"]
    first = train(*words)
    assert first.code == 0, first.out + first.err
    assert "lr=1e+37: diverged after" in first.out
    rows = jobs(tmp_path / "sweep")
    assert [row["state"] for row in rows] == ["diverged", "finished"]
    assert [row["best"] for row in rows] == ["false", "true"]
    before = read_status(tmp_path / "sweep" / rows[0]["folder"])
    assert train(*words).code == 0
    assert read_status(tmp_path / "sweep" / rows[0]["folder"]) == before


@pytest.mark.slow
def test_a_search_goes_on_after_trials_that_diverged(train: Train, tmp_path: Path):
    run = train(
        "-m", "hydra/sweeper=optuna", *QUICK, "epochs=1", "optimizer.lr=choice(1e37,2e37)",
        "hydra.sweeper.n_trials=5", "hydra.sweep.dir=search",
    )  # fmt: skip
    assert run.code == 1
    assert "5 of 5 trials" not in run.out
    assert "diverged and none finished" in run.out + run.err
    assert "have failed" not in run.out  # a search ends where its first three trials fail
    rows = jobs(tmp_path / "search")
    assert {row["state"] for row in rows} == {"diverged"}


def two_processes(rank: int, port: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=60), world_size=2, rank=rank
    )
    try:
        watched(*[1.0] * 25, NAN if rank else 2.0, *[1.0] * 40)
    except DivergedError as error:
        Path(folder, str(rank)).write_text(str(error))
    dist.destroy_process_group()


def test_all_processes_stop_together_where_the_loss_of_one_is_not_finite(tmp_path: Path):
    port = find_free_network_port()
    mp.start_processes(two_processes, (port, str(tmp_path)), nprocs=2, start_method="fork")
    first, second = ((tmp_path / str(rank)).read_text() for rank in (0, 1))
    assert "found a loss on another device in epoch 3, step 26 (1 in the step before" in first
    assert "found a loss of nan in epoch 3, step 26 (1 in the step before" in second
