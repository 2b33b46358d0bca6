"""Systems to compare: the reference among them, and whether their metrics are comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kgrec.errors import DataError
from kgrec.evaluation.results import BASELINE
from kgrec.reports.results.systems import System, systems
from kgrec.runs.finished import Run


@dataclass(frozen=True)
class ComparedSystem:
    """A system, or a control that was tested in its runs.

    Attributes:
        label: name to show.
        runs: runs of the system.
        model: name of the control whose metrics are read; None: the runs' own model.
    """

    label: str
    runs: list[Run]
    model: str | None = None

    def values(self, metric: str) -> list[float]:
        """A metric of each run that has it, such as ``test/auc``."""
        values = (run.figure(metric, self.model) for run in self.runs)
        return [value for value in values if value is not None]


class ComparedSystems(NamedTuple):
    """Systems to compare.

    Attributes:
        reference: the system with which the others are compared.
        others: all other systems.
        reason: why this system is the reference, in words.
        repeated: number of runs that are left out, because a later run has the same settings and
            seed.
    """

    reference: ComparedSystem
    others: list[ComparedSystem]
    reason: str
    repeated: int = 0


def compared_systems(
    runs: Sequence[Run], baseline: str | None = None, places: Sequence[Path] = ()
) -> ComparedSystems:
    """Systems to compare, in the order of their runs.

    Args:
        runs: finished runs.
        baseline: reference: label of a system, name of a model with one system, or name of a
            control. None: the system of the first place if that place has just one system and
            there are other places, else popularity.
        places: folders in which the runs were found, as the user gave them.

    Raises:
        DataError: the baseline is not among the runs, or the runs are not comparable.
    """
    group = systems(runs)
    if baseline is None:
        reference, reason = _default(group, places)
    else:
        reference, reason = _reference(group, baseline), "chosen by --baseline"
    others = [
        ComparedSystem(system.label, system.runs)
        for system in group
        if reference.model is not None or system.runs is not reference.runs
    ]
    if not others:
        raise DataError(
            f"{runs[0].folder}: found only one system, {reference.label}, expected a second system "
            "or a control as --baseline"
        )
    for other in others:
        check_comparable(reference, other)
    repeated = len(runs) - sum(len(system.runs) for system in group)
    return ComparedSystems(reference, others, reason, repeated)


def _default(group: Sequence[System], places: Sequence[Path]) -> tuple[ComparedSystem, str]:
    """The default reference, and the reason for it."""
    if len(group) == 1:
        return _reference(group, BASELINE), "there is one system"
    if len(places) > 1:
        first = places[0].resolve()
        inside = [s for s in group if any(first in (r.folder, *r.folder.parents) for r in s.runs)]
        if len(inside) == 1:
            return ComparedSystem(inside[0].label, inside[0].runs), "its folder is given first"
    return _reference(group, BASELINE), "the default; --baseline NAME chooses another one"


def _reference(group: Sequence[System], name: str) -> ComparedSystem:
    """The system with this label or model, or the control of this name."""
    for matches in ([s for s in group if s.label == name], [s for s in group if _model(s) == name]):
        if len(matches) == 1:
            return ComparedSystem(matches[0].label, matches[0].runs)
        if matches:
            raise DataError(
                f"--baseline: found {name!r}, which matches {len(matches)} systems, expected "
                f"one of {_quoted([s.label for s in matches])}"
            )
    # Run.controls() omits the run's own model, so only runs of other models have it.
    with_control = [s for s in group if name in s.first.controls()]
    if not with_control:
        choices = [*(s.label for s in group), *group[0].first.controls()]
        raise DataError(f"--baseline: found {name!r}, expected one of {_quoted(choices)}")
    return ComparedSystem(name, with_control[0].runs, name)


def _model(system: System) -> str:
    return system.first.model


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def check_comparable(reference: ComparedSystem, other: ComparedSystem) -> None:
    """Refuses two systems whose metrics are not comparable.

    Raises:
        DataError: data, protocol, rows, ranking or seeds differ; the message names both systems.
    """
    first, run = reference.runs[0], other.runs[0]
    for property_name, expected, value in (
        ("dataset", first.data, run.data),
        ("protocol", first.protocol, run.protocol),
        ("ranking", _ranking(first), _ranking(run)),
    ):
        if expected != value:
            raise DataError(
                f"{run.folder}: found {property_name} {value}, expected {expected} as in "
                f"{first.folder}: their metrics are not comparable"
            )
    keys = [{run.split_key for run in system.runs} for system in (reference, other)]
    if keys[0] == keys[1]:
        return
    seeds = [sorted({seed for _, seed in pairs}) for pairs in keys]
    if seeds[0] == seeds[1]:
        raise DataError(
            f"{run.folder}: found other test rows (fingerprint {run.split_key[0]}) than in "
            f"{first.folder} ({first.split_key[0]}) with the same seeds, expected the same "
            "split: dataset.seed, split and data must agree"
        )
    raise DataError(
        f"{other.label}: found seeds {_listed(seeds[1])}, expected the seeds of "
        f"{reference.label}, {_listed(seeds[0])}: users are matched seed by seed"
    )


def _ranking(run: Run) -> str:
    return str(run.config.get("ranking", {}).get("name"))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
