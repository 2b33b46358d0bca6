"""Run folders of finished runs, written without training."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kgrec.config.location import conf_dir
from kgrec.sweeps.state import folder_name

MakeRun = Callable[..., Path]
MakeSweep = Callable[..., Path]
KS = (5, 20)
USERS = 30


@functools.cache
def _composed() -> str:
    """The configuration of a run as conf/ composes it, resolved, in YAML."""
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        cfg = compose("train", ["dataset=music", "paths.run=RUN"])
    return OmegaConf.to_yaml(cfg, resolve=True)


def run_config(
    folder: Path, seed: int, data: str, protocol: str, model: str, sweep: str | None,
    settings: dict[str, object],
) -> Any:  # fmt: skip
    """The configuration that a run keeps.

    Args:
        folder: run folder.
        seed: seed of the run and its data.
        data: name of the data set.
        protocol: name of the protocol.
        model: name of the model; all models have the settings of KGCN.
        sweep: name of the sweep; None: a run of its own. A job of a sweep has a share of the cores.
        settings: settings of the model.
    """
    config = yaml.safe_load(_composed().replace("RUN", str(folder)))
    config |= {"seed": seed, "sweep": sweep, "cores": None if sweep is None else 2}
    config["dataset"] |= {"seed": seed, "name": data}
    config["protocol"]["_target_"] = f"kgrec.data.protocols.{protocol}"
    if model != "kgcn":
        config["model"]["_target_"] = f"kgrec.models.{model}.Model.from_dataset"
    config["model"] |= settings
    return config


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a run folder; ``quality`` says how well the model's scores tell positives apart."""

    def make(
        name: str, seed: int = 1, quality: float = 1.0, data: str = "music",
        protocol: str = "paper", model: str = "kgcn", fingerprint: str | None = None,
        sweep: str | None = None, **settings: object,
    ) -> Path:  # fmt: skip
        folder = tmp_path / "runs" / name
        draw = np.random.default_rng(seed)
        users = np.repeat(np.arange(USERS), 8)
        labels = draw.integers(0, 2, len(users))
        noise = np.random.default_rng([seed, 7]).normal(size=len(users))
        rows = {"user": [f"u{u}" for u in users], "item": [str(i % 8) for i in range(len(users))]}
        hits = draw.random(USERS)
        metrics: dict[str, float] = {}
        for who, skill in {"popularity": 0.5, model: quality}.items():
            own = folder / "evaluation" / who
            own.mkdir(parents=True)
            score = skill * labels + noise
            pl.DataFrame({**rows, "label": labels, "score": score}).write_parquet(
                own / "rows.parquet"
            )
            figures = {f"{m}@{k}": np.clip(hits * skill * k / 20, 0, 1)
                       for m in ("recall", "ndcg") for k in KS}  # fmt: skip
            pl.DataFrame({
                "user": [f"u{u}" for u in range(USERS)],
                "train_positives": [3] * USERS, "test_positives": [2] * USERS, **figures,
            }).write_parquet(own / "users.parquet")  # fmt: skip
            prefix = "" if who == model else f"{who}/"
            better = score[labels == 1][:, None] > score[labels == 0][None]
            metrics |= {
                f"{prefix}test/auc": float(better.mean()), f"{prefix}val/auc": float(better.mean()),
                f"{prefix}test/f1_val_threshold": 0.7, f"{prefix}val/threshold": 0.2,
                **{f"{prefix}test/{m}": float(v.mean()) for m, v in figures.items()},
            }  # fmt: skip
        metrics |= {"test/f1": 0.7, "test/log_loss": 0.6, "train/seconds": 2.0,
                    "train/seconds_per_epoch": 0.5, "train/epochs": 3.0,
                    "train/peak_memory_gb": 0.5}  # fmt: skip
        slices = [
            {"model": who, "by": by, "positives": p, "rows": 9, "auc": 0.6, "recall@20": 0.2}
            for who in (model, "popularity") for by in ("user", "item") for p in ("0", "1-2")
        ]  # fmt: skip
        config = run_config(folder, seed, data, protocol, model, sweep, settings)
        dataset = {"name": data, "protocol": protocol, "seed": seed,
                   "fingerprint": fingerprint or f"{data}-{protocol}-{seed}"}  # fmt: skip
        environment = {
            "started": "2026-01-01", "command": ["train.py"], "overrides": [f"seed={seed}"],
            "choices": {"model": model, "split": "random"}, "git_commit": "0123456789ab",
        }  # fmt: skip
        for file, content in (
            ("metrics", metrics), ("dataset", dataset), ("environment", environment),
            ("evaluation/slices", slices),
        ):  # fmt: skip
            (folder / f"{file}.json").write_text(json.dumps(content))
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        curves = folder / "curves" / "version_0"
        curves.mkdir(parents=True)
        (curves / "metrics.csv").write_text(
            "epoch,step,train/loss,val/auc\n0,1,,0.6\n0,1,0.69,\n1,2,,0.7\n1,2,0.6,\n"
        )
        return folder

    return make


@pytest.fixture
def make_sweep(make_run: MakeRun, tmp_path: Path) -> MakeSweep:
    """Writes the folder of a sweep: the first jobs are finished, the others wait."""

    def make(
        *varied: dict[str, str], finished: int = 0, name: str = "sweep", **settings: object
    ) -> Path:
        place = tmp_path / name
        place.mkdir()
        jobs = [
            {"name": folder_name([f"{k}={v}" for k, v in one.items()]), "varied": one,
             "overrides": [f"{k}={v}" for k, v in one.items()]}
            for one in varied
        ]  # fmt: skip
        about = {
            "words": ["dataset=music", "model.K=2,8"], "keys": list(varied[0]) if varied else [],
            "monitor": "val/auc", "started": "2026-01-01T10:00:00+00:00", "finished": None,
            "jobs": jobs,
        }  # fmt: skip
        (place / "sweep.json").write_text(json.dumps(about))
        for number, job in enumerate(jobs[:finished]):
            own = {k.removeprefix("model."): _plain(v) for k, v in job["varied"].items()}
            seed = int(own.pop("seed", 1))
            run = make_run(
                f"{name}-{number}", seed, 1 + 0.1 * number, sweep=name, **{**settings, **own}
            )
            run.rename(place / job["name"])
            status = {"state": "finished", "seconds": 9.5, "device": "CPU", "epoch": 2,
                      "epochs": 2, "updated": "2026-01-01T10:01:00+00:00"}  # fmt: skip
            (place / job["name"] / "status.json").write_text(json.dumps(status))
        return place

    return make


def _plain(text: str) -> object:
    return int(text) if text.isdigit() else text


def set_status(place: Path, number: int, **status: object) -> Path:
    """Writes status.json of a job that is not finished; returns the run folder of the job."""
    job = json.loads((place / "sweep.json").read_text())["jobs"][number]
    folder = place / job["name"]
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_text(json.dumps({"monitor": "val/auc", **status}))
    return folder


def grid(**values):
    """Every combination of values, as jobs of a sweep."""
    keys = [k.replace("__", ".") for k in values]
    return [
        dict(zip(keys, map(str, one), strict=True)) for one in itertools.product(*values.values())
    ]
