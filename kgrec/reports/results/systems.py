"""Finished runs grouped into systems.

A system is what runs have in common that differ by their seeds alone: data, protocol, model,
settings. Its figures are a mean and a standard deviation over seeds.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kgrec.runs.finished import Run


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
    asked = {word for run in like for word in run.given_keys}

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
