"""Sentences on comparisons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from kgrec.errors import DataError
from kgrec.evaluation.results import BASELINE
from kgrec.evaluation.significance import t_test
from kgrec.reports.palette import metric_name
from kgrec.reports.results.compare import Comparison, compare_pair
from kgrec.reports.results.compared_systems import ComparedSystem, ComparedSystems, check_comparable
from kgrec.reports.results.systems import System, collapse_words
from kgrec.reports.results.tables import by_validation, control, place
from kgrec.runs.finished import Run

LEVEL = 0.05
# A report tests few pairs and must be quick; ``kgrec compare`` tests all.
SAMPLES, MOST_POSITIVES = 1000, 1_000_000
METRICS = ("auc", "recall@20")
ONE_SEED = "One seed: the effect of the seed is unknown."


def comparison_verdict(group: ComparedSystems, comparisons: Sequence[Comparison]) -> list[str]:
    """One sentence for each metric: the systems above the reference, and whether beyond chance.

    Systems with runs that have collapsed are named too.
    """
    metrics = dict.fromkeys(comparison.metric for comparison in comparisons)
    lines = [_of_metric([c for c in comparisons if c.metric == metric]) for metric in metrics]
    own = [system for system in (group.reference, *group.others) if system.model is None]
    lines += _collapses([(system.label, system.runs) for system in own])
    return lines + ([ONE_SEED] if len(group.reference.runs) == 1 else [])


def _collapses(systems: Sequence[tuple[str, Sequence[Run]]]) -> list[str]:
    """One sentence for each system with runs that have collapsed.

    Args:
        systems: label and runs of each system.
    """
    marks = {label: collapse_words(runs) for label, runs in systems}
    return [f"Collapsed: {label} ({words})." for label, words in marks.items() if words]


def _of_metric(comparisons: Sequence[Comparison]) -> str:
    best = max(comparisons, key=lambda c: c.bootstrap.second)
    rank = f"the best of {len(comparisons)} and " if len(comparisons) > 1 else ""
    chance = _chance(best, best.corrected["bootstrap"])
    sentence = f"{metric_name(best.metric)}: {_gap(best, rank)}, {chance}."
    if len(comparisons) == 1:
        return sentence
    groups: dict[str, list[str]] = {"Above": [], "Below": [], "Within chance": []}
    for c in comparisons:
        side = "Above" if c.bootstrap.value > 0 else "Below"
        groups[side if c.corrected["bootstrap"] < LEVEL else "Within chance"].append(c.second)
    parts = [f"{side}: {', '.join(names)}." for side, names in groups.items() if names]
    return " ".join([sentence, *parts])


def _gap(c: Comparison, rank: str = "") -> str:
    """``kgcn (0.8378) is 0.0411 above popularity (0.7967)``."""
    return gap_words(c.second, c.bootstrap.second, c.first, c.bootstrap.first, rank)


def gap_words(label: str, value: float, reference: str, level: float, rank: str = "") -> str:
    """The difference between a value and a reference, in words."""
    apart = f"{abs(value - level):.4f}"
    side = f"{apart} {'above' if value > level else 'below'}" if float(apart) else "equal to"
    return f"{label} ({value:.4f}) is {rank}{side} {reference} ({level:.4f})"


def _chance(c: Comparison, p: float) -> str:
    b = c.bootstrap
    words = "beyond chance" if p < LEVEL else "within chance"
    words += f" over users (95 % interval {b.low:+.4f} to {b.high:+.4f}, {p_text(p, 'p')})"
    over_seeds = p_text(c.corrected.get("t", c.t.p), "p")
    return f"{words}; t-test over seeds: {over_seeds}" if over_seeds else words


def p_text(p: float, symbol: str = "") -> str:
    """A p-value: ``0.031``, ``< 0.001``, with a symbol ``p = 0.031``; "" for nan."""
    if math.isnan(p):
        return ""
    small = p < 0.001
    value = "0.001" if small else f"{p:.3f}"
    if symbol:
        return f"{symbol} {'<' if small else '='} {value}"
    return f"< {value}" if small else value


def place_verdict(systems: Sequence[System], monitor: str = "val/auc") -> list[str]:
    """Sentences on the systems of one place: the best, its lead, and popularity.

    The best is the one with the highest validation metric. It is compared with the second best
    and with popularity by a paired bootstrap over users where both have the same rows, else by a
    t-test over seeds.

    Args:
        systems: comparable systems, labelled.
        monitor: validation metric that decides which system is the best.
    """
    ranked = by_validation(systems, monitor)
    best = ranked[0]
    where, seeds = place(best.first), len(best.runs)
    auc = best.summary("test/auc")
    if auc is None:
        return []
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    of = f" of {len(systems)} systems" if len(systems) > 1 else ""
    lead = f"has the best {metric_name(monitor)}" if of else "was trained"
    lines = [f"{where}: {best.label} {lead}{of}; its test AUC is {auc.text()} ({over})."]
    mine = ComparedSystem(best.label, best.runs)
    rivals = [ComparedSystem(s.label, s.runs) for s in ranked[1:2]]
    if best.first.model != BASELINE and control(systems, BASELINE, "test/auc") is not None:
        rivals.append(ComparedSystem(BASELINE, best.runs, BASELINE))
    lines += [
        _tested(metric, rival, mine)
        for rival in rivals
        for metric in METRICS
        if mine.values(f"test/{metric}") and rival.values(f"test/{metric}")
    ]
    lines += _collapses([(system.label, system.runs) for system in ranked])
    return lines + ([ONE_SEED] if seeds == 1 else [])


def _tested(metric: str, reference: ComparedSystem, other: ComparedSystem) -> str:
    """One sentence on two systems, from the seeds that both have."""
    try:
        keys = [{run.split_key for run in c.runs} for c in (reference, other)]
        shared, fewer = keys[0] & keys[1], keys[0] != keys[1]
        reference, other = (
            replace(c, runs=[r for r in c.runs if r.split_key in shared]) if shared else c
            for c in (reference, other)
        )
        check_comparable(reference, other)
        if sum(run.dataset.get("counts", {}).get("positives", 0) for run in other.runs) > (
            MOST_POSITIVES
        ):
            raise DataError("too many rows for a report")
        c = compare_pair(metric, reference, other, SAMPLES)
    except DataError:
        return _over_seeds(metric, reference, other)
    seeds = ", ".join(str(run.seed) for run in other.runs)
    common = f"On the seeds that both have ({seeds}), " if fewer else ""
    return f"{common}{metric_name(metric)}: {_gap(c)}, {_chance(c, c.bootstrap.p)}."


def _over_seeds(metric: str, reference: ComparedSystem, other: ComparedSystem) -> str:
    """One sentence from the values of each seed, where users cannot be matched."""
    values = [c.values(f"test/{metric}") for c in (reference, other)]
    level, value = (fmean(v) for v in values)
    t = t_test(*values)
    words = f"{metric_name(metric)}: {gap_words(other.label, value, reference.label, level)}"
    if math.isnan(t.p):
        return f"{words}; not tested, as the runs have other seeds or rows."
    chance = "beyond chance" if t.p < LEVEL else "within chance"
    return f"{words}, {chance} over seeds (t-test, {p_text(t.p, 'p')})."
