"""Tables of a report: all systems, and the KGCN paper's Tables 2 to 5 with its figures beside."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from kgrec.evaluation.significance import t_test
from kgrec.reports.results.published import DATA_SETS, SWEEPS, SYMBOLS, TABLE_2, TABLES
from kgrec.reports.results.systems import Summary, System, differing, label, name_apart
from kgrec.runs.finished import Run

# At which the paper's Table 2 gives a star.
STAR_LEVEL = 0.1


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what it says.
        kind: "" for ours, "published" for the paper's (in italics), "control", "best", "command"
            or "name".
    """

    text: str
    kind: str = ""


@dataclass
class Table:
    """A table of a report.

    Attributes:
        title: above it.
        note: below it, how to read it.
        header: column names.
        rows: cells, as many as there are columns.
    """

    title: str
    note: str
    header: list[str]
    rows: list[list[Cell]] = field(default_factory=list)

    def add(self, name: str, cells: Iterable[str | Cell], kind: str = "") -> None:
        """Appends a row whose first cell is a name; cells without a kind get this one."""
        made = [cell if isinstance(cell, Cell) else Cell(cell, kind) for cell in cells]
        self.rows.append([Cell(name, kind or "name"), *made])

    def markdown(self, heading: bool = True) -> str:
        """As a Markdown table; the paper's figures in italics, the best in bold.

        Args:
            heading: whether the title stands above it.
        """
        marks = {"published": "*{}*", "best": "**{}**", "command": "`{}`"}
        lines = [
            "| " + " | ".join(self.header) + " |",
            "|---|" + "--:|" * (len(self.header) - 1),
        ]
        for row in self.rows:
            texts = [
                marks.get(c.kind, "{}").format(c.text.replace("|", "\\|")) if c.text else ""
                for c in row
            ]
            lines.append("| " + " | ".join(texts) + " |")
        title = [f"### {self.title}", ""] if heading else []
        return "\n".join([*title, *lines, "", self.note]).rstrip()


def place(run: Run) -> str:
    """Where figures belong beside each other: data set, protocol, negatives, split."""
    told = f"{run.data}, protocol={run.protocol}"
    if run.negatives != "resampled":
        told += f", negatives={run.negatives}"
    split = str(run.choices.get("split", "random"))
    return told if split == "random" else f"{told}, split={split}"


def by_place(systems: Sequence[System]) -> dict[str, list[System]]:
    """Systems whose figures belong beside each other, named apart within their place."""
    found: dict[str, list[System]] = {}
    for system in systems:
        found.setdefault(place(system.first), []).append(system)
    for group in found.values():
        name_apart(group)
    return dict(sorted(found.items()))


def text(summary: Summary | None, digits: int = 4) -> str:
    """A summary as a cell."""
    return "" if summary is None else summary.text(digits)


def control(systems: Sequence[System], name: str, metric: str) -> Summary | None:
    """A control's figure over all splits that these systems were tested on, each once."""
    found: dict[str, float] = {}
    for system in systems:
        for run in system.runs:
            value = run.figure(metric, name)
            if value is not None:
                found[str(run.dataset["fingerprint"])] = value
    return Summary.of(list(found.values())) if found else None


def overview(where: str, systems: Sequence[System]) -> Table:
    """All systems of a place, the best on validation first."""
    columns: dict[str, tuple[str, int]] = {
        "AUC": ("test/auc", 4),
        "F1 at 0.5": ("test/f1", 4),
        "F1 at val threshold": ("test/f1_val_threshold", 4),
        "AUC, matched negatives": ("test/matched/auc", 4),
        "Recall@20": ("test/recall@20", 4),
        "NDCG@20": ("test/ndcg@20", 4),
    }
    shown = {
        name: how for name, how in columns.items() if any(s.values(how[0]) for s in systems)
    }  # fmt: skip
    table = Table(
        where,
        "Means and standard deviations over seeds; the best AUC on validation comes first.",
        ["", "seeds", *shown],
    )
    for system in sorted(systems, key=lambda s: -_mean(s.summary("val/auc"))):
        cells = [text(system.summary(metric), digits) for metric, digits in shown.values()]
        table.add(system.label, [system.seeds, *cells])
    for name in controls(systems):
        cells = [text(control(systems, name, metric), d) for metric, d in shown.values()]
        table.add(name, ["", *cells], "control")
    return table


def costs(systems: Sequence[System]) -> Table:
    """Time, memory, and the command that repeats each system."""
    columns: dict[str, tuple[str, int]] = {
        "epochs": ("train/epochs", 0),
        "s an epoch": ("train/seconds_per_epoch", 2),
        "training, s": ("train/seconds", 1),
        "peak memory, GB": ("train/peak_memory_gb", 2),
    }
    note = "The command is that of the first seed; the others differ by it."
    table = Table("Time, memory, command", note, ["", *columns, "command"])
    for system in sorted(systems, key=lambda s: -_mean(s.summary("val/auc"))):
        cells = [text(system.summary(metric), digits) for metric, digits in columns.values()]
        table.add(system.label, [*cells, Cell(system.first.command, "command")])
    return table


def _mean(summary: Summary | None) -> float:
    return -math.inf if summary is None or math.isnan(summary.mean) else summary.mean


def controls(systems: Sequence[System]) -> list[str]:
    """Controls that are no system of their own here."""
    trained = {system.first.model for system in systems}
    names = [name for system in systems for name in system.first.controls()]
    return [name for name in dict.fromkeys(names) if name not in trained]


@dataclass
class Sweep:
    """KGCN with everything alike but one setting.

    Attributes:
        key: the setting, such as ``model.K``.
        where: see :func:`place`.
        label: what tells it from other sweeps.
        systems: value to system, ascending; "all" last.
    """

    key: str
    where: str
    label: str
    systems: dict[Any, System]

    @property
    def any(self) -> System:
        """One that stands for what all have in common."""
        return next(iter(self.systems.values()))


def sweeps(systems: Sequence[System], key: str) -> list[Sweep]:
    """Sets of systems that differ in one setting alone, with at least two values of it."""
    grouped: dict[str, list[System]] = {}
    for system in systems:
        settings = system.first.settings
        if key not in settings or "kgcn" not in str(settings["model._target_"]):
            continue
        rest = sorted((k, str(v)) for k, v in settings.items() if k != key)
        grouped.setdefault(str(rest), []).append(system)
    found = []
    for group in grouped.values():
        values = {system.first.settings[key]: system for system in group}
        if len(values) < 2:
            continue
        ordered = dict(sorted(values.items(), key=lambda pair: (pair[0] == "all", pair[0])))
        found.append(Sweep(key, place(group[0].first), "", ordered))
    for sweep in found:
        like = [
            {k: v for k, v in one.any.first.settings.items() if k != key}
            for one in found
            if one.where == sweep.where
        ]
        sweep.label = label("kgcn", differing(sweep.any.first.settings, like))
    return sorted(found, key=lambda sweep: (sweep.where, sweep.label))


def sweep_table(found: Sequence[Sweep]) -> Table:
    """The paper's Table 3, 4 or 5: test AUC by K, H or d."""
    key = found[0].key
    values = list(dict.fromkeys(v for sweep in found for v in sweep.systems))
    values.sort(key=lambda v: (v == "all", v))
    title = f"AUC by {SYMBOLS[key]}"
    note = (
        "Ours are means and standard deviations over seeds on the test; bold is best on validation."
    )
    if any(sweep.any.first.data in DATA_SETS for sweep in found):
        title = f"{TABLES[key]} of the paper: {title}"
        note += " In italics: the KGCN paper's figures."
    table = Table(title, note, ["", *(f"{SYMBOLS[key]}={v}" for v in values)])
    for sweep in found:
        best = max(sweep.systems, key=lambda v: _mean(sweep.systems[v].summary("val/auc")))
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
        table.add(
            "popularity", [text(control(within, "popularity", "test/auc"))] * len(values), "control"
        )
        paper = SWEEPS[key].get(within[0].first.data)
        if paper:
            table.add(
                "KGCN paper", [f"{paper[v]:.3f}" if v in paper else "" for v in values], "published"
            )
    return table


def representatives(systems: Sequence[System]) -> dict[str, System]:
    """One system a model and settings file, and of KGCN one an aggregator: what Table 2 compares.

    Where there are several, those of an experiment for Table 2 or Figure 2 go first; among the rest
    the best on validation stands for the model.
    """
    grouped: dict[str, list[System]] = {}
    for system in systems:
        grouped.setdefault(model_name(system), []).append(system)
    found = {}
    for name, group in grouped.items():
        made_for = ("table2", "figure2")
        asked = [s for s in group if any(e.startswith(made_for) for e in s.experiments)]
        found[name] = max(asked or group, key=lambda s: _mean(s.summary("val/auc")))
    return found


def model_name(system: System) -> str:
    """The model's name, and what else sets it apart: ``kgcn sum``, ``svd, tuned``."""
    name, settings = system.first.model, system.first.settings
    if name == "kgcn":
        name += f" {settings['model.aggregator']}"
    file = settings.get("settings", "published")
    return name if file == "published" else f"{name}, {file}"


def table_2(where: str, systems: Sequence[System]) -> Table:
    """The paper's Table 2 on one data set, its own or another: AUC and F1 of every model."""
    data = systems[0].first.data
    has_paper = data in DATA_SETS
    chosen = representatives(systems)
    order = list(TABLE_2)
    ranked = sorted(chosen, key=lambda n: (_index(order, n), n))
    stars = {metric: _stars(chosen, metric) for metric in ("test/auc", "test/f1")}
    several = [n for n, s in chosen.items() if sum(model_name(o) == n for o in systems) > 1]
    note = (
        f"A star: the best KGCN is above the best other model, popularity included, by the "
        f"unpaired t-test over seeds at p = {STAR_LEVEL}. F1 at 0.5, of scores that are log-odds."
    )
    if has_paper:
        note += (
            " In italics: the KGCN paper's figures, under protocol=paper; of tuned settings there "
            "are none. A model that the paper names no settings for has its own."
        )
    if several:
        note += (
            f" Of {', '.join(several)} there are several settings: shown are those of "
            "the experiments for Table 2 and Figure 2, or else the best on validation."
        )
    table = Table(
        f"{'Table 2 of the paper' if has_paper else 'AUC and F1'}: {where}",
        note,
        ["", "AUC", "F1", *(["AUC, paper", "F1, paper"] if has_paper else []),
         "F1 at val threshold", "Recall@20", "training, s", "memory, GB"],
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
    if "popularity" not in chosen:
        beside = ["", ""] if has_paper else []
        shown = ["auc", "f1", *beside, "f1_val_threshold", "recall@20", "", ""]
        figures = [m and text(control(systems, "popularity", f"test/{m}")) for m in shown]
        table.add("popularity", figures, "control")
    return table


def _index(order: Sequence[str], name: str) -> int:
    key = name.removeprefix("kgcn ").partition(",")[0]
    return order.index(key) if key in order else len(order)


def _stars(chosen: dict[str, System], metric: str) -> set[str]:
    """The best KGCN, if it is significantly above the best of the others."""
    others = {n: s.values(metric) for n, s in chosen.items() if not n.startswith("kgcn")}
    runs = next(iter(chosen.values())).runs
    counted = (run.figure(metric, "popularity") for run in runs)
    others.setdefault("popularity", [value for value in counted if value is not None])
    ours = {n: s.values(metric) for n, s in chosen.items() if n.startswith("kgcn")}
    best, rival = _best(ours), _best(others)
    if best is None or rival is None:
        return set()
    found = t_test(others[rival], ours[best])
    better = fmean(ours[best]) > fmean(others[rival])
    return {best} if better and found.p < STAR_LEVEL else set()


def _best(found: dict[str, list[float]]) -> str | None:
    """The name with the highest mean."""
    return max((n for n in found if found[n]), key=lambda n: fmean(found[n]), default=None)
