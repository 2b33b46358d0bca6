"""Tests of the differences between systems, on the same rows and users.

AUC and F1 by a paired bootstrap over users; ranking metrics by a paired bootstrap over users and by
Wilcoxon's test on each user's mean over seeds; all by the unpaired t-test over seeds of the paper.
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
    SAMPLES,
    Difference,
    SeedRows,
    TTest,
    WeightedMetric,
    Wilcoxon,
    holm,
    paired_bootstrap,
    t_test,
    user_means,
    weighted_auc,
    weighted_f1,
    weighted_mean,
    wilcoxon,
)
from kgrec.reports.results.compared_systems import ComparedSystem, ComparedSystems
from kgrec.runs.finished import Run

# Metrics of all rows together; a single user has no value.
POOLED = ("auc", "f1_val_threshold")


@dataclass
class Comparison:
    """One metric of two systems.

    Attributes:
        metric: name, such as ``auc`` or ``recall@20``.
        first: label of the reference.
        second: label of the other system.
        seeds: number of seeds on which both systems were tested.
        bootstrap: values, interval and p-value of the paired bootstrap.
        wilcoxon: Wilcoxon's test on users; None where a user has no value of the metric.
        t: t-test over seeds.
        corrected: p-values after Holm's correction for the number of systems compared.
    """

    metric: str
    first: str
    second: str
    seeds: int
    bootstrap: Difference
    wilcoxon: Wilcoxon | None
    t: TTest
    corrected: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain content for JSON; nan becomes None."""
        content = {
            **asdict(self),
            "bootstrap": {**self.bootstrap._asdict(), "difference": self.bootstrap.value},
            "wilcoxon": None if self.wilcoxon is None else self.wilcoxon._asdict(),
            "t": self.t._asdict(),
        }
        plain: dict[str, Any] = _without_nan(content)
        return plain


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def compare(
    group: ComparedSystems, metrics: Sequence[str], samples: int = SAMPLES, seed: int = 0
) -> list[Comparison]:
    """Compares every other system with the reference, for each metric.

    Args:
        group: comparable systems.
        metrics: ``auc``, ``f1_val_threshold``, or ranking metrics such as ``recall@20``.
        samples: number of bootstrap samples.
        seed: seed of the bootstrap.

    Raises:
        DataError: a run lacks the metric or has other rows or users than the reference.
    """
    pairs = [(metric, other) for metric in metrics for other in group.others]
    console = Console(stderr=True)
    comparisons = [
        compare_pair(metric, group.reference, other, samples, seed)
        for metric, other in track(
            pairs, "comparing", console=console, disable=not console.is_terminal
        )
    ]
    for metric in metrics:
        of_metric = [comparison for comparison in comparisons if comparison.metric == metric]
        for name, ps in (
            ("bootstrap", [c.bootstrap.p for c in of_metric]),
            ("wilcoxon", [c.wilcoxon.p if c.wilcoxon else float("nan") for c in of_metric]),
            ("t", [c.t.p for c in of_metric]),
        ):
            for comparison, p in zip(of_metric, holm(ps), strict=True):
                comparison.corrected[name] = p
    return comparisons


def compare_pair(
    metric: str, a: ComparedSystem, b: ComparedSystem, samples: int = SAMPLES, seed: int = 0
) -> Comparison:
    """Compares two systems in one metric, without a correction; arguments as above."""
    runs = _pairs(a, b)
    t = t_test(*(system.values(f"test/{metric}") for system in (a, b)))
    matched = _matched_rows if metric in POOLED else _matched_users
    tables = [matched(a, run_a, b, run_b, metric) for run_a, run_b in runs]
    users = _user_numbers([table["user"] for table in tables])
    rows = [
        SeedRows(
            _weighted(metric, table, "first", run_a, a),
            _weighted(metric, table, "second", run_b, b),
            numbers,
        )
        for table, (run_a, run_b), numbers in zip(tables, runs, users, strict=True)
    ]  # fmt: skip
    signed_rank = None
    if metric not in POOLED:
        values = [[_tensor(table, column) for table in tables] for column in ("first", "second")]
        signed_rank = wilcoxon(*(user_means(column, users) for column in values))
    bootstrap = paired_bootstrap(rows, samples, seed)
    return Comparison(metric, a.label, b.label, len(runs), bootstrap, signed_rank, t, {})


def _pairs(a: ComparedSystem, b: ComparedSystem) -> list[tuple[Run, Run]]:
    """Pairs of a run of each system, with the same seed and rows."""
    runs_of_b = {run.split_key: run for run in b.runs}
    return [(run, runs_of_b[run.split_key]) for run in a.runs]


def _user_numbers(users: Sequence[pl.Series]) -> list[Tensor]:
    """Raw ids of each seed as numbers from 0; a user has the same number in all seeds."""
    ids = pl.concat(users).unique().sort()
    return [
        torch.from_numpy(ids.search_sorted(column).to_numpy().astype("int64")) for column in users
    ]


def _weighted(
    metric: str, table: pl.DataFrame, column: str, run: Run, system: ComparedSystem
) -> WeightedMetric:
    values = _tensor(table, column)
    if metric == "auc":
        return weighted_auc(values, _tensor(table, "label"))
    if metric == "f1_val_threshold":
        return weighted_f1(values, _tensor(table, "label"), _threshold(run, system))
    return weighted_mean(values)


def _threshold(run: Run, system: ComparedSystem) -> float:
    threshold = run.figure("val/threshold", system.model)
    if threshold is None:
        raise DataError(f"{run.files.metrics_file}: found no val/threshold, expected it for F1")
    return threshold


def _matched_rows(
    a: ComparedSystem, run_a: Run, b: ComparedSystem, run_b: Run, metric: str
) -> pl.DataFrame:
    """``user``, ``label``, and scores ``first`` and ``second`` of the same test rows."""
    left, right = run_a.rows(a.model), run_b.rows(b.model)
    keys = ["user", "item", "label"]
    if not left.select(keys).equals(right.select(keys)):
        raise DataError(f"{run_b.folder}: found other test rows than in {run_a.folder}")
    return left.select("user", "label", first="score", second=right["score"])


def _matched_users(
    a: ComparedSystem, run_a: Run, b: ComparedSystem, run_b: Run, metric: str
) -> pl.DataFrame:
    """``user``, and the metric as ``first`` and ``second`` of the same test users."""
    left, right = run_a.users(a.model), run_b.users(b.model)
    for run, table in ((run_a, left), (run_b, right)):
        if metric not in table.columns:
            names = ", ".join([*POOLED, *(c for c in table.columns if "@" in c)])
            raise DataError(f"{run.folder}: found no {metric!r}, expected one of {names}")
    if left["user"].to_list() != right["user"].to_list():
        raise DataError(f"{run_b.folder}: found other test users than in {run_a.folder}")
    return left.select("user", first=metric, second=right[metric])


def _tensor(table: pl.DataFrame, column: str) -> Tensor:
    return torch.from_numpy(table[column].to_numpy(writable=True))
