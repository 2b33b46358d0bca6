"""The cache: data are made once and read back equal; what does not fit is made again."""

from __future__ import annotations

import json
import logging
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import ROOT, small
from disks import Disk, leftovers, read_only
from files import RAW, RECBOLE, write
from safetensors.torch import save_file

from kgrec.data import cache
from kgrec.data.dataset import PreparedData
from kgrec.data.loading import load


def loaded(root: Path, folder: Path | None, **settings) -> PreparedData:
    settings = {"min_rating": None, "unlinked": "drop", "seed": 1} | settings
    return load("toy", [], str(root), "data", cache=str(folder) if folder else None, **settings)


def same(one: PreparedData, other: PreparedData) -> bool:
    def equal(a, b) -> bool:
        if isinstance(a, torch.Tensor):
            return a.dtype == b.dtype and torch.equal(a, b)
        if isinstance(a, pl.DataFrame):
            return a.equals(b) and a.schema == b.schema
        if isinstance(a, tuple):
            return all(equal(x, y) for x, y in zip(a, b, strict=True))
        if hasattr(a, "__dataclass_fields__"):
            return all(equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
        return a == b

    return equal(one, other)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "raw", RAW)


def made(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("files", [RAW, RECBOLE], ids=["raw", "with times and names"])
def test_cached_data_equal_the_prepared_data(files, tmp_path):
    root, folder = write(tmp_path / "raw", files), tmp_path / "cache"
    plain, first, second = (loaded(root, place) for place in (None, folder, folder))
    assert same(plain, first)
    assert same(plain, second)
    assert len(made(folder)) == 1


def test_negatives_and_parts_are_cached_too(tmp_path):
    data = small()
    n = len(data.positives)
    full = PreparedData(
        **{f.name: getattr(data, f.name) for f in fields(PreparedData)}
        | {
            "given_negatives": (torch.arange(5), torch.arange(5) + 1),
            "given_parts": torch.arange(n) % 3,
            "times": torch.rand(n, dtype=torch.float64),
            "weights": torch.rand(n, dtype=torch.float64),
            "name": "x",
        }
    )
    for _ in range(2):
        assert same(cache.cached(tmp_path, "x", {"a": 1}, lambda: full), full)


def test_data_are_made_once_and_mapped(root, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    loaded(root, tmp_path / "cache")
    assert "preparing toy" in caplog.text
    caplog.clear()
    data = loaded(root, tmp_path / "cache")
    assert "preparing toy" not in caplog.text
    # The tensors are views of one mapped file, and may be written to without changing it.
    data.positives.users[0] = 99
    assert loaded(root, tmp_path / "cache").positives.users[0] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"unlinked": "keep"},
        {"min_rating": 4},
        {"pool_splits": True},
        {"inverses": "merge"},
        {"weights": "repeats"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_are_another_entry(change, root, tmp_path):
    loaded(root, tmp_path / "cache")
    loaded(root, tmp_path / "cache", **change)
    assert len(made(tmp_path / "cache")) == 2


def test_seed_and_folder_do_not_make_another_entry(root, tmp_path):
    loaded(root, tmp_path / "cache")
    assert loaded(root, tmp_path / "cache", seed=7).seed == 7
    loaded(root.rename(tmp_path / "elsewhere"), tmp_path / "cache")
    assert len(made(tmp_path / "cache")) == 1


def test_other_content_is_another_entry(root, tmp_path):
    loaded(root, tmp_path / "cache")
    write(root, {"kg.txt": RAW["kg.txt"] + "0\tgenre\t8\n"})
    assert len(loaded(root, tmp_path / "cache").graph) == 3
    assert len(made(tmp_path / "cache")) == 2


def test_other_code_is_another_entry(root, tmp_path, monkeypatch):
    loaded(root, tmp_path / "cache")
    monkeypatch.setattr(cache, "code_digest", lambda *modules: "other")
    loaded(root, tmp_path / "cache")
    assert len(made(tmp_path / "cache")) == 2


def test_the_code_of_an_entry_is_all_that_its_modules_import():
    """What Python itself imports with the two modules is in the list."""
    roots = ("kgrec.data.formats", "kgrec.data.prepare")
    program = "import sys, kgrec.data.formats, kgrec.data.prepare; print(*sorted(sys.modules))"
    output = subprocess.check_output([sys.executable, "-c", program], text=True)
    packages = {"kgrec", "kgrec.data", "kgrec.data.build"}  # imported on the way, and empty
    loaded = {name for name in output.split() if name.split(".")[0] == "kgrec"} - packages
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts) for p in cache.code_files(*roots)}
    assert {name.removesuffix(".__init__") for name in files} == loaded
    assert "kgrec.data.formats.kgat" in loaded


def test_a_change_of_any_imported_module_changes_the_digest(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "kgrec", tmp_path / "kgrec")
    monkeypatch.setattr(cache, "_PACKAGE", tmp_path / "kgrec")
    digest = cache.code_digest.__wrapped__
    root = "kgrec.models.transe_pretraining"
    before = digest(root)
    for name in ("models/kge.py", "data/training_rows.py", "evaluation/link_prediction.py"):
        with (tmp_path / "kgrec" / name).open("a") as file:
            file.write("# changed\n")
        after = digest(root)
        assert after != before, name
        before = after
    with (tmp_path / "kgrec" / "reports" / "console.py").open("a") as file:
        file.write("# changed\n")
    assert digest(root) == before


def _truncate(entry: Path) -> None:
    path = entry / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def _garble(entry: Path) -> None:
    path = entry / "tensors.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)


def _flip_a_bit(name: str, place: float) -> Callable[[Path], None]:
    """A fault: one bit of a file is another one; ``place`` is a share of the file's length."""

    def flip(entry: Path) -> None:
        path = entry / name
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        path.write_bytes(content)

    return flip


def _swap(entry: Path) -> None:
    """Two whole files under each other's name; the manifest has their sizes."""
    one, other = entry / "users.parquet", entry / "relations.parquet"
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    path = entry / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["bytes"] |= {one.name: len(contents[1]), other.name: len(contents[0])}
    path.write_text(json.dumps(manifest))


def _other_counts(entry: Path) -> None:
    path = entry / "manifest.json"
    path.write_text(path.read_text().replace('"users": 2', '"users": 3'))


def _a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("not a folder")


def _older(entry: Path) -> None:
    about = json.loads((entry / "manifest.json").read_text())
    (entry / "manifest.json").write_text(json.dumps(about | {"layout": 0}))


def _foreign(entry: Path) -> None:
    for path in entry.iterdir():
        path.unlink()
    (entry / "notes.txt").write_text("mine")


FAULTS = {
    "truncated": _truncate,
    "garbled": _garble,
    "older layout": _older,
    "foreign": _foreign,
    "a flipped bit in the numbers": _flip_a_bit("tensors.safetensors", 1.0),
    "a flipped bit in the header": _flip_a_bit("tensors.safetensors", 0.0),
    "a flipped bit in the ids": _flip_a_bit("items.parquet", 0.1),
    "a flipped bit in the manifest": _flip_a_bit("manifest.json", 0.5),
    "other counts": _other_counts,
    "swapped files": _swap,
    "a file for the entry": _a_file,
    "deep JSON": lambda entry: (entry / "manifest.json").write_text("[" * 100_000),
    "empty manifest": lambda entry: (entry / "manifest.json").write_text(""),
    "a list for a manifest": lambda entry: (entry / "manifest.json").write_text("[]"),
    "a file is missing": lambda entry: (entry / "users.parquet").unlink(),
    "a file is empty": lambda entry: (entry / "items.parquet").write_bytes(b""),
    "another key": lambda entry: (entry / "manifest.json").write_text(
        (entry / "manifest.json").read_text().replace('"key": "', '"key": "0')
    ),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_is_made_again(fault, root, tmp_path, caplog):
    loaded(root, tmp_path / "cache")
    expected = loaded(root, None)
    (entry,) = made(tmp_path / "cache")
    fault(entry)
    with caplog.at_level(logging.INFO):
        assert same(loaded(root, tmp_path / "cache"), expected)
    assert "the data are prepared again" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert same(loaded(root, tmp_path / "cache"), expected)
    assert caplog.text == ""
    assert made(tmp_path / "cache") == [entry]


def test_half_written_entries_of_dead_processes_are_removed(root, tmp_path):
    loaded(root, tmp_path / "cache")
    (entry,) = made(tmp_path / "cache")
    half = entry.rename(entry.with_name(f".{entry.name}.another-host-12.incoming"))
    loaded(root, tmp_path / "cache")
    assert not half.exists()
    assert made(tmp_path / "cache") == [entry]


def test_a_cache_that_cannot_be_written_is_not_used(root, tmp_path, caplog):
    (tmp_path / "cache").write_text("a file")
    assert len(loaded(root, tmp_path / "cache").positives) == 2
    assert "the prepared data are not cached" in caplog.text


def test_every_flipped_bit_is_found(root, tmp_path, monkeypatch):
    """Of 100 random bits in all files of an entry, the manifest too."""
    loaded(root, tmp_path / "cache")
    (entry,) = made(tmp_path / "cache")
    key = json.loads((entry / "manifest.json").read_text())["key"]
    draw, paths = random.Random(0), sorted(entry.iterdir())
    unseen = []
    for _ in range(100):
        path = draw.choice(paths)
        whole = path.read_bytes()
        damaged, place = bytearray(whole), draw.randrange(len(whole))
        damaged[place] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        if cache._read(entry, key, lambda *_: "read") is not None:
            unseen.append((path.name, place, whole[place], damaged[place]))
        path.write_bytes(whole)
    assert unseen == []
    assert cache._read(entry, key, lambda *_: "read") == "read"


@pytest.mark.parametrize("write", ["tensors", "table"])
def test_on_a_full_disk_the_data_are_not_cached_and_the_reason_is_said(write, disk: Disk, caplog):
    place = disk("200k")

    def save(numbers: torch.Tensor, folder: Path) -> dict:
        if write == "tensors":
            save_file({"numbers": numbers}, folder / "x")
        else:
            pl.DataFrame({"numbers": numbers.numpy()}).write_parquet(folder / "x")
        return {"counts": {}}

    numbers = torch.rand(100_000)
    for _ in range(2):
        made_again = cache.kept(
            place, "x", {}, lambda: numbers, save, lambda *_: pytest.fail("read")
        )
        assert made_again is numbers
    (line, second) = [record.getMessage() for record in caplog.records]
    assert "bytes free (No space left on device)" in line
    assert line.endswith("the prepared data are not cached")
    assert second == line
    assert leftovers(place) == []


def test_a_read_only_cache_is_not_used(root, disk: Disk, caplog):
    place = disk("200k")
    read_only(place)
    assert len(loaded(root, place / "cache").positives) == 2
    assert "Read-only file system" in caplog.text
    assert "the prepared data are not cached" in caplog.text


def test_a_failure_leaves_no_entry(tmp_path):
    def fail() -> PreparedData:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        cache.cached(tmp_path, "x", {}, fail)
    assert made(tmp_path) == []


def test_of_several_processes_one_prepares_and_all_get_the_data(tmp_path):
    """In threads here; in processes of their own in tests/test_slow.py."""
    calls, ready = [], threading.Barrier(6)

    def slow() -> PreparedData:
        calls.append(1)
        time.sleep(0.3)
        return small()

    def work(_: int) -> PreparedData:
        ready.wait()
        return cache.cached(tmp_path / "cache", "x", {"a": 1}, slow)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(work, range(6)))
    assert len(calls) == 1
    assert all(same(data, found[0]) for data in found)


def test_entries_are_listed_and_cleared(root, tmp_path):
    folder = tmp_path / "cache"
    loaded(root, folder)
    loaded(root, folder, unlinked="keep")
    (folder / ".toy-x.host-1.incoming").mkdir()
    found = cache.entries(folder)
    assert [entry.usable for entry in found] == [False, True, True]
    assert found[1].name == "toy"
    assert found[1].counts["users"] == 2
    assert found[1].size > 1000
    assert cache.clear(folder, "other") == ([], [])
    removed, kept = cache.clear(folder)
    assert len(removed) == 3
    assert kept == []
    assert cache.entries(folder) == []
    assert cache.entries(tmp_path / "nowhere") == []


def test_an_entry_in_use_is_not_cleared(root, tmp_path):
    from filelock import FileLock

    folder = tmp_path / "cache"
    loaded(root, folder)
    (entry,) = made(folder)
    with FileLock(folder / f"{entry.name}.lock"):
        removed, kept = cache.clear(folder)
    assert removed == []
    assert [e.path for e in kept] == [entry]
    assert entry.exists()
