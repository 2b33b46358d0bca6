"""Fixtures: tiny data sets, a planted one, and the command line in this process."""

from __future__ import annotations

import copy
import functools
import gc
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest
import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig

from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean, paper
from kgrec.data.raw_tables import RawTables
from kgrec.data.splits import RandomSplit
from kgrec.data.synthetic.small import PlantedData, generate

ROOT = Path(__file__).parent.parent

pytest_plugins = ["disks", "finished_runs", "http_server", "kgrec_command"]

os.environ["WANDB_MODE"] = "disabled"
# The workers and the commands that tests start compile kgrec once, not at every start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Markers by path and name; CONTRIBUTING.md says what each is for and how long it takes.
FAST = ("data", "evaluation", "models", "runs")
NOT_FAST = (
    "data/build/test_shop.py", "data/test_damaged_files.py", "data/test_formats_properties.py",
    "data/test_movie.py", "data/test_real_data.py", "data/test_twins.py",
    "models/test_contract.py", "models/test_kgnn_ls.py", "models/test_learning.py",
    "runs/test_folder.py", "runs/test_identity.py", "runs/test_results.py",
)  # fmt: skip
NETWORK = ("test_a_wheel_trains_from_an_empty_folder", "test_the_main_job_of_the_readme")


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests as ``fast``, ``network`` or ``root``."""
    for item in items:
        path = item.path.relative_to(ROOT / "tests")
        slow = item.get_closest_marker("slow") is not None
        if path.parts[0] in FAST and path.as_posix() not in NOT_FAST and not slow:
            item.add_marker("fast")
        if "disk" in getattr(item, "fixturenames", ()):
            item.add_marker("root")
        if item.name in NETWORK:
            item.add_marker("network")


def pytest_collection_finish() -> None:
    """Modules and tests stay: the garbage collector, which took a sixth of the time, skips them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """Restores the environment: Lightning leaves a port in it, which other processes would use."""
    before = dict(os.environ)
    yield
    if os.environ != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def small(seed: int = 0) -> PlantedData:
    """60 users, 40 items, 12 attributes."""
    return generate(
        seed=seed, num_users=60, num_items=40, num_relations=3, attributes_per_relation=4,
        positives_per_user=10,
    )  # fmt: skip


@pytest.fixture
def data() -> PreparedData:
    return small()


@pytest.fixture(params=[paper, clean], ids=["paper", "clean"])
def dataset(request: pytest.FixtureRequest) -> RecDataset:
    return request.param(small(), RandomSplit())


@functools.cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def composed(*overrides: str) -> DictConfig:
    """The configuration of a run; a copy, for composing takes twenty times as long."""
    return copy.deepcopy(_composed(overrides))


def prepared(
    interactions: list[tuple[str, str, float]],
    links: list[tuple[str, str]],
    triples: list[tuple[str, str, str]],
    **settings: object,
) -> PreparedData:
    """Prepared data from rows written out in a test."""
    return prepare(raw_tables(interactions, links, triples), "test", **settings)


def raw_tables(
    interactions: list[tuple[str, str, float]],
    links: list[tuple[str, str]],
    triples: list[tuple[str, str, str]],
) -> RawTables:
    schema = {"user": pl.String, "item": pl.String, "rating": pl.Float64}
    return RawTables(
        pl.DataFrame(interactions, schema=schema, orient="row"),
        pl.DataFrame(links, schema={"item": pl.String, "entity": pl.String}, orient="row"),
        pl.DataFrame(
            triples, schema=dict.fromkeys(("head", "relation", "tail"), pl.String), orient="row"
        ),
    )


@dataclass
class Finished:
    """What a run on the command line left."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def metrics(self) -> dict[str, float]:
        return json.loads((self.folder / "metrics.json").read_text())


Train = Callable[..., Finished]

Trained = Callable[..., Path]

SMALL = [
    "dataset=synthetic",
    "dataset.num_users=60",
    "dataset.num_items=40",
    "dataset.positives_per_user=10",
    "dataset.attributes_per_relation=4",
    "logger=csv",
    "epochs=2",
    "threads=1",  # two workers share two cores
]


@pytest.fixture
def train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Train:
    """Runs ``train.py`` in this process, in an empty folder, on small synthetic data."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str, small: bool = True, folder: str = "run") -> Finished:
        where = tmp_path / folder
        place = [] if "-m" in overrides else [f"hydra.run.dir={where}"]
        capsys.readouterr()
        code = _train([*(SMALL if small else []), *overrides, *place])
        out, err = capsys.readouterr()
        return Finished(code, out, err, where)

    return run


def _train(arguments: list[str]) -> int:
    """Runs ``train.py`` in this process; returns its exit code."""
    from kgrec.commands.train import main

    flags_first = sorted(arguments, key=lambda argument: not argument.startswith("-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *flags_first])
        # It composes the configuration once more, to read hydra.mode, which no file sets.
        patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Folders of runs on small synthetic data; tests do not change them.

    Each run is trained once, by the worker that needs it first.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    @functools.cache
    def run(*overrides: str) -> Path:
        name = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:12]
        place = shared / f"trained-{name}"
        folder = place / "run"
        with FileLock(f"{place}.lock"):
            if not (folder / "metrics.json").is_file():
                words = [*SMALL, f"paths.logs={place}", *overrides, f"hydra.run.dir={folder}"]
                assert _train(words) == 0
        return folder

    return run
