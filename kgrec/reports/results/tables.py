"""Tables of all systems that are comparable: metrics, cost, commands."""

from __future__ import annotations

import math
from collections.abc import Sequence

from kgrec.reports.results.systems import Summary, System, name_apart
from kgrec.reports.results.table import Cell, Table
from kgrec.runs.finished import Run

# Column to metric and digits.
METRICS: dict[str, tuple[str, int]] = {
    "AUC": ("test/auc", 4),
    "F1 (0.5)": ("test/f1", 4),
    "F1 (val)": ("test/f1_val_threshold", 4),
    "matched AUC": ("test/matched/auc", 4),
    "Recall@20": ("test/recall@20", 4),
    "NDCG@20": ("test/ndcg@20", 4),
}
COSTS: dict[str, tuple[str, int]] = {
    "epochs": ("train/epochs", 0),
    "s per epoch": ("train/seconds_per_epoch", 2),
    "training, s": ("train/seconds", 1),
    "peak memory, GB": ("train/peak_memory_gb", 2),
}


# Settings of the data set that change training alone, so that the test rows stay comparable.
OF_TRAINING = ("dataset.weights", "dataset.inverses", "dataset.user_graph")


def place(run: Run) -> str:
    """The properties that comparable runs share.

    They are data set, protocol, negatives, split, ranking, and the settings of data set and split
    that the command line gave.
    """
    words = [run.data, f"protocol={run.protocol}"]
    groups = {
        "negatives": (run.negatives, "resampled"),
        "split": (str(run.choices.get("split", "random")), "random"),
        "ranking": (str(run.settings.get("ranking.name", "full")), "full"),
    }
    words += [f"{group}={name}" for group, (name, usual) in groups.items() if name != usual]
    for key in sorted(run.given_keys):
        value = run.settings.get(key)
        if key.startswith(("dataset.", "split.")) and key not in OF_TRAINING and value is not None:
            words.append(f"{key}={value}")
    return ", ".join(words)


def by_place(systems: Sequence[System]) -> dict[str, list[System]]:
    """Comparable systems by place, labelled within their place."""
    groups: dict[str, list[System]] = {}
    for system in systems:
        groups.setdefault(place(system.first), []).append(system)
    for group in groups.values():
        name_apart(group)
    return dict(sorted(groups.items()))


def text(summary: Summary | None, digits: int = 4) -> str:
    """A summary as a cell."""
    return "" if summary is None else summary.text(digits)


def mean(summary: Summary | None) -> float:
    """The mean for sorting; -inf where there is no mean."""
    return -math.inf if summary is None or math.isnan(summary.mean) else summary.mean


def by_validation(systems: Sequence[System], metric: str = "val/auc") -> list[System]:
    """Systems, the highest validation metric first."""
    return sorted(systems, key=lambda s: -mean(s.summary(metric)))


def control(systems: Sequence[System], name: str, metric: str) -> Summary | None:
    """A control's metric over all splits on which the systems were tested, each split once."""
    values: dict[str, float] = {}
    for system in systems:
        for run in system.runs:
            value = run.figure(metric, name)
            if value is not None:
                values[run.split_key[0]] = value
    return Summary.of(list(values.values())) if values else None


def controls(systems: Sequence[System]) -> list[str]:
    """Controls that are not systems themselves."""
    trained = {system.first.model for system in systems}
    names = [name for system in systems for name in system.first.controls()]
    return [name for name in dict.fromkeys(names) if name not in trained]


def overview(where: str, systems: Sequence[System]) -> Table:
    """All systems of a place, the best on validation first."""
    shown = {n: m for n, m in METRICS.items() if any(s.values(m[0]) for s in systems)}
    several = any(len(system.runs) > 1 for system in systems)
    note = "Test metrics. The highest AUC on validation comes first."
    if several:
        note = "Test metrics: mean ± standard deviation over seeds." + note.removeprefix(
            "Test metrics."
        )
    if "F1 (val)" in shown:
        note += " F1 (val) takes the threshold that is best on validation."
    table = Table(where, note, ["", "seeds", *shown])
    for system in by_validation(systems):
        cells = [text(system.summary(metric), digits) for metric, digits in shown.values()]
        name = f"{system.label} ({system.collapse})" if system.collapse else system.label
        table.add(name, [system.seeds, *cells])
    for name in controls(systems):
        cells = [text(control(systems, name, metric), d) for metric, d in shown.values()]
        table.add(name, ["", *cells], "control")
    return table


def costs(systems: Sequence[System]) -> Table:
    """Time, memory, and the command that trains each system with all its seeds."""
    note = "The command runs all seeds of the row."
    table = Table("Time, memory, command", note, ["", *COSTS, "command"])
    for system in by_validation(systems):
        cells = [text(system.summary(metric), digits) for metric, digits in COSTS.values()]
        table.add(system.label, [*cells, Cell(system.command, "command")])
    return table
