"""Systems: finished runs that differ only by their seeds.

Metrics of a system are a mean and a standard deviation over seeds.
"""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kgrec.evaluation.collapse import mark
from kgrec.runs.finished import Run
from kgrec.runs.identity import data_digest


@dataclass
class System:
    """Runs that differ only by their seeds.

    Attributes:
        runs: runs of the system, by seed.
        experiments: names in conf/experiment for which any of the runs was made.
        label: name that tells the system from the other systems shown.
        differing: settings behind the label.
    """

    runs: list[Run]
    experiments: set[str] = field(default_factory=set)
    label: str = ""
    differing: dict[str, Any] = field(default_factory=dict)

    @property
    def seeds(self) -> str:
        """``2019-2021``, or ``1, 2, 7``."""
        seeds = [run.seed for run in self.runs]
        if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
            return f"{seeds[0]}-{seeds[-1]}"
        return ", ".join(map(str, seeds))

    @property
    def first(self) -> Run:
        """The run of the first seed, for properties that all runs have in common."""
        return self.runs[0]

    @property
    def command(self) -> str:
        """A command that trains the system with all its seeds; for several seeds it is a sweep."""
        command = self.first.command
        if len(self.runs) == 1 or not command.startswith("python train.py"):
            return command
        words = shlex.split(command)[2:]
        kept = [word for word in words if not word.startswith("seed=")]
        seeds = ",".join(str(run.seed) for run in self.runs)
        return shlex.join(["python", "train.py", "-m", *kept, f"seed={seeds}"])

    @property
    def collapse(self) -> str:
        """``at chance (1 of 3 runs)``: signs that runs have collapsed; "" where there is none."""
        return collapse_words(self.runs)

    def values(self, metric: str, model: str | None = None) -> list[float]:
        """A metric of each run that has it."""
        values = (run.figure(metric, model) for run in self.runs)
        return [value for value in values if value is not None]

    def summary(self, metric: str, model: str | None = None) -> Summary | None:
        """Mean and standard deviation over runs, or None where no run has the metric."""
        values = self.values(metric, model)
        return Summary.of(values) if values else None


def collapse_words(runs: Sequence[Run]) -> str:
    """The signs of a collapse among runs, and the number of runs that show one; "" for none."""
    marks = [mark(run.metrics) for run in runs]
    shown = [text for text in marks if text]
    if not shown:
        return ""
    signs = ", ".join(dict.fromkeys(", ".join(shown).split(", ")))
    return signs if len(runs) == 1 else f"{signs} in {len(shown)} of {len(runs)} runs"


@dataclass(frozen=True)
class Summary:
    """A metric of several runs.

    Attributes:
        mean: mean over runs.
        sd: sample standard deviation over runs; nan for one run.
        n: number of runs.
    """

    mean: float
    sd: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        """Summary of at least one value."""
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd, len(values))

    def text(self, digits: int = 4) -> str:
        """``0.8386 ± 0.0068``, or only the mean where there is one run."""
        mean = f"{self.mean:.{digits}f}"
        only_mean = math.isnan(self.sd) or (digits == 0 and self.sd == 0)
        return mean if only_mean else f"{mean} ± {self.sd:.{digits}f}"


def systems(runs: Iterable[Run]) -> list[System]:
    """Groups runs into systems and labels each system.

    Of several runs of one system with the same seed and the same rows, only the latest counts.
    """
    grouped: dict[str, dict[tuple[str, int], Run]] = {}
    experiments: dict[str, set[str]] = {}
    for run in runs:
        # A setting that is null is left out, because runs made before it existed do not have it.
        settings = {name: value for name, value in run.settings.items() if value is not None}
        # Own data may have any name, so their files tell them apart.
        own = data_digest(run.dataset) if run.choices.get("dataset") == "custom" else ""
        key = json.dumps([run.data, own, run.protocol, settings], sort_keys=True, default=str)
        group = grouped.setdefault(key, {})
        experiments.setdefault(key, set()).add(str(run.choices.get("experiment")))
        earlier = group.get(run.split_key)
        if earlier is None or run.started >= earlier.started:
            group[run.split_key] = run
    grouped_systems = [
        System(sorted(group.values(), key=lambda run: run.seed), experiments[key])
        for key, group in grouped.items()
    ]
    name_apart(grouped_systems)
    return grouped_systems


def counted(group: Sequence[System], runs: int) -> str:
    """``6 runs of 2 systems``, and the number of runs that repeat another run.

    Args:
        group: systems that are shown.
        runs: number of runs that were read.
    """
    shown = sum(len(system.runs) for system in group)
    words = f"{_number(shown, 'run')} of {_number(len(group), 'system')}"
    return f"{words} ({repeated_runs(runs - shown)})" if runs > shown else words


def repeated_runs(count: int) -> str:
    """Says that a number of runs are left out because a later run repeats them."""
    were = "was" if count == 1 else "were"
    return (
        f"{_number(count, 'more run')} with the same settings and seed {were} left out: the latest "
        "run counts"
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def name_apart(group: Sequence[System]) -> None:
    """Labels systems by model, and by the settings that differ among systems of the same model."""
    for system in group:
        run = system.first
        peers = [
            other.first
            for other in group
            if (other.first.model, other.first.data) == (run.model, run.data)
        ]
        system.differing = differing(run.settings, [peer.settings for peer in peers])
        system.label = label(run.model, label_settings(system.differing, peers))


def label_settings(settings: Mapping[str, Any], peers: Sequence[Run]) -> dict[str, Any]:
    """Differing settings that a label must name.

    Where systems differ by settings file, what the file sets is not named, unless a command line
    set it or it differs within one file.
    """
    if "settings" not in settings:
        return dict(settings)
    files: dict[str, list[Mapping[str, Any]]] = {}
    for run in peers:
        files.setdefault(str(run.settings.get("settings")), []).append(run.settings)
    within = {key for group in files.values() for key in differing(group[0], group)}
    overrides = {word for run in peers for word in run.given_keys}

    def named(key: str) -> bool:
        return key in within or any(key == o or key.startswith(f"{o}.") for o in overrides)

    return {k: v for k, v in settings.items() if k == "settings" or named(k)}


def differing(settings: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Settings in which the peers differ, except settings that are shown elsewhere."""
    elsewhere = ("protocol", "trainer.max_epochs")  # max_epochs repeats epochs
    keys = sorted({k for peer in peers for k in peer if not k.startswith(elsewhere)})
    keys = [k for k in keys if len({str(peer.get(k)) for peer in peers}) > 1]
    return {k: settings[k] for k in keys if k in settings}


def label(model: str, settings: Mapping[str, Any]) -> str:
    """``kgcn K=8 negatives=static``."""
    short = {k.removeprefix("model.").removesuffix(".name"): v for k, v in settings.items()}
    texts = {k: "null" if v is None else v for k, v in short.items()}
    return " ".join([model, *(f"{k}={v}" for k, v in texts.items())])
