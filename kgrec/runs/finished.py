"""Finished runs, read from their folders alone."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf

from kgrec.errors import DataError
from kgrec.runs.identity import flat

# What may differ between the runs of one system: seeds, places, and how a run is watched.
NOT_THE_SYSTEM = (
    "seed", "paths", "logger", "callbacks", "ckpt_path", "threads", "eval_batch_size",
    "memory_budget", "steps_per_call",
)  # fmt: skip
NOT_OF_THE_DATASET = ("seed", "root", "cache", "data")


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: where it lies.
        config: resolved configuration.
        metrics: metrics.json.
        dataset: dataset.json.
        environment: environment.json.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, float]
    dataset: dict[str, Any]
    environment: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads the folder of a finished run.

        Raises:
            DataError: a file is missing or damaged; names it.
        """
        parts = []
        for name in ("metrics.json", "dataset.json", "environment.json"):
            try:
                parts.append(json.loads((folder / name).read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                raise DataError(
                    f"{folder / name}: found no readable file, expected that of a finished run "
                    f"({error})"
                ) from error
        try:
            config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        except Exception as error:  # whatever the YAML reader says
            raise DataError(f"{folder / 'config.yaml'}: {error}") from error
        return cls(folder, config, *parts)

    @property
    def model(self) -> str:
        """Its name, as in ``model=``."""
        return str(self.choices.get("model") or self.config["model"]["_target_"].split(".")[-2])

    @property
    def choices(self) -> Mapping[str, str]:
        """What was chosen in each group of the configuration."""
        found: Mapping[str, str] = self.environment.get("choices", {})
        return found

    @property
    def data(self) -> str:
        """Name of the data set."""
        return str(self.dataset["name"])

    @property
    def protocol(self) -> str:
        """Protocol of the evaluation."""
        return str(self.dataset["protocol"])

    @property
    def negatives(self) -> str:
        """How training negatives are drawn."""
        return str(self.config["negatives"]["name"])

    @property
    def seed(self) -> int:
        """Of model and training."""
        return int(self.config["seed"])

    @property
    def split_key(self) -> tuple[str, int]:
        """What two runs share whose users may be compared one by one: rows and seed."""
        return str(self.dataset["fingerprint"]), self.seed

    @property
    def command(self) -> str:
        """What repeats the run, from its beginning; where it was logged to does not matter."""
        words = self.environment.get("overrides")
        if words is None:
            return shlex.join(self.environment["command"])
        kept = [word for word in words if not word.startswith(("ckpt_path=", "logger="))]
        return shlex.join(["python", "train.py", *kept])

    @property
    def asked(self) -> set[str]:
        """Keys that the command set."""
        words = self.environment.get("overrides") or []
        return {word.lstrip("+~").partition("=")[0] for word in words}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The configuration without what may differ within a system, flat: ``model.K`` to 8."""
        kept = {k: v for k, v in self.config.items() if k not in NOT_THE_SYSTEM}
        kept["dataset"] = {
            k: v for k, v in self.config["dataset"].items() if k not in NOT_OF_THE_DATASET
        }
        kept["model"] = {k: v for k, v in self.config["model"].items() if k != "cache"}
        kept["trainer"] = {
            k: v for k, v in self.config["trainer"].items() if k not in ("accelerator", "devices")
        }
        return flat(kept)

    def rows(self, model: str | None = None) -> pl.DataFrame:
        """Test rows with the scores of the model, or of a control.

        Raises:
            DataError: the run has not kept them.
        """
        return self._table("rows", model)

    def users(self, model: str | None = None) -> pl.DataFrame:
        """Ranking metrics of every test user; as :meth:`rows`."""
        return self._table("users", model)

    def _table(self, name: str, model: str | None) -> pl.DataFrame:
        path = self.folder / "evaluation" / (model or self.model) / f"{name}.parquet"
        if not path.is_file():
            raise DataError(f"{path}: found no such file, expected what a finished run keeps")
        return pl.read_parquet(path, glob=False)

    def figure(self, metric: str, model: str | None = None) -> float | None:
        """A figure of metrics.json, such as ``test/auc``, of the model or of a control."""
        own = model is None or model == self.model
        return self.metrics.get(metric if own else f"{model}/{metric}")

    def controls(self) -> list[str]:
        """Models that were tested beside."""
        end = "/test/auc"
        return [k.removesuffix(end) for k in self.metrics if k.endswith(end) and k != "test/auc"]

    @cached_property
    def slices(self) -> list[dict[str, Any]]:
        """evaluation/slices.json, or nothing where the run has none."""
        path = self.folder / "evaluation" / "slices.json"
        if not path.is_file():
            return []
        found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        return found

    @cached_property
    def curves(self) -> pl.DataFrame:
        """One row an epoch: ``epoch``, ``train/loss``, ``val/auc``, …; empty if none was kept."""
        return read_curves(self.folder)


def read_curves(folder: Path) -> pl.DataFrame:
    """One row an epoch of a run, finished or not; a file that cannot be read yet is left out."""
    parts = []
    for path in sorted(folder.glob("curves/version_*/metrics.csv")):
        with contextlib.suppress(OSError, pl.exceptions.PolarsError):  # half-written
            parts.append(pl.read_csv(path, infer_schema_length=None, glob=False))
    parts = [part for part in parts if "epoch" in part.columns]
    if not parts:
        return pl.DataFrame({"epoch": []}, schema={"epoch": pl.Int64})
    whole = pl.concat(parts, how="diagonal_relaxed").drop_nulls("epoch")
    return whole.group_by("epoch").agg(pl.all().drop_nulls().last()).sort("epoch")


def find_runs(places: Iterable[Path]) -> list[Run]:
    """Every finished run in or under some folders, by path; each once.

    Raises:
        DataError: a place is no folder, or has no finished run in it.
    """
    folders: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: found no such folder, expected one with finished runs")
        found = sorted(path.parent for path in place.rglob("metrics.json"))
        found = [folder for folder in found if (folder / "config.yaml").is_file()]
        if not found:
            raise DataError(f"{place}: found no finished run (no metrics.json) in it or under it")
        folders |= dict.fromkeys(folder.resolve() for folder in found)
    return [Run.read(folder) for folder in folders]


def unfinished(places: Iterable[Path]) -> list[Path]:
    """Folders of runs that have begun and not finished."""
    found = (path.parent for place in places for path in place.rglob("environment.json"))
    return sorted(folder for folder in found if not (folder / "metrics.json").is_file())


def in_given_order(places: Sequence[Path], runs: Sequence[Run]) -> list[Run]:
    """Runs in the order of the places that they were found in."""
    order = [place.resolve() for place in places]

    def number(run: Run) -> int:
        return next(i for i, p in enumerate(order) if p == run.folder or p in run.folder.parents)

    return sorted(runs, key=number)
