"""Names from data, configurations and run folders never become paths outside their folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import small
from files import RAW
from files import write as put
from kgrec_command import Kgrec, failed

from kgrec.commands import choose
from kgrec.data import cache
from kgrec.data.formats import FORMATS
from kgrec.data.sources.locate import locate
from kgrec.data.sources.public_files import RawFile, Source
from kgrec.errors import ConfigError, DataError, KgrecError
from kgrec.files import inside
from kgrec.inference import scored_lists
from kgrec.pipeline import fitting
from kgrec.reports.results.report import _file_names
from kgrec.runs.folder import VALIDATED, RunFolder
from kgrec.sweeps import reproduce
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.state import Job

NAME = "../../x"
OUTSIDE = ["", " ", ".", "..", NAME, "/etc/x", "a/b", "a/", "..\\x", "a\0b", "a\nb", "../" * 500]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_with_folders_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^key: found .*, expected a name, without folders$") as e:
        inside(tmp_path, name, "key")
    assert len(str(e.value)) < 200


@pytest.mark.parametrize("name", ["kg.txt", "my data", "ü", "...", ".x", "a..b", "-", "~", "C:x"])
def test_any_other_name_is_a_path_in_the_folder(name: str, tmp_path: Path) -> None:
    assert inside(tmp_path, name, "key").parent == tmp_path


def refused(key: str, call: Callable[[], object]) -> None:
    message = rf"{key}.*: found .*x.*, expected a name, without folders"
    with pytest.raises(KgrecError, match=message):
        call()


def test_files_of_a_data_set() -> None:
    config = {"format": "released_raw", "files": {NAME: {"url": "http://127.0.0.1:9/x"}}}
    refused(r"dataset\.sources", lambda: Source.from_config(config))
    archive = {"name": NAME, "url": "http://127.0.0.1:9/x"}
    config = {"format": "released_raw", "files": {"kg.txt": {"member": "kg.txt"}}}
    refused(r"dataset\.sources", lambda: Source.from_config(config | {"archive": archive}))


def test_the_name_of_a_data_set_that_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source("released_raw", tuple(RawFile(name, member=name) for name in RAW))
    put(tmp_path / "x", RAW)
    monkeypatch.delenv("KGREC_DATA_DIR", raising=False)
    refused(r"dataset\.name", lambda: locate(NAME, [source], None, tmp_path / "a" / "b"))
    monkeypatch.setenv("KGREC_DATA_DIR", str(tmp_path / "a" / "b"))
    refused(r"dataset\.name", lambda: locate(NAME, [source], None, tmp_path / "c"))


def test_the_name_of_a_data_set_in_the_cache(tmp_path: Path) -> None:
    cache.cached(tmp_path / "a" / "cache", NAME, {"name": NAME}, small)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["cache"]
    assert [entry.name for entry in cache.entries(tmp_path / "a" / "cache")] == [NAME]


def test_the_name_of_a_data_set_in_the_folder_of_a_comparison() -> None:
    arguments = argparse.Namespace(trials=1, seeds=1, minutes=1.0, out=None)
    chosen = choose._choice(arguments, [f"dataset.name={NAME}", "dataset=custom"], ["kgcn"])
    assert chosen.path.parent == Path("logs", "choose").absolute()


def test_the_folder_that_names_the_files_of_recbole(tmp_path: Path) -> None:
    raw = FORMATS["released_raw"].read(put(tmp_path / "raw", RAW))
    folder = tmp_path / "..x.train"
    folder.mkdir()
    FORMATS["recbole"].write(folder, raw, [raw.interactions])
    assert {path.name.partition(".")[0] for path in folder.iterdir()} == {"x-train"}


def test_the_model_of_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused("model", lambda: fitting.fit(None, model=NAME))
    assert list(tmp_path.iterdir()) == []


def test_the_model_of_a_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    for call in (folder.rows_file, folder.users_file, folder.rows, folder.users):
        refused("run: model", lambda call=call: call(NAME))


def test_the_name_and_the_seed_of_scored_lists(tmp_path: Path) -> None:
    like: Any = SimpleNamespace(kind=VALIDATED)
    with pytest.raises(ConfigError, match=r"--name: found '\.\./\.\./x', expected letters"):
        scored_lists._checked(like, NAME, tmp_path / "lists")
    others = "model: {_target_: x}\nnegatives: {name: x}\npaths: {run: x}\n"
    (tmp_path / "config.yaml").write_text(f"seed: {NAME}\n{others}", encoding="utf-8")
    with pytest.raises(DataError, match=r"config\.yaml: .*seed"):
        RunFolder(tmp_path).config()


@pytest.mark.parametrize("name", ["'../x'", ".."])
def test_the_name_of_a_sweep(name: str, kgrec: Kgrec, tmp_path: Path) -> None:
    words = ("train", "-m", "dataset=synthetic", "model=popularity", "seed=1,2")
    failed(kgrec(*words, f"sweep={name}"), "expected a name, without folders")
    assert list(tmp_path.iterdir()) == []


def test_the_jobs_of_a_sweep(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path / "sweep", {"jobs": []})
    refused(r"sweep\.json", lambda: sweep.folder(Job(NAME, (), {})))


def test_experiments_and_data_sets_of_reproduce(tmp_path: Path) -> None:
    refused("experiment", lambda: reproduce.sweep_folder(NAME, "music", [], tmp_path))
    refused("--dataset", lambda: reproduce.sweep_folder("table3", NAME, [], tmp_path))


def test_the_names_of_plots(tmp_path: Path) -> None:
    drawings = [SimpleNamespace(name=name) for name in (NAME, "/etc/x", "a\0b", "..\\x")]
    for name in _file_names(drawings).values():
        assert inside(tmp_path, f"{name}.svg", "plot").parent == tmp_path
