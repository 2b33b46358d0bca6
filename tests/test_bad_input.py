"""A user's mistakes, on the command line: one clear error, no stack trace, nothing half-written."""

from pathlib import Path

import pytest
from conftest import Train
from files import RAW, write

MISTAKES = {
    "unknown key": (["model.Hh=3"], "model.Hh: found an unknown key, expected one of H, K"),
    "unknown key, added": (["+model.Hh=3"], "model.Hh: found an unknown key, expected one of H, K"),
    "unknown top-level key": (["hops=3"], "hops: found an unknown key, expected one of averaging"),
    "unknown top-level key, added": (["+hops=3"], "hops: found an unknown key, expected one of"),
    "unknown model": (["model=kgc"], "model: found 'kgc', expected one of"),
    "unknown aggregator": (["model.aggregator=mean"], "found 'mean', expected one of sum, concat"),
    "K = 0": (["model.K=0"], "model.K: found 0, expected an integer >= 1, or all"),
    "H = 0": (["model.H=0"], "model.H: found 0, expected an integer >= 1"),
    "negative d": (["model.d=-4"], "model.d: found -4, expected an integer >= 1"),
    "a budget of words": (
        ["memory_budget=plenty"],
        "memory_budget: found 'plenty', expected bytes, such as 4 GB or 500 MiB",
    ),
    "no folder named": (["dataset=custom"], "dataset.root: found nothing, expected the folder"),
    "missing folder": (["dataset=custom", "dataset.root=nowhere"], "nowhere: found no such folder"),
    "missing checkpoint": (["ckpt_path=nowhere.ckpt"], "nowhere.ckpt: found no such file"),
    "ratio of static negatives": (
        ["negatives=static", "negatives.ratio=2"], "negatives.ratio: found 2, expected 1"),
    "resuming what is not trained": (
        ["model=popularity", "ckpt_path=x"], "found x, expected null: the model has nothing to"),
    "negative learning rate": (["optimizer.lr=-1"], "optimizer.lr: found -1, expected at least 0"),
    "no number": (["optimizer.weight_decay=x"], "weight_decay: found 'x', expected a number"),
    "ratios": (["split.ratios=0.5"], "error: split: "),
    "accelerator": (["trainer.accelerator=tpux"], "accelerator: found 'tpux', expected one of"),
    "trainer key": (["+trainer.foo=1"], "trainer.foo: found an unknown key, expected one of accel"),
    "negatives key": (["+negatives.foo=1"], "negatives.foo: found an unknown key, expected one of"),
    "huge seed": (["seed=99999999999"], "seed: found 99999999999, expected an integer from 0"),
    "null seed": (["dataset.seed=null"], "dataset.seed: found None, expected an integer"),
    "devices": (["trainer.devices=2"], "expected 1 device, or trainer=ddp"),
    "no number of devices": (["trainer.devices=auto"], "trainer.devices: found 'auto', expected a"),
    "another strategy": (
        ["trainer=ddp", "trainer.strategy=fsdp"],
        "trainer.devices: found 2 devices with trainer.strategy=fsdp, expected 1 device, or",
    ),
    "nodes alone": (
        ["trainer=ddp", "trainer.num_nodes=2"],
        "trainer.num_nodes: found 2, expected a start by torchrun or srun",
    ),
    "nodes": (["trainer=ddp", "trainer.num_nodes=0"], "trainer.num_nodes: found 0, expected an"),
    "steps on several devices": (
        ["trainer=ddp", "steps_per_call=4"],
        "steps_per_call: found 4, expected 1, or null, on several devices",
    ),
    "a batch of one row": (["trainer=ddp", "batch_size=1"], "batch_size: found 1, expected at le"),
    "rows for few devices": (
        ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=300"],
        "trainer.devices: found 300 devices, expected at most 234",
    ),
    "no validation": (
        ["trainer.check_val_every_n_epoch=5"], "found 5, expected at most epochs (2)"),
    "no logger": (["logger=null"], "logger: found null, expected one of csv, default"),
    "no callbacks": (["callbacks=null"], "callbacks: found null, expected one of default"),
    "unknown callback": (
        ["+callbacks.x._target_=foo.Bar"], "callbacks.x._target_: found the path 'foo.Bar'"),
    "callback key": (
        ["+callbacks.norms.foo=1"], "callbacks.norms.foo: found an unknown key, expected"),
    "another metric of the best": (
        ["callbacks.best.monitor=val/foo"],
        "callbacks.best.monitor: found 'val/foo', expected 'val/auc', the metric that monitor=…",
    ),
    "the loss of the best": (
        ["callbacks.best.monitor=train/loss"], "callbacks.best.monitor: found 'train/loss'"),
    "unknown metric of patience": (
        ["callbacks.early_stopping.monitor=val/foo"], "early_stopping.monitor: found 'val/foo'"),
    "counted calls": (
        ["steps_per_call=5", "trainer.max_steps=3"],
        "steps_per_call: found 5, expected 1, or null, with trainer.max_steps, which counts calls",
    ),
    "no time": (["trainer.max_time=0"], "trainer.max_time: found 0, expected a time above 0"),
    "divergence": (["optimizer.lr=1e30"], "scores that are not finite, expected numbers"),
}  # fmt: skip


@pytest.mark.parametrize(("overrides", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_clear_error(overrides, message, train: Train):
    custom = "dataset=custom" in overrides
    run = train(*overrides, small=not custom)
    assert run.code == 1
    said = run.out + run.err
    assert said.count("error: ") == 1, said
    assert message in said
    assert "Traceback" not in said
    assert "Error executing job" not in said
    assert not (run.folder / "metrics.json").exists()
    assert [p for p in run.folder.rglob("*") if p.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kg.txt": ""}, "kg.txt: found an empty file"),
        ({"kg.txt": "a\tr\tb\n"}, "found 1 triples that mention none of the 2 items"),
        ({"kg.txt": "0\tr\n"}, "kg.txt:1: found '0\\tr', expected 3 fields"),
        ({"user_artists.dat": "u\ti\tr\n9\t99\t1\n"}, "found 1 interactions, none of an item"),
        ({"kg.txt": None}, "found item_index2entity_id.txt, user_artists.dat; expected the files"),
    ],
)
def test_bad_files(change, message, train: Train, tmp_path: Path):
    folder = tmp_path / "mine"
    folder.mkdir()
    write(folder, {n: t for n, t in (RAW | change).items() if t is not None})
    run = train("dataset=custom", f"dataset.root={folder}", "logger=csv", small=False)
    assert run.code == 1
    assert message in run.out
    assert "Traceback" not in run.out + run.err
    left = {p.name for p in run.folder.iterdir()} - {"at_work.lock"}
    assert left == {"status.json", "train.log"}


def test_checkpoints_of_another_model_or_data_set(train: Train):
    first = train()
    last = f"ckpt_path={first.folder}/checkpoints/last.ckpt"
    for overrides, message in (
        (["seed=1"], "found seed 2019 in the checkpoint, expected 1"),
        (["protocol=clean", "monitor=val/auc"], "found protocol._target_ 'kgrec.data.protocols.p"),
        (["model.d=5"], "found model.d 32 in the checkpoint, expected 5"),
        (["optimizer.lr=1e-9"], "found optimizer.lr 0.005 in the checkpoint, expected 1e-09"),
        (["batch_size=9"], "found batch_size 1024 in the checkpoint, expected 9"),
        (["model.aggregator=concat"], "found model.aggregator 'sum' in the checkpoint"),
    ):
        run = train(*overrides, last, "epochs=3", folder="other")
        assert run.code == 1
        assert message in run.out
    broken = first.folder / "checkpoints" / "broken.ckpt"
    broken.write_bytes(b"PK nonsense")
    run = train(f"ckpt_path={broken}", folder="other")
    assert "found no readable checkpoint" in run.out


def test_one_failing_job_of_a_sweep_leaves_the_others_alone(train: Train, tmp_path: Path):
    run = train("-m", "model.d=0,4", "hydra.sweep.dir=sweep")
    assert run.code == 1
    assert (tmp_path / "sweep" / "model.d=4" / "metrics.json").is_file()
    assert not (tmp_path / "sweep" / "model.d=0" / "metrics.json").exists()
    assert "Traceback" not in run.out + run.err


@pytest.mark.slow
def test_a_sweep(train: Train, tmp_path: Path):
    run = train("-m", "model.H=1,2", "hydra.sweep.dir=sweep")
    assert run.code == 0
    found = [(tmp_path / "sweep" / f"model.H={h}" / "metrics.json").is_file() for h in (1, 2)]
    assert found == [True, True]
