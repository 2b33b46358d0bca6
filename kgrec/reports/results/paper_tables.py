"""Tables 2 to 5 of the KGCN paper with values of kgrec, and the systems that they compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from kgrec.evaluation.results import BASELINE
from kgrec.evaluation.significance import t_test
from kgrec.reports.results.published import DATA_SETS, SWEEPS, SYMBOLS, TABLE_2, TABLES
from kgrec.reports.results.systems import System, differing, label
from kgrec.reports.results.table import Cell, Table
from kgrec.reports.results.tables import control, mean, place, text

# The level at which Table 2 of the paper gives a star.
STAR_LEVEL = 0.1


@dataclass
class Sweep:
    """KGCN systems that differ only by one setting.

    Attributes:
        key: setting, such as ``model.K``.
        where: place of the systems, see :func:`kgrec.reports.results.tables.place`.
        label: name that tells the sweep from others.
        systems: value to system, ascending; "all" last.
    """

    key: str
    where: str
    label: str
    systems: dict[Any, System]

    @property
    def any(self) -> System:
        """The first system, for properties that all have in common."""
        return next(iter(self.systems.values()))


def sweeps(systems: Sequence[System], key: str) -> list[Sweep]:
    """Sets of systems that differ only by one setting, with at least two values of it."""
    grouped: dict[str, list[System]] = {}
    for system in systems:
        settings = system.first.settings
        if key not in settings or "kgcn" not in str(settings["model._target_"]):
            continue
        other_settings = sorted((k, str(v)) for k, v in settings.items() if k != key)
        grouped.setdefault(str(other_settings), []).append(system)
    found_sweeps = []
    for group in grouped.values():
        values = {system.first.settings[key]: system for system in group}
        if len(values) < 2:
            continue
        ordered = dict(sorted(values.items(), key=lambda pair: (pair[0] == "all", pair[0])))
        found_sweeps.append(Sweep(key, place(group[0].first), "", ordered))
    for sweep in found_sweeps:
        peers = [
            {k: v for k, v in other.any.first.settings.items() if k != key}
            for other in found_sweeps
            if other.where == sweep.where
        ]
        sweep.label = label("kgcn", differing(sweep.any.first.settings, peers))
    return sorted(found_sweeps, key=lambda sweep: (sweep.where, sweep.label))


def sweep_table(swept: Sequence[Sweep]) -> Table:
    """The paper's Table 3, 4 or 5: test AUC by K, H or d."""
    key = swept[0].key
    values = list(dict.fromkeys(v for sweep in swept for v in sweep.systems))
    values.sort(key=lambda v: (v == "all", v))
    title = f"AUC by {SYMBOLS[key]}"
    note = "Test AUC. Bold: best on validation."
    if any(len(s.runs) > 1 for sweep in swept for s in sweep.systems.values()):
        note = "Test AUC: mean ± standard deviation over seeds. Bold: best on validation."
    if any(sweep.any.first.data in DATA_SETS for sweep in swept):
        title = f"{TABLES[key]} of the paper: {title}"
        note += " In italics: values of the KGCN paper."
    table = Table(title, note, ["", *(f"{SYMBOLS[key]}={v}" for v in values)])
    for sweep in swept:
        best = max(sweep.systems, key=lambda v: mean(sweep.systems[v].summary("val/auc")))
        table.add(
            f"{sweep.where}: {sweep.label}",
            [
                Cell(
                    text(sweep.systems[v].summary("test/auc")) if v in sweep.systems else "",
                    "best" if v == best else "",
                )
                for v in values
            ],
        )
        within = list(sweep.systems.values())
        level = text(control(within, BASELINE, "test/auc"))
        table.add(BASELINE, [level] * len(values), "control")
        paper = SWEEPS[key].get(within[0].first.data)
        if paper:
            table.add(
                "KGCN paper", [f"{paper[v]:.3f}" if v in paper else "" for v in values], "published"
            )
    return table


def representatives(systems: Sequence[System]) -> dict[str, System]:
    """The systems that Table 2 compares, by name.

    That is one system of each model and settings file, and of KGCN one of each aggregator. Of
    several, those of an experiment for Table 2 or Figure 2 go first, then the best on validation.
    """
    grouped: dict[str, list[System]] = {}
    for system in systems:
        grouped.setdefault(model_name(system), []).append(system)
    chosen = {}
    for name, group in grouped.items():
        tables = ("table2", "figure2")
        preferred = [s for s in group if any(e.startswith(tables) for e in s.experiments)]
        chosen[name] = max(preferred or group, key=lambda s: mean(s.summary("val/auc")))
    return chosen


def model_name(system: System) -> str:
    """Model with aggregator or settings file: ``kgcn sum``, ``svd, tuned``."""
    name, settings = system.first.model, system.first.settings
    if name == "kgcn":
        name += f" {settings['model.aggregator']}"
    file = settings.get("settings", "published")
    return name if file == "published" else f"{name}, {file}"


def table_2(where: str, systems: Sequence[System]) -> Table:
    """Table 2 of the paper on one data set, its own or another: AUC and F1 of every model."""
    data = systems[0].first.data
    has_paper = data in DATA_SETS
    chosen = representatives(systems)
    order = list(TABLE_2)
    ranked = sorted(chosen, key=lambda n: (_index(order, n), n))
    stars = {metric: _stars(chosen, metric) for metric in ("test/auc", "test/f1")}
    several = [n for n, s in chosen.items() if sum(model_name(o) == n for o in systems) > 1]
    table = Table(
        f"{'Table 2 of the paper' if has_paper else 'AUC and F1'}: {where}",
        "",
        ["", "AUC", "F1 (0.5)", *(["AUC, paper", "F1, paper"] if has_paper else []),
         "F1 (val)", "Recall@20", "training, s", "memory, GB"],
    )  # fmt: skip
    for name in ranked:
        system = chosen[name]
        cells: list[str | Cell] = [
            text(system.summary(metric)) + ("*" if name in stars[metric] else "")
            for metric in ("test/auc", "test/f1")
        ]
        if has_paper:
            paper = TABLE_2.get(name.removeprefix("kgcn "), {}).get(data)
            cells += [Cell("" if paper is None else f"{paper[i]:.3f}", "published") for i in (0, 1)]
        cells += [text(system.summary(f"test/{m}")) for m in ("f1_val_threshold", "recall@20")]
        cells.append(text(system.summary("train/seconds"), 1))
        cells.append(text(system.summary("train/peak_memory_gb"), 2))
        table.add(name, cells)
    if BASELINE not in chosen:
        paper_columns = ["", ""] if has_paper else []
        shown = ["auc", "f1", *paper_columns, "f1_val_threshold", "recall@20", "", ""]
        cells = [m and text(control(systems, BASELINE, f"test/{m}")) for m in shown]
        table.add(BASELINE, cells, "control")
    several = [n for n, s in chosen.items() if sum(model_name(o) == n for o in systems) > 1]
    table.note = _note(table, stars=any(stars.values()), several=several)
    return table


def _note(table: Table, stars: bool, several: Sequence[str]) -> str:
    """Explains the signs and values that the table contains."""
    note = (
        "F1 (0.5) needs scores that are log-odds. F1 (val) takes the threshold that is best on "
        "validation."
    )
    if stars:
        note += (
            " *: the best KGCN is above the best other model, popularity included (unpaired t-test "
            f"over seeds, p < {STAR_LEVEL}, as in the paper)."
        )
    if table.has("published"):
        note += (
            " In italics: values of the KGCN paper, which are for protocol=paper and for its own "
            "settings. A model for which the paper names no settings has its own."
        )
    if several:
        note += (
            f" {', '.join(several)}: of several settings the table shows those of the experiments "
            "for Table 2 and Figure 2, else the best on validation."
        )
    return note


def _index(order: Sequence[str], name: str) -> int:
    key = name.removeprefix("kgcn ").partition(",")[0]
    return order.index(key) if key in order else len(order)


def _stars(chosen: dict[str, System], metric: str) -> set[str]:
    """The best KGCN, if it is significantly above the best other model."""
    others = {n: s.values(metric) for n, s in chosen.items() if not n.startswith("kgcn")}
    runs = next(iter(chosen.values())).runs
    values = (run.figure(metric, BASELINE) for run in runs)
    others.setdefault(BASELINE, [value for value in values if value is not None])
    ours = {n: s.values(metric) for n, s in chosen.items() if n.startswith("kgcn")}
    best, rival = _best(ours), _best(others)
    if best is None or rival is None:
        return set()
    better = fmean(ours[best]) > fmean(others[rival])
    return {best} if better and t_test(others[rival], ours[best]).p < STAR_LEVEL else set()


def _best(values: dict[str, list[float]]) -> str | None:
    """The name with the highest mean."""
    return max((n for n in values if values[n]), key=lambda n: fmean(values[n]), default=None)
