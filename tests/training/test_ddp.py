"""Two processes, each with its rows of every step, give the result of one process with all rows."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
import pytorch_lightning as pl
import torch
import torch.multiprocessing as mp
from conftest import ROOT, SMALL, Train, small
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import (
    LightningEnvironment,
    find_free_network_port,
)

from kgrec.config.checks import check
from kgrec.config.devices import world_size
from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.models.objectives import Objective
from kgrec.pipeline.parts import make_objective
from kgrec.runs.folder import RunFolder
from kgrec.training import distributed
from kgrec.training.module import RecommenderModule
from kgrec.training.updates import UpdateRule

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


QUICK = [
    ("model=kgcn", "optimizer=lazy_adam"),
    ("model=kgcn", "model.aggregator=avg"),  # reads no relation
    ("model=kgcn", "optimizer=lazy_adam", "accumulate"),
    ("model=kgcn", "weights"),
    ("model=cke", "optimizer=lazy_adam", "pieces"),
    ("model=svd", "optimizer=lazy_adam"),  # tables alone, which DDP would not wrap
    ("model=lightgcn", "optimizer=lazy_adam"),  # reads its tables whole
    ("model=svd", "loss=softmax", "negatives=in_batch", "optimizer=lazy_adam", "pieces"),
]


class Case(NamedTuple):
    """A short training: 3 epochs, whose last step has one row."""

    model: Any
    optimizer: Any
    dataset: RecDataset
    batch_size: int
    memory_budget: float
    update_rule: UpdateRule
    objective: Objective | None
    negatives: str


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
    if "weights" in overrides:
        dataset = replace(dataset, train_weights=1 + torch.arange(343) % 5.0)
    words = [word for word in overrides if "=" in word]
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*SMALL, "protocol=clean", *words, "paths.run=x"])
    recommender, negatives = instantiate(cfg.model, dataset), cfg.negatives.name
    objective = recommender.objective = make_objective(cfg, recommender)
    kinds = recommender.step_batches
    rows = KGDataModule(dataset, 1, 1, negatives, kinds=kinds).train_batches.num_rows
    batch_size = next(n for n in range(50, rows) if rows % n == 1)
    budget = 20_000.0 if "pieces" in overrides else float("inf")
    rule = UpdateRule(3, gradient_clip_val=0.1) if "accumulate" in overrides else UpdateRule()
    return Case(cfg.model, cfg.optimizer, dataset, batch_size, budget, rule, objective, negatives)


def fit(case: Case, strategy: Any, devices: int, folder: Path | None = None) -> dict[str, Any]:
    """Weights and logged metrics after training."""
    pl.seed_everything(0, verbose=False)
    recommender = instantiate(case.model, case.dataset)
    recommender.objective = case.objective
    recommender.precompute(case.dataset)
    module = RecommenderModule(
        recommender, instantiate(case.optimizer), 0, {}, memory_budget=case.memory_budget,
        ks=[5, 10], rank_validation=True, update_rule=case.update_rule,
    )  # fmt: skip
    kinds = recommender.step_batches
    data = KGDataModule(case.dataset, case.batch_size, 64, case.negatives, kinds=kinds)
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


def check_parity(cases: list[tuple[str, ...]], folder: Path) -> None:
    mp.spawn(process, args=(find_free_network_port(), cases, str(folder)), nprocs=2, daemon=True)
    for number, overrides in enumerate(cases):
        one = fit(case(overrides), "auto", 1)
        first, second = (torch.load(folder / f"{number}-{r}.pt", weights_only=True) for r in (0, 1))
        name = " ".join(overrides)
        assert one["weights"], name
        assert first["metrics"].keys() == one["metrics"].keys(), name
        assert {"train/loss", "val/f1_val_threshold", "val/recall@10"} <= set(one["metrics"]), name
        for part in ("weights", "metrics"):
            for key, expected in one[part].items():
                assert torch.equal(first[part][key], second[part][key]), (name, key)
                torch.testing.assert_close(
                    first[part][key], expected, rtol=1e-3, atol=1e-5,
                    msg=lambda text, at=(name, key): f"{at}: {text}",
                )  # fmt: skip
        assert first["threshold"] == second["threshold"], name
        assert abs(first["threshold"] - one["threshold"]) < 1e-4, name


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path):
    check_parity(QUICK, tmp_path)


@pytest.mark.slow
def test_two_processes_train_every_model_as_one(tmp_path: Path):
    cases = [
        (f"model={model}", f"optimizer={optimizer}")
        for model in MODELS
        for optimizer in ("adam", "lazy_adam")
        if instantiate(case((f"model={model}",)).model, odd_dataset()).trainable
    ]
    assert len(cases) > 20
    check_parity(cases, tmp_path)


DDP = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]


def command(*overrides: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, str(ROOT / "train.py"), *SMALL, *DDP, *overrides]
    return subprocess.run(
        program, cwd=cwd, env=os.environ | environment, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def same_run(folder: Path, other: Path) -> None:
    assert files(folder) == files(other)
    lines, expected = ((f / "train.log").read_text().splitlines() for f in (folder, other))
    assert len(lines) == len(expected)
    metrics, reference = (json.loads((f / "metrics.json").read_text()) for f in (folder, other))
    for name, value in reference.items():
        if "seconds" not in name and "memory" not in name:
            assert metrics[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.slow
def test_the_run_folder_is_the_same_as_on_one_device(train: Train, tmp_path: Path):
    settings = ["batch_size=99", "monitor=val/recall@20"]
    done = command(*settings, "hydra.run.dir=two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    one = train(*settings, "trainer.accelerator=cpu", folder="one")
    assert len(done.stdout.splitlines()) == len(one.out.splitlines())
    same_run(tmp_path / "two", one.folder)


BROKEN = """
import os
import torch

class Breaks(torch.optim.Adam):
    def step(self, closure=None):
        if os.environ.get("LOCAL_RANK") == os.environ["BREAKS"]:
            raise RuntimeError("broken on purpose")
        return super().step(closure)
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_process_fails_all_end(rank, tmp_path: Path):
    (tmp_path / "breaks.py").write_text(BROKEN)
    path = f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', ROOT)}"
    overrides = ["optimizer._target_=breaks.Breaks", "hydra.run.dir=run"]
    done = command(*overrides, cwd=tmp_path, PYTHONPATH=path, BREAKS=str(rank))
    assert done.returncode != 0
    assert "broken on purpose" in done.stdout + done.stderr
    assert not (tmp_path / "run" / "metrics.json").exists()
    assert processes_in(tmp_path) == []


def processes_in(folder: Path) -> list[int]:
    """Processes whose working directory is a folder."""
    return [
        process.pid
        for process in psutil.process_iter(["cwd"])
        if process.info["cwd"] == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    ]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["kgrec", "module", "torchrun"])
def test_every_way_to_start(program, train: Train, tmp_path: Path):
    scripts = Path(sys.executable).parent
    words = {
        "kgrec": [str(scripts / "kgrec"), "train"],
        "module": [sys.executable, "-m", "kgrec.cli", "train"],
        "torchrun": [str(scripts / "torchrun"), "--nproc-per-node=2", str(ROOT / "train.py")],
    }[program]
    done = subprocess.run(
        [*words, *SMALL, *DDP], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "logs" / "runs").glob("*/*")  # one for all processes
    same_run(folder, train("trainer.accelerator=cpu", folder="one").folder)


@pytest.mark.slow
def test_a_run_resumes_on_more_or_fewer_devices(train: Train, tmp_path: Path):
    settings = ["batch_size=99", "trainer.accelerator=cpu"]
    whole = train(*settings, "epochs=4", folder="whole")
    train(*settings, folder="half")
    last = f"ckpt_path={tmp_path}/half/checkpoints/last.ckpt"
    more = command(*settings, "epochs=3", last, "hydra.run.dir=more", cwd=tmp_path)
    assert more.returncode == 0, more.stdout + more.stderr
    last = f"ckpt_path={tmp_path}/more/checkpoints/last.ckpt"
    fewer = train(*settings, "epochs=4", last, folder="fewer")
    for key in ("val/auc", "test/auc", "test/log_loss", "train/best_epoch"):
        assert fewer.metrics[key] == pytest.approx(whole.metrics[key], rel=1e-4), key


@pytest.mark.slow
def test_the_processes_of_a_run_resume_together(train: Train, tmp_path: Path):
    """With resume=auto all of them decide alike; of two damaged files too."""
    settings = ["batch_size=99", "trainer.accelerator=cpu"]
    whole = train(*settings, "epochs=4", folder="whole")
    train(*settings, folder="run")  # 2 epochs
    (tmp_path / "run" / "metrics.json").unlink()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").write_bytes(b"")
    words = [*settings, "epochs=4", "hydra.run.dir=run", "resume=auto"]
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("; the run resumes from") == 1
    metrics = RunFolder(tmp_path / "run").metrics()
    for key in ("val/auc", "test/auc", "test/log_loss", "train/best_epoch"):
        assert metrics[key] == pytest.approx(whole.metrics[key], rel=1e-4), key
    again = command(*words, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.startswith("finished already: run:")


@pytest.mark.slow
def test_a_model_without_training_needs_no_other_process(train: Train, tmp_path: Path):
    done = command("model=popularity", "hydra.run.dir=two", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    same_run(tmp_path / "two", train("model=popularity", folder="one").folder)


def test_the_slurm_script_starts_a_valid_configuration(tmp_path: Path):
    for name, line in {
        "scontrol": "echo node1; echo node2",
        "srun": 'shift; exec "$@"',  # as on the second node
        "torchrun": 'printf "%s\\n" "$@"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "docs" / "cluster" / "ddp.sbatch", "dataset=movie", "seed=1"],
        env=os.environ | {
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "123456",
            "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_NODEID": "1",
            "SLURM_GPUS_ON_NODE": "4",
        },
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    words = done.stdout.split()
    at = words.index("train.py")
    assert words[:at] == [
        "--nnodes=2", "--node-rank=1", "--nproc-per-node=4", "--master-addr=node1",
        "--master-port=23456",
    ]  # fmt: skip
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*words[at + 1 :], "paths.run=x"])
    check(cfg)
    assert (world_size(cfg), cfg.dataset.name, cfg.seed) == (8, "movie", 1)
