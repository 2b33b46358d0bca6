"""Finished runs, read from their folders alone, and grouped into systems.

A system is what runs have in common that differ by their seeds alone: data, protocol, model,
settings. Its figures are a mean and a standard deviation over seeds.
"""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from omegaconf import OmegaConf

from kgrec.errors import DataError
from kgrec.settings import flat

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


@dataclass
class System:
    """Runs that differ by their seeds alone.

    Attributes:
        runs: by seed.
        experiments: of conf/experiment that any of its runs were made for.
        label: what tells it from the other systems at hand.
        differing: the settings behind the label.
    """

    runs: list[Run]
    experiments: set[str] = field(default_factory=set)
    label: str = ""
    differing: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> str:
        """``2019-2021``, or ``1, 2, 7``."""
        found = [run.seed for run in self.runs]
        if len(found) > 2 and found == list(range(found[0], found[-1] + 1)):
            return f"{found[0]}-{found[-1]}"
        return ", ".join(map(str, found))

    @property
    def first(self) -> Run:
        """A run that stands for what all have in common."""
        return self.runs[0]

    def values(self, metric: str, model: str | None = None) -> list[float]:
        """A figure of each run that has it."""
        found = (run.figure(metric, model) for run in self.runs)
        return [value for value in found if value is not None]

    def summary(self, metric: str, model: str | None = None) -> Summary | None:
        """Mean and standard deviation over runs, or None where no run has the figure."""
        values = self.values(metric, model)
        return Summary.of(values) if values else None


@dataclass(frozen=True)
class Summary:
    """Figures of several runs.

    Attributes:
        mean: over runs.
        sd: sample standard deviation; nan of one run.
        n: runs.
    """

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Of at least one figure."""
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))

    def text(self, digits: int = 4) -> str:
        """``0.8386 ± 0.0068``, or the figure alone where there is one run."""
        mean = f"{self.mean:.{digits}f}"
        alone = math.isnan(self.sd) or (digits == 0 and self.sd == 0)
        return mean if alone else f"{mean} ± {self.sd:.{digits}f}"


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


def systems(runs: Iterable[Run]) -> list[System]:
    """Groups runs by everything but their seeds, and labels each group by what is its own.

    Two runs of one system with the same seed and the same rows are one and the same: the later
    counts.
    """
    grouped: dict[str, dict[tuple[str, int], Run]] = {}
    experiments: dict[str, set[str]] = {}
    for run in runs:
        key = json.dumps([run.data, run.protocol, run.settings], sort_keys=True, default=str)
        same = grouped.setdefault(key, {})
        experiments.setdefault(key, set()).add(str(run.choices.get("experiment")))
        known = same.get(run.split_key)
        if known is None or run.environment["started"] >= known.environment["started"]:
            same[run.split_key] = run
    found = [
        System(sorted(group.values(), key=lambda run: run.seed), experiments[key])
        for key, group in grouped.items()
    ]
    name_apart(found)
    return found


def name_apart(found: Sequence[System]) -> None:
    """Names each by its model and by the settings in which it differs from its like among these."""
    for system in found:
        run = system.first
        like = [
            other.first
            for other in found
            if (other.first.model, other.first.data) == (run.model, run.data)
        ]
        system.differing = differing(run.settings, [other.settings for other in like])
        system.label = label(run.model, told(system.differing, like))


def told(settings: Mapping[str, Any], like: Sequence[Run]) -> dict[str, Any]:
    """Those of differing settings that a label must say.

    Where settings files differ, what they set goes without saying, unless it was asked for on a
    command line or differs within one file too.
    """
    if "settings" not in settings:
        return dict(settings)
    files: dict[str, list[Mapping[str, Any]]] = {}
    for run in like:
        files.setdefault(str(run.settings.get("settings")), []).append(run.settings)
    within = {key for group in files.values() for key in differing(group[0], group)}
    asked = {word for run in like for word in run.asked}

    def said(key: str) -> bool:
        return key in within or any(key == a or key.startswith(f"{a}.") for a in asked)

    return {k: v for k, v in settings.items() if k == "settings" or said(k)}


def differing(settings: Mapping[str, Any], like: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Those of the settings in which their like differ; the protocol is told elsewhere."""
    elsewhere = ("protocol", "trainer.max_epochs")  # which repeats epochs
    keys = sorted({k for other in like for k in other if not k.startswith(elsewhere)})
    keys = [k for k in keys if len({str(other.get(k)) for other in like}) > 1]
    return {k: settings[k] for k in keys if k in settings}


def label(model: str, settings: Mapping[str, Any]) -> str:
    """``kgcn K=8 negatives=static``."""
    short = {k.removeprefix("model.").removesuffix(".name"): v for k, v in settings.items()}
    told = {k: "null" if v is None else v for k, v in short.items()}
    return " ".join([model, *(f"{k}={v}" for k, v in told.items())])
