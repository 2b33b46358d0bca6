"""The verdict of ``kgrec choose``: which model to use, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from kgrec.evaluation.results import BASELINE
from kgrec.reports.palette import metric_name
from kgrec.reports.results.compare import compare_pair
from kgrec.reports.results.compared_systems import ComparedSystem
from kgrec.reports.results.verdict import LEVEL, ONE_SEED, gap_words, p_text
from kgrec.runs.finished import Run


def ranked_models(runs: Mapping[str, Sequence[Run]], monitor: str) -> list[ComparedSystem]:
    """Models, the highest mean of the validation metric first.

    Args:
        runs: runs of each model's best setting, of the same seeds.
        monitor: validation metric.
    """
    means = {model: fmean(run.metrics[monitor] for run in own) for model, own in runs.items()}
    order = sorted(means, key=lambda model: -means[model])
    return [ComparedSystem(model, list(runs[model])) for model in order]


def choice_verdict(ranked: Sequence[ComparedSystem], monitor: str) -> list[str]:
    """Plain sentences on the best model, the second best, and popularity.

    The best is chosen on validation; the test says how good it is. Differences are tested by a
    paired bootstrap over users.

    Args:
        ranked: models, the best on validation first.
        monitor: validation metric that decides.
    """
    metric = monitor.removeprefix("val/")
    best, name = ranked[0], metric_name(metric)
    seeds = len(best.runs)
    mean = fmean(best.values(f"test/{metric}"))
    over = f"mean of {seeds} seeds" if seeds > 1 else "one seed"
    if len(ranked) == 1:
        return [
            f"No verdict: only {best.label} has finished, with {name} {mean:.4f} on the test "
            f"({over})."
        ]
    lines = [
        f"Use {best.label}: it is the best of {len(ranked)} models on validation, and has {name} "
        f"{mean:.4f} on the test ({over})."
    ]
    popularity = next((s for s in ranked if s.label == BASELINE), None)
    rivals = [s for s in ranked[1:2] if s is not popularity]
    lines += [_difference(best, rival, metric) for rival in rivals]
    if popularity is not None and popularity is not best:
        lines.append(_against_popularity(best, popularity, metric))
    elif popularity is best:
        lines.append(
            f"Popularity recommends the same items to everyone: by {name} no model has learned "
            "more than that. Look at the other metrics, or collect more interactions."
        )
    return lines + ([ONE_SEED] if seeds == 1 else [])


def _difference(best: ComparedSystem, second: ComparedSystem, metric: str) -> str:
    words, beyond, above = _tested(best, second, metric)
    if beyond and above:
        return f"On the test {words}, beyond noise."
    if beyond:
        return f"But on the test {words}, beyond noise: validation and test disagree, so try both."
    return (
        f"On the test {words}, within noise: {second.label}, the second on validation, may be as "
        "good."
    )


def _against_popularity(best: ComparedSystem, popularity: ComparedSystem, metric: str) -> str:
    words, beyond, above = _tested(best, popularity, metric)
    if beyond and above:
        return f"Against popularity, the same items for everyone: {words}, beyond noise."
    return (
        f"Against popularity, the same items for everyone: {words}, "
        f"{'beyond' if beyond else 'within'} noise. Do not expect more than popularity from it."
    )


def _tested(best: ComparedSystem, other: ComparedSystem, metric: str) -> tuple[str, bool, bool]:
    """The difference in words, whether it is beyond noise, and whether the best is above."""
    c = compare_pair(metric, other, best)
    b = c.bootstrap
    words = gap_words(c.second, b.second, c.first, b.first)
    words += f" (95 % interval {b.low:+.4f} to {b.high:+.4f}, {p_text(b.p, 'p')})"
    return words, b.p < LEVEL, b.value > 0
