"""Do systems differ? Every other system against the first, on the same rows and users.

AUC and F1 by a paired bootstrap over users; ranking metrics by a paired bootstrap and Wilcoxon's
test on per-user figures, matched on user and split; all by the paper's unpaired t-test over seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from kgrec.errors import DataError
from kgrec.evaluation.significance import (
    Difference,
    TTest,
    Wilcoxon,
    bootstrap_paired,
    bootstrap_pooled,
    holm,
    t_test,
    weighted_auc,
    weighted_f1,
    wilcoxon,
)
from kgrec.reports.results.systems import systems
from kgrec.runs.finished import Run

POOLED = ("auc", "f1_val_threshold")


@dataclass(frozen=True)
class Contender:
    """A system, or a control that was tested beside it.

    Attributes:
        label: for people.
        runs: of it.
        model: whose figures are read: the runs' model, or the control.
    """

    label: str
    runs: list[Run]
    model: str | None = None


@dataclass
class Comparison:
    """One metric of two contenders.

    Attributes:
        metric: such as ``auc`` or ``recall@20``.
        first: label of the reference.
        second: label of the other one.
        splits: splits that both were tested on.
        bootstrap: figures, interval and p-value of the paired bootstrap.
        wilcoxon: of per-user figures; None where there are none.
        t: over seeds.
        corrected: p-values after Holm's correction for the number of systems compared.
    """

    metric: str
    first: str
    second: str
    splits: int
    bootstrap: Difference
    wilcoxon: Wilcoxon | None
    t: TTest
    corrected: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain, for JSON; nan as None."""
        bootstrap = {**self.bootstrap._asdict(), "difference": self.bootstrap.value}
        found = {
            **asdict(self),
            "bootstrap": bootstrap,
            "wilcoxon": None if self.wilcoxon is None else self.wilcoxon._asdict(),
            "t": self.t._asdict(),
        }
        plain: dict[str, Any] = _without_nan(found)
        return plain


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def contenders(runs: Sequence[Run], against: str | None = None) -> list[Contender]:
    """Systems in the order in which their runs are given; a control may stand in front.

    Args:
        runs: finished runs.
        against: a control, such as "popularity", to be the reference.

    Raises:
        DataError: there is nothing to compare with.
    """
    found = systems(runs)
    if against is None and len(found) == 1:
        against = "popularity"
    listed = [Contender(system.label, system.runs) for system in found]
    if against is not None:
        if against not in runs[0].controls():
            raise DataError(
                f"{runs[0].folder}: found no control {against!r} in this run, expected one of "
                f"{', '.join(runs[0].controls()) or 'none'}; or give runs of a second system"
            )
        listed.insert(0, Contender(against, found[0].runs, against))
    check_comparable(listed)
    return listed


def check_comparable(listed: Sequence[Contender]) -> None:
    """Refuses runs whose figures do not belong beside each other.

    Raises:
        DataError: other data, another protocol, other rows, another way of ranking, or other
            seeds; names both runs.
    """
    reference = listed[0]
    first = reference.runs[0]
    for other in listed[1:]:
        run = other.runs[0]
        for what, here, there in (
            ("dataset", first.data, run.data),
            ("protocol", first.protocol, run.protocol),
            ("ranking", _ranking(first), _ranking(run)),
        ):
            if here != there:
                raise DataError(
                    f"{run.folder}: found {what} {there}, expected {here} as in {first.folder}: "
                    "their figures cannot be compared"
                )
        mine = {run.split_key: run for run in reference.runs}
        theirs = {run.split_key: run for run in other.runs}
        if set(mine) != set(theirs):
            seeds = [sorted({seed for _, seed in found}) for found in (mine, theirs)]
            if seeds[0] == seeds[1]:
                raise DataError(
                    f"{run.folder}: found other test rows (fingerprint {run.split_key[0]}) than in "
                    f"{first.folder} ({first.split_key[0]}) with the same seeds, expected the same "
                    "split: dataset.seed, split and data must agree"
                )
            raise DataError(
                f"{other.label}: found seeds {_listed(seeds[1])}, expected those of "
                f"{reference.label}, {_listed(seeds[0])}: users are matched on their splits"
            )


def _ranking(run: Run) -> str:
    return str(run.config.get("ranking", {}).get("name"))


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def compare(
    listed: Sequence[Contender], metrics: Sequence[str], samples: int, seed: int = 0
) -> list[Comparison]:
    """Every other contender against the first, for each metric.

    Args:
        listed: at least two, comparable.
        metrics: ``auc``, ``f1_val_threshold``, or ranking metrics such as ``recall@20``.
        samples: bootstrap samples.
        seed: of the bootstrap.
    """
    found = []
    pairs = [(metric, other) for metric in metrics for other in listed[1:]]
    shown = Console(stderr=True)
    made = [
        _one(metric, listed[0], other, samples, seed)
        for metric, other in track(pairs, "comparing", console=shown, disable=not shown.is_terminal)
    ]
    for metric in metrics:
        of_metric = [comparison for comparison in made if comparison.metric == metric]
        for name, ps in (
            ("bootstrap", [c.bootstrap.p for c in of_metric]),
            ("wilcoxon", [c.wilcoxon.p if c.wilcoxon else float("nan") for c in of_metric]),
            ("t", [c.t.p for c in of_metric]),
        ):
            for comparison, p in zip(of_metric, holm(ps), strict=True):
                comparison.corrected[name] = p
        found += of_metric
    return found


def _one(metric: str, a: Contender, b: Contender, samples: int, seed: int) -> Comparison:
    pairs = _pairs(a, b)
    t = t_test(*(_over_seeds(metric, one) for one in (a, b)))
    if metric in POOLED:
        figures, owners = [], []
        for one, two in pairs:
            rows = _matched_rows(a, one, b, two)
            users = torch.from_numpy(rows["user"].rank("dense").to_numpy().astype("int64") - 1)
            labels = _tensor(rows, "label")
            pair = [
                weighted_auc(_tensor(rows, name), labels)
                if metric == "auc"
                else weighted_f1(_tensor(rows, name), labels, _threshold(run, c))
                for name, run, c in (("score", one, a), ("score_right", two, b))
            ]
            figures.append((pair[0], pair[1]))
            owners.append(users)
        found = bootstrap_pooled(figures, owners, samples, seed)
        return Comparison(metric, a.label, b.label, len(pairs), found, None, t, {})
    values = [_matched_users(a, one, b, two, metric) for one, two in pairs]
    first, second = (torch.cat(column) for column in zip(*values, strict=True))
    found = bootstrap_paired(first, second, samples, seed)
    return Comparison(
        metric, a.label, b.label, len(pairs), found, wilcoxon(first, second), t, {}
    )  # fmt: skip


def _pairs(a: Contender, b: Contender) -> list[tuple[Run, Run]]:
    theirs = {run.split_key: run for run in b.runs}
    return [(run, theirs[run.split_key]) for run in a.runs]


def _over_seeds(metric: str, c: Contender) -> list[float]:
    found = [run.figure(f"test/{metric}", c.model) for run in c.runs]
    return [value for value in found if value is not None]


def _threshold(run: Run, c: Contender) -> float:
    found = run.figure("val/threshold", c.model)
    if found is None:
        raise DataError(f"{run.files.metrics_file}: found no val/threshold, needed for F1")
    return found


def _matched_rows(a: Contender, one: Run, b: Contender, two: Run) -> pl.DataFrame:
    left, right = one.rows(a.model), two.rows(b.model)
    keys = ["user", "item", "label"]
    if not left.select(keys).equals(right.select(keys)):
        raise DataError(f"{two.folder}: found other test rows than in {one.folder}")
    return left.with_columns(score_right=right["score"])


def _matched_users(
    a: Contender, one: Run, b: Contender, two: Run, metric: str
) -> tuple[Tensor, Tensor]:
    left, right = one.users(a.model), two.users(b.model)
    for run, table in ((one, left), (two, right)):
        if metric not in table.columns:
            known = ", ".join([*POOLED, *(c for c in table.columns if "@" in c)])
            raise DataError(f"{run.folder}: found no {metric!r}, expected one of {known}")
    if left["user"].to_list() != right["user"].to_list():
        raise DataError(f"{two.folder}: found other test users than in {one.folder}")
    return _tensor(left, metric), _tensor(right, metric)


def _tensor(table: pl.DataFrame, column: str) -> Tensor:
    return torch.from_numpy(table[column].to_numpy(writable=True))
