"""A report on finished runs, from their folders alone: Markdown, CSV, and a page with all plots."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from kgrec import __version__
from kgrec.errors import DataError
from kgrec.files import write_text
from kgrec.reports.drawing import Plot, as_element, draw
from kgrec.reports.results.plots import (
    Drawn,
    recall_curves,
    score_plots,
    slice_plot,
    sweep_plot,
    training_curves,
)
from kgrec.reports.results.systems import System, systems
from kgrec.reports.results.tables import (
    Table,
    by_place,
    costs,
    overview,
    representatives,
    sweep_table,
    sweeps,
    table_2,
)
from kgrec.runs.finished import Run

MARKS = ("<!-- kgrec report -->", "<!-- end of kgrec report -->")
SWEPT = ("model.K", "model.H", "model.d")


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: of the part.
        tables: of it.
        drawings: of it.
        folded: long tables, which Markdown folds away.
    """

    title: str
    tables: list[Table]
    drawings: list[Drawn]
    folded: Sequence[Table] = ()


def sections(found: Sequence[System]) -> list[Section]:
    """The paper's sweeps first, then every data set and protocol on its own."""
    made = []
    for key in SWEPT:
        if swept := sweeps(found, key):
            places = dict.fromkeys(sweep.where for sweep in swept)
            drawn = [sweep_plot([s for s in swept if s.where == place]) for place in places]
            table = sweep_table(swept)
            made.append(Section(table.title, [table], drawn))
    for where, group in by_place(found).items():
        tables, folded = [overview(where, group), costs(group)], []
        if len(representatives(group)) > 1:
            tables, folded = [table_2(where, group)], tables
        painters = (recall_curves, slice_plot, training_curves, score_plots)
        drawn = [plot for paint in painters if (plot := paint(where, group)) is not None]
        made.append(Section(where, tables, drawn, folded))
    return made


def write_report(runs: Sequence[Run], out: Path) -> list[Path]:
    """Writes report.html, report.md, runs.csv and plots/, and returns their paths.

    Args:
        runs: finished runs.
        out: a new folder, or that of an earlier report, which is replaced.

    Raises:
        DataError: the folder holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "report.md").is_file():
        raise DataError(f"{out}: found other files there, expected a new folder or a report's")
    found = systems(runs)
    made = sections(found)
    plots = out / "plots"
    if plots.exists():
        shutil.rmtree(plots)
    plots.mkdir(parents=True)
    drawings = [drawn for section in made for drawn in section.drawings]
    names, elements = _file_names(drawings), {}
    for drawn in drawings:
        svg, png = draw(drawn.paint, drawn.size, ("svg", "png"))
        (plots / f"{names[drawn.name]}.svg").write_bytes(svg)
        (plots / f"{names[drawn.name]}.png").write_bytes(png)
        elements[drawn.name] = as_element(svg.decode(), drawn.title)
    write_text(out / "report.md", markdown(made, names, runs))
    write_text(out / "report.html", page(made, elements, runs))
    runs_table(runs).write_csv(out / ".runs.csv")
    (out / ".runs.csv").rename(out / "runs.csv")
    return [out / "report.html", out / "report.md", out / "runs.csv", plots]


def write_into(runs: Sequence[Run], path: Path) -> None:
    """Replaces what stands between two marks in a Markdown file by the report's tables.

    Raises:
        DataError: the marks are not there.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        missing = MARKS[1] if begin else MARKS[0]
        raise DataError(f"{path}: found no {missing}, expected {' and '.join(MARKS)}")
    lines = [about(runs), ""]
    for section in sections(systems(runs)):
        lines += tables_of(section)
    write_text(path, "\n".join([before + begin, "", *lines, end + after]))


def _file_names(drawings: Sequence[Drawn]) -> dict[str, str]:
    """Names that any file system takes, each its own."""
    found: dict[str, str] = {}
    for drawn in drawings:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", drawn.name).strip("-")
        while name in found.values():
            name += "-2"
        found[drawn.name] = name
    return found


def about(runs: Sequence[Run]) -> str:
    """What the report is made from."""
    commits = {str(run.environment.get("git_commit"))[:10] for run in runs}
    dirty = any(run.environment.get("git_dirty") for run in runs)
    told = f"{len(runs)} finished runs; kgrec {__version__}"
    if commits != {"None"}:
        told += (
            f", commit {', '.join(sorted(commits - {'None'}))}{' with changes' if dirty else ''}"
        )
    return told + "."


def markdown(made: Sequence[Section], names: dict[str, str], runs: Sequence[Run]) -> str:
    """The report as Markdown; plots are linked."""
    lines = ["# Report", "", about(runs), ""]
    for section in made:
        lines += tables_of(section)
        for drawn in section.drawings:
            lines += [f"![{drawn.title}](plots/{names[drawn.name]}.svg)", "", drawn.caption, ""]
    return "\n".join(lines).rstrip() + "\n"


def tables_of(section: Section) -> list[str]:
    """A section's heading and tables as Markdown."""
    lines = [f"## {section.title}", ""]
    for table in section.tables:
        lines += [table.markdown(heading=table.title != section.title), ""]
    if section.folded:
        lines += ["<details><summary>All settings; time, memory, commands</summary>", ""]
        for table in section.folded:
            lines += [table.markdown(heading=table.title != section.title), ""]
        lines += ["</details>", ""]
    return lines


def page(made: Sequence[Section], elements: Mapping[str, Markup], runs: Sequence[Run]) -> str:
    """The report as one HTML file that fetches nothing."""
    shown = [
        {
            "title": section.title,
            "tables": [*section.tables, *section.folded],
            "plots": [
                (Plot(d.title, d.caption, elements[d.name]), d.size[0] > 6)
                for d in section.drawings
            ],
        }
        for section in made
    ]
    environment = Environment(
        loader=PackageLoader("kgrec.reports"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html").render(sections=shown, about=about(runs))


def runs_table(runs: Sequence[Run]) -> pl.DataFrame:
    """A row a run: where it lies, its settings and every figure."""
    rows: list[dict[str, Any]] = [
        {
            "folder": str(run.folder),
            "dataset": run.data,
            "protocol": run.protocol,
            "model": run.model,
            "seed": run.seed,
            "command": run.command,
            **{
                k: str(v) for k, v in run.settings.items() if k.startswith(("model.", "optimizer."))
            },
            **run.metrics,
        }
        for run in runs
    ]
    return pl.DataFrame(rows, infer_schema_length=None)
