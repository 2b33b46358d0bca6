"""Checkpoints of shared tables: any number of processes reads them, and no code in them runs."""

import os
import pickle
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from conftest import Train
from hydra.utils import instantiate
from lightning_fabric.plugins.environments.lightning import (
    LightningEnvironment,
    find_free_network_port,
)
from training.test_ddp import case

from kgrec import files
from kgrec.data.datamodule import KGDataModule
from kgrec.errors import CheckpointError, DiskError
from kgrec.models.svd import SVD
from kgrec.runs import stored_tables as stored_module
from kgrec.runs.checkpoints import (
    checkpoint_files,
    load_recommender,
    read_checkpoint,
    whole_checkpoint,
)
from kgrec.runs.folder import RunFolder
from kgrec.runs.resuming import start_in
from kgrec.runs.stored_tables import MAPPED, PLAIN, TABLES, stored_tables
from kgrec.sharding.building import sharded_tables
from kgrec.sharding.checkpoint import in_order, rows_in_order, take_rows
from kgrec.sharding.table import ShardedTable, rows_of_rank, tables_of
from kgrec.training import distributed
from kgrec.training.checkpoint_files import AtomicCheckpointIO, copy_checkpoint
from kgrec.training.module import RecommenderModule
from kgrec.training.sharded import Sharded

USERS, ITEMS, D = 5, 7, 4


# ------------------------------------------------------------------ processes that train


def fit(rank: int, ranks: int, folder: Path, epochs: int, resumed: Path | None = None) -> None:
    """Trains, and writes the checkpoint ``<ranks>-<epochs>.ckpt`` or ``…-from-<resumed>.ckpt``."""
    os.environ["WORLD_SIZE"] = str(ranks)  # a trainer removes it
    short = case(("model=kgcn", "optimizer=lazy_adam"))
    pl.seed_everything(0, verbose=False)
    with sharded_tables(rank, ranks):
        recommender = instantiate(short.model, short.dataset)
    recommender.precompute(short.dataset)
    module = RecommenderModule(recommender, instantiate(short.optimizer), 0, {})
    data = KGDataModule(short.dataset, short.batch_size, 64, kinds=recommender.step_batches)
    trainer = pl.Trainer(
        strategy=Sharded(find_unused_parameters=True), devices=ranks, accelerator="cpu",
        plugins=[LightningEnvironment(), AtomicCheckpointIO()], max_epochs=epochs, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    suffix = f"-from-{resumed.stem}" if resumed else ""
    trainer.save_checkpoint(folder / f"{ranks}-{epochs}{suffix}.ckpt")
    if resumed is None and epochs == 2:
        full_disk_of_one(trainer, rank, ranks, folder)


def full_disk_of_one(trainer: pl.Trainer, rank: int, ranks: int, folder: Path) -> None:
    """The last process may write no file of some size; all raise the error of the disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if rank == ranks - 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        trainer.save_checkpoint(folder / "refused.ckpt")
        message = "written"
    except DiskError as error:
        message = str(error)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    (folder / f"refused-{rank}.txt").write_text(message)


def process(rank: int, ranks: int, port: int, folder: str, runs: list[Any]) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(ranks), "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    for epochs, resumed in runs:
        fit(rank, ranks, Path(folder), epochs, Path(folder, resumed) if resumed else None)
    distributed.close()


def spawn(ranks: int, folder: Path, *runs: tuple[int, str | None]) -> None:
    arguments = (ranks, find_free_network_port(), str(folder), list(runs))
    mp.spawn(process, args=arguments, nprocs=ranks, daemon=True)


def numbers(path: Path) -> dict[str, torch.Tensor]:
    """Weights and the optimiser's numbers of a checkpoint, by name."""
    content = whole_checkpoint(path) if path.is_dir() else read_checkpoint(path)
    tensors = dict(content["state_dict"])
    for number, facts in content["optimizer_states"][0]["state"].items():
        tensors |= {f"{number}.{name}": torch.as_tensor(value) for name, value in facts.items()}
    return tensors


def check_close(path: Path, expected: Path) -> None:
    one, other = numbers(path), numbers(expected)
    assert one.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-6, msg=name)


def check_resumed(folder: Path, ranks: int) -> None:
    """Checks what :func:`fit` has written for (2, None), (3, None) and (3, "<ranks>-2.ckpt")."""
    path = folder / f"{ranks}-3.ckpt"
    whole, resumed = numbers(path), numbers(folder / f"{ranks}-3-from-{ranks}-2.ckpt")
    assert {"0.exp_avg", "0.exp_avg_sq", "0.step"} <= whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name

    for rank in range(ranks):  # the last process could not write its rows
        message = (folder / f"refused-{rank}.txt").read_text()
        assert message.startswith(f"{folder}/refused.ckpt: found "), message
        assert "\n" not in message
    assert not (folder / "refused.ckpt").exists()
    assert [path for path in folder.rglob("*") if "incoming" in path.name] == []

    model = load_recommender(path)
    for name, value in model.state_dict().items():
        assert torch.equal(value, whole[f"recommender.{name}"]), name
    layouts = read_checkpoint(path)["tables"]
    name, last = "recommender.entity_embedding.weight", ranks - 1
    num_rows, d = layouts[name]["shape"]
    rows = torch.empty(rows_of_rank(num_rows, last, ranks), d)
    with pytest.warns(UserWarning, match="single process"):  # PyTorch's own reader reads them too
        dcp.load({f"{name}/{last}": rows}, checkpoint_id=path / TABLES)
    assert torch.equal(rows, whole[name][last::ranks])


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path, *runs: tuple[int, str | None]) -> None:
    """Trains in the test's own process, whose environment is restored at the end."""
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "0")
    process(0, 1, find_free_network_port(), str(folder), list(runs))


def test_a_resumed_training_ends_as_one_without_a_break(tmp_path, monkeypatch):
    alone(monkeypatch, tmp_path, (2, None), (3, None), (3, "1-2.ckpt"))
    check_resumed(tmp_path, 1)


@pytest.mark.slow
def test_one_two_and_four_processes_resume_from_each_other(tmp_path, monkeypatch):
    spawn(2, tmp_path, (2, None), (3, None), (3, "2-2.ckpt"))
    check_resumed(tmp_path, 2)
    # A file of one process, as other trainers write it, is as good as a folder.
    torch.save(whole_checkpoint(tmp_path / "2-2.ckpt"), tmp_path / "file.ckpt")
    spawn(4, tmp_path, (3, "2-2.ckpt"), (3, "file.ckpt"), (2, None))
    alone(monkeypatch, tmp_path, (3, "2-2.ckpt"), (3, "4-2.ckpt"))
    for name in ("4-3-from-2-2", "4-3-from-file", "1-3-from-2-2", "1-3-from-4-2"):
        check_close(tmp_path / f"{name}.ckpt", tmp_path / "2-3.ckpt")


@pytest.mark.slow
def test_a_run_resumes_with_another_trainer_and_past_a_damaged_checkpoint(train: Train):
    sharded = ("trainer=sharded", "trainer.devices=1", "trainer.strategy.min_rows=1")
    lazy = ("optimizer=lazy_adam", "epochs=2")
    expected = train(*lazy)
    place = expected.folder.with_name
    first = train(*sharded, "epochs=1", folder="first")
    assert first.code == 0, first.out
    (place("first") / "metrics.json").unlink()
    for name in ("same", "default", "damaged"):
        shutil.copytree(place("first"), place(name))
    torn = place("damaged") / "checkpoints" / "last.ckpt" / PLAIN
    torn.write_bytes(torn.read_bytes()[:100])
    starts = {
        "same": (*sharded, "resume=auto"),
        "default": ("resume=auto",),
        "damaged": (*sharded, "resume=auto"),
        "copied": (*sharded, f"ckpt_path={place('first')}/checkpoints/last.ckpt"),
    }
    for name, words in starts.items():
        again = train(*lazy, *words, folder=name)
        assert again.code == 0, again.out
        metrics = RunFolder(place(name)).metrics()
        assert metrics["test/auc"] == pytest.approx(expected.metrics["test/auc"], abs=1e-4)
        assert metrics["train/epochs"] == 2
        assert [path for path in place(name).rglob("*") if "incoming" in path.name] == []
        assert ("; the run resumes from" in again.out) == (name == "damaged")
        best = RunFolder(place(name)).checkpoint("best")
        assert best.is_file() == (name == "default")  # in place of the folder


# ------------------------------------------------------------------ any number of processes


def shards_of(whole: torch.Tensor, ranks: int) -> list[torch.Tensor]:
    return [whole[rank::ranks].clone() for rank in range(ranks)]


@pytest.mark.parametrize("written", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("num_rows", [1, 5, 48, 1001])
def test_any_number_of_processes_takes_its_rows(written, num_rows):
    whole = torch.arange(num_rows * 3.0).view(num_rows, 3)
    shards = shards_of(whole, written)
    for ranks in (1, 2, 3, 4, 5, 6, 8):
        for rank in range(ranks):
            local = torch.full((rows_of_rank(num_rows, rank, ranks), 3), -1.0)
            take_rows(ShardedTable(num_rows, local, rank, ranks), shards)
            assert torch.equal(local, whole[rank::ranks]), (ranks, rank)
    assert torch.equal(in_order(shards), whole)
    assert torch.equal(torch.cat(list(rows_in_order(shards))), whole)


def test_rows_are_put_in_order_in_blocks(monkeypatch):
    monkeypatch.setattr("kgrec.sharding.checkpoint.BLOCK", 100)
    whole = torch.arange(301.0)[:, None].expand(301, 2).contiguous()
    blocks = list(rows_in_order(shards_of(whole, 3)))
    assert [len(block) for block in blocks] == [12] * 25 + [1]
    assert torch.equal(torch.cat(blocks), whole)


# ------------------------------------------------------------------ one machine


def stored(
    path: Path, ranks: int = 2, model: SVD | None = None, **changes: Any
) -> tuple[SVD, dict[str, Any]]:
    """Writes the folder of a checkpoint as processes would; returns the model and plain.ckpt."""
    model = model or SVD(USERS, ITEMS, D)
    (path / TABLES).mkdir(parents=True)
    layouts = {}
    for number, (name, whole) in enumerate(model.state_dict().items()):
        entries: list[Any] = []
        for rank, rows in enumerate(shards_of(whole, ranks)):
            file = path / TABLES / f"__{rank}_{number}.distcp"
            if len(rows):
                torch.save(rows, file)
            entries.append([file.name, file.stat().st_size] if len(rows) else None)
        layout = {"shape": list(whole.shape), "dtype": "float32", "files": entries}
        layouts[f"recommender.{name}"] = layout | changes
    identity = {"recipe": model.recipe(), "dataset": {}, "settings": {}}
    content = {"kgrec": identity, "state_dict": {}, "epoch": 0, "tables": layouts}
    torch.save(content, path / PLAIN)
    return model, content


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_a_folder_gives_the_scores_of_the_model(ranks, tmp_path):
    model, _ = stored(path := tmp_path / "best.ckpt", ranks)
    users, items = torch.arange(USERS), torch.arange(USERS) + 2
    for _ in range(2):
        loaded = load_recommender(path)
        assert torch.equal(loaded.score(users, items), model.score(users, items))
        assert all(p.requires_grad for p in loaded.parameters())
    # Rows of one process are in order already.
    assert (path / MAPPED).exists() == (ranks > 1)
    named = [name for _, name in checkpoint_files(path)]
    assert named[0] == f"best.ckpt/{PLAIN}"
    assert not any(MAPPED in name for name in named)
    with torch.no_grad():
        loaded.user_embedding.weight.fill_(1)  # a change stays in memory
    assert torch.equal(load_recommender(path).score(users, items), model.score(users, items))


def test_rows_in_order_are_written_once_and_again_if_they_are_damaged(tmp_path):
    model, _ = stored(path := tmp_path / "best.ckpt")
    load_recommender(path)
    rows = path / MAPPED / "recommender.item_embedding.weight.rows"
    number = rows.stat().st_ino
    load_recommender(path)
    assert rows.stat().st_ino == number
    os.truncate(rows, 20)
    loaded = load_recommender(path)
    assert rows.stat().st_ino != number
    assert torch.equal(loaded.item_embedding.weight, model.item_embedding.weight)


def refused(path: Path, *_: Any) -> None:
    raise DiskError(f"{path}: found a place that cannot be written")


def test_a_folder_that_cannot_be_written_is_loaded_and_stays_as_it_is(
    tmp_path, monkeypatch, caplog
):
    model, _ = stored(path := tmp_path / "best.ckpt")
    before = sorted(path.rglob("*"))
    monkeypatch.setattr(stored_module, "make_folder", refused)
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    loaded = load_recommender(path)
    assert torch.equal(loaded.item_embedding.weight, model.item_embedding.weight)
    assert sorted(path.rglob("*")) == before
    assert list(place.iterdir()) == []
    assert f"are put in order in {place}, at each start again" in caplog.text
    place.rmdir()
    with pytest.raises(DiskError, match=r"mapped: found no room .* nor in .*temporary, expected"):
        load_recommender(path)


def private_memory() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def test_a_mapped_table_takes_no_private_memory(tmp_path):
    model = SVD(2, 100_000, 64)
    with torch.no_grad():
        model.item_embedding.weight.fill_(0.5)
    stored(tmp_path / "best.ckpt", model=model)
    size = model.item_embedding.weight.nbytes
    del model
    load_recommender(tmp_path / "best.ckpt")  # puts the rows in order, which takes some blocks
    before = private_memory()
    loaded = load_recommender(tmp_path / "best.ckpt")
    assert float(loaded.score(torch.tensor([1]), torch.tensor([99_999])).detach()) != 0
    assert private_memory() - before < size / 4


# ------------------------------------------------------------------ files that are odd


class Call:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def read_all(path: Path) -> None:
    """Reads a folder in every way in which a command reads it."""
    checkpoint = read_checkpoint(path)
    whole_checkpoint(path)
    with sharded_tables(0, 2):
        model = SVD(USERS, ITEMS, D)
    for name, table in tables_of(model).items():
        take_rows(table, stored_tables(checkpoint, path)[f"recommender.{name}"].shards())
    load_recommender(path)


def test_a_pickle_of_a_stranger_is_not_read(tmp_path):
    stored(path := tmp_path / "best.ckpt")
    marker = tmp_path / "called"
    (path / TABLES / ".metadata").write_bytes(pickle.dumps(Call(marker)))
    read_all(path)
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_rows_that_are_code_are_not_run(kind, tmp_path):
    _, content = stored(path := tmp_path / "best.ckpt")
    marker, file = tmp_path / "called", path / TABLES / "__1_1.distcp"
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Call(marker)) + bytes(2000))
    else:
        torch.save(Call(marker), file)
    content["tables"]["recommender.item_embedding.weight"]["files"][1][1] = file.stat().st_size
    torch.save(content, path / PLAIN)
    for read in (whole_checkpoint, load_recommender):
        with pytest.raises(CheckpointError, match=r"__1_1\.distcp: found no readable rows"):
            read(path)
    assert not marker.exists()


LAYOUTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no layout": lambda _: 3,
    "another key": lambda layout: layout | {"more": 1},
    "negative": lambda layout: layout | {"shape": [-7, D]},
    "no rows": lambda layout: layout | {"shape": [0, D]},
    "huge": lambda layout: layout | {"shape": [2**62, 2**62]},
    "truth": lambda layout: layout | {"shape": [True, D]},
    "three sizes": lambda layout: layout | {"shape": [7, 2, 2]},
    "an unknown dtype": lambda layout: layout | {"dtype": "load"},
    "short integers": lambda layout: layout | {"dtype": "int16"},
    "a list as dtype": lambda layout: layout | {"dtype": []},
    "no files": lambda layout: layout | {"files": []},
    "a missing shard": lambda layout: layout | {"files": [None, layout["files"][1]]},
    "a path": lambda layout: layout | {"files": [["../tables/__0_1.distcp", 9], None]},
    "another name": lambda layout: layout | {"files": [["x", 9], ["y", 9]]},
    "no size": lambda layout: layout | {"files": [[f, None] for f, _ in layout["files"]]},
    "another size": lambda layout: layout | {"files": [[f, n + 1] for f, n in layout["files"]]},
    "a file twice": lambda layout: layout | {"files": [layout["files"][0]] * 2},
    "too many numbers": lambda layout: layout | {"shape": [700, D]},
    "many shards": lambda layout: layout | {"files": layout["files"] + [None] * 1000},
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_that_no_run_writes(name, tmp_path):
    _, content = stored(path := tmp_path / "best.ckpt")
    table = "recommender.item_embedding.weight"
    content["tables"][table] = LAYOUTS[name](content["tables"][table])
    torch.save(content, path / PLAIN)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("recommender.a/../../../x", "a name, without folders"), ("recommender.x", "unknown tensor")],
)
def test_a_table_of_a_name_that_no_model_has(name, expected, tmp_path):
    _, content = stored(path := tmp_path / "best.ckpt")
    tables = content["tables"]
    tables[name] = tables.pop("recommender.item_embedding.weight")
    torch.save(content, path / PLAIN)
    with pytest.raises(CheckpointError):
        load_recommender(path)
    assert [p for p in tmp_path.iterdir() if p != path] == []


@pytest.mark.parametrize(
    "rows",
    [torch.ones(3, D, dtype=torch.float64), torch.ones(D, 3), torch.ones(2, D), [1.0], "x"],
    ids=["dtype", "turned", "fewer", "a list", "a text"],
)
def test_rows_that_the_layout_does_not_say(rows, tmp_path):
    _, content = stored(path := tmp_path / "best.ckpt")
    file = path / TABLES / "__1_1.distcp"
    torch.save(rows, file)
    content["tables"]["recommender.item_embedding.weight"]["files"][1][1] = file.stat().st_size
    torch.save(content, path / PLAIN)
    with pytest.raises(CheckpointError, match=r"__1_1\.distcp: found"):
        load_recommender(path)


def test_rows_that_are_not_finite_are_refused(tmp_path):
    model = SVD(USERS, ITEMS, D)
    with torch.no_grad():
        model.item_embedding.weight[3, 1] = float("nan")
    stored(path := tmp_path / "best.ckpt", model=model)
    with pytest.raises(CheckpointError, match=r"item_embedding\.weight: found NaN or infinity"):
        load_recommender(path)


def test_plain_values_alone_are_no_checkpoint(tmp_path):
    stored(path := tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match="found a checkpoint without its tables"):
        read_checkpoint(path / PLAIN)
    (path / PLAIN).unlink()
    with pytest.raises(CheckpointError, match=r"plain\.ckpt: found no such file"):
        read_checkpoint(path)


# ------------------------------------------------------------------ kills


def resumable(path: Path) -> None:
    """A checkpoint folder from which a run can resume."""
    _, content = stored(path)
    progress = {"processed": 1, "started": 1}
    content["optimizer_states"] = [{"state": {}}]
    content["loops"] = {"fit_loop": {"epoch_progress": {"current": progress}}}
    torch.save(content, path / PLAIN)


@pytest.mark.parametrize("folder_before", [True, False])
def test_a_kill_between_the_two_renames_loses_nothing(folder_before, tmp_path):
    run = RunFolder(tmp_path)
    last = run.checkpoint("last")
    resumable(run.checkpoint("best"))
    resumable(last)
    if not folder_before:
        content = whole_checkpoint(last)
        shutil.rmtree(last)
        torch.save(content, last)
    expected = read_checkpoint(last)["epoch"]

    pid = os.fork()
    if pid == 0:
        renames = []
        rename = Path.rename

        def killed(path: Path, target: Path) -> Path:
            renames.append(path)
            return rename(path, target) if len(renames) == 1 else os._exit(7)

        Path.rename = killed  # type: ignore[assignment,method-assign]
        try:
            copy_checkpoint(run.checkpoint("best"), last)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    assert not last.exists()
    if folder_before:
        assert start_in(run).checkpoint == last  # which brings it back
    else:
        files.remove_all_leftovers(tmp_path)  # as the lock of a run does
    assert read_checkpoint(last)["epoch"] == expected
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_damaged_folder_is_passed_over(tmp_path):
    run = RunFolder(tmp_path)
    last, best = run.checkpoint("last"), run.checkpoint("best")
    resumable(best)
    resumable(last)
    os.truncate(last / TABLES / "__1_0.distcp", 10)
    start = start_in(run)
    assert start.checkpoint == best
    assert start.remark is not None
    assert "__1_0.distcp: found 10 bytes, expected" in start.remark
    (best / TABLES / "__0_1.distcp").unlink()
    assert start_in(run).checkpoint is None


def test_files_and_folders_take_each_others_place(tmp_path):
    stored(folder := tmp_path / "folder.ckpt")
    load_recommender(folder)  # with rows in order, which a copy leaves out
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    copy_checkpoint(folder, path)
    assert sorted(p.name for p in path.iterdir()) == [PLAIN, TABLES]
    read_checkpoint(path)
    AtomicCheckpointIO().save_checkpoint({"epoch": 2}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 2}
    assert [p for p in tmp_path.iterdir() if "incoming" in p.name] == []
