"""A report on finished runs, read from their folders: Markdown, CSV, and a page with all plots."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from kgrec import __version__
from kgrec.errors import DataError
from kgrec.files import is_empty, make_folder, put_in_place, scratch_folder, write_text
from kgrec.reports.foreign_text import for_spreadsheets, markdown_text
from kgrec.reports.palette import Palette
from kgrec.reports.results.drawn import Drawn
from kgrec.reports.results.paper_tables import representatives, sweep_table, sweeps, table_2
from kgrec.reports.results.plots import metric_bars, recall_curves, sweep_plot, training_curves
from kgrec.reports.results.score_plots import score_plots, slice_plot
from kgrec.reports.results.systems import System, counted, systems
from kgrec.reports.results.table import Table
from kgrec.reports.results.tables import by_place, costs, overview
from kgrec.reports.results.verdict import place_verdict
from kgrec.runs.finished import Run

MARKS = ("<!-- kgrec report -->", "<!-- end of kgrec report -->")
SWEPT = ("model.K", "model.H", "model.d")
PAINTERS = (metric_bars, recall_curves, slice_plot, training_curves, score_plots)


class Section(NamedTuple):
    """A part of the report.

    Attributes:
        title: title of the part.
        tables: tables that are always shown.
        drawings: plots.
        folded: long tables, which Markdown folds away.
        verdict: sentences on the systems of the part.
    """

    title: str
    tables: list[Table]
    drawings: list[Drawn]
    folded: Sequence[Table] = ()
    verdict: Sequence[str] = ()


def sections(group: Sequence[System]) -> list[Section]:
    """Each data set and protocol, then the sweeps of the paper's Tables 3 to 5."""
    places = by_place(group)
    palette = Palette(name for where in places for name in representatives(places[where]))
    parts = [_place_section(where, members, palette) for where, members in places.items()]
    for key in SWEPT:
        if swept := sweeps(group, key):
            of_place = dict.fromkeys(sweep.where for sweep in swept)
            drawn = [sweep_plot([s for s in swept if s.where == p], palette) for p in of_place]
            table = sweep_table(swept)
            parts.append(Section(table.title, [table], drawn))
    return parts


def _place_section(where: str, group: Sequence[System], palette: Palette) -> Section:
    tables, folded = [overview(where, group), costs(group)], []
    if len(representatives(group)) > 1:
        tables[0].title = "All settings"
        tables, folded = [table_2(where, group)], tables
    drawn = [plot for paint in PAINTERS if (plot := paint(where, group, palette)) is not None]
    return Section(where, tables, drawn, folded, place_verdict(group))


def write_report(runs: Sequence[Run], out: Path) -> list[Path]:
    """Writes report.html, report.md, runs.csv and plots/, and returns their paths.

    Args:
        runs: finished runs.
        out: a new folder, or the folder of an earlier report, which is replaced.

    Raises:
        DataError: the folder holds other files.
        DiskError: the folder cannot be written; an earlier report is intact.
    """
    out = out.absolute()
    make_folder(out)
    if not (is_empty(out) or (out / "report.md").is_file()):
        raise DataError(f"{out}: found other files, expected a new folder or one of a report")
    group = systems(runs)
    parts = sections(group)
    drawings = [drawn for section in parts for drawn in section.drawings]
    names, opening = _file_names(drawings), introduction(group, runs)
    with scratch_folder(out / out.name) as scratch:  # nothing is replaced before all is written
        plots = scratch / "plots"
        plots.mkdir()
        for drawn in drawings:
            for kind, content in zip(("svg", "png"), drawn.files(), strict=True):
                (plots / f"{names[drawn.name]}.{kind}").write_bytes(content)
        (scratch / "report.md").write_text(markdown(parts, names, opening), encoding="utf-8")
        (scratch / "report.html").write_text(page(parts, opening), encoding="utf-8")
        for_spreadsheets(runs_table(runs)).write_csv(scratch / "runs.csv")
        if (out / "plots").exists():
            shutil.rmtree(out / "plots")
        plots.rename(out / "plots")
        for name in ("report.html", "report.md", "runs.csv"):
            put_in_place(scratch / name, out / name)
    return [out / "report.html", out / "report.md", out / "runs.csv", out / "plots"]


def write_into(runs: Sequence[Run], path: Path) -> None:
    """Replaces the text between two marks in a Markdown file by the report's tables.

    Raises:
        DataError: the marks are missing.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, after = text.partition(MARKS[0])
    _, end, after = after.partition(MARKS[1])
    if not begin or not end:
        missing = MARKS[1] if begin else MARKS[0]
        raise DataError(f"{path}: found no {missing}, expected {' and '.join(MARKS)}")
    group = systems(runs)
    lines = [introduction(group, runs), ""]
    for section in sections(group):
        lines += section_lines(section)
    write_text(path, "\n".join([before + begin, "", *lines, end + after]))


def _file_names(drawings: Sequence[Drawn]) -> dict[str, str]:
    """A different name for each plot, valid on any file system."""
    names: dict[str, str] = {}
    for drawn in drawings:
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", drawn.name).strip("-")
        while name in names.values():
            name += "-2"
        names[drawn.name] = name
    return names


def introduction(group: Sequence[System], runs: Sequence[Run]) -> str:
    """Number of runs and systems, and the versions of the code that made them."""
    shown = [run for system in group for run in system.runs]
    commits = {str(run.environment.get("git_commit"))[:10] for run in shown} - {"None"}
    changed = any(run.environment.get("git_dirty") for run in shown)
    words = f"{counted(group, len(runs))}; kgrec {__version__}"
    if commits:
        words += f", commit {', '.join(sorted(commits))}{' with changes' if changed else ''}"
    return f"{words}."


def markdown(parts: Sequence[Section], names: Mapping[str, str], opening: str) -> str:
    """The report in Markdown, with links to plots.

    Args:
        parts: parts of the report.
        names: file name of each plot.
        opening: first line.
    """
    lines = ["# Report", "", opening, ""]
    for section in parts:
        lines += section_lines(section)
        for drawn in section.drawings:
            lines += [
                f"![{markdown_text(drawn.title)}](plots/{names[drawn.name]}.svg)",
                "",
                markdown_text(drawn.caption),
                "",
            ]
    return "\n".join(lines).rstrip() + "\n"


def section_lines(section: Section) -> list[str]:
    """Heading, verdict and tables of a section in Markdown."""
    lines = [f"## {markdown_text(section.title)}", ""]
    if section.verdict:
        lines += [*(f"- {markdown_text(sentence)}" for sentence in section.verdict), ""]
    for table in section.tables:
        lines += [table.markdown(heading=table.title != section.title), ""]
    if section.folded:
        lines += ["<details><summary>All settings; time, memory, commands</summary>", ""]
        for table in section.folded:
            lines += [table.markdown(heading=table.title != section.title), ""]
        lines += ["</details>", ""]
    return lines


def page(parts: Sequence[Section], opening: str) -> str:
    """The report as one HTML file that fetches nothing."""
    shown = [
        {
            "title": section.title,
            "verdict": section.verdict,
            "tables": [*section.tables, *section.folded],
            "plots": [(drawn, drawn.elements()) for drawn in section.drawings],
        }
        for section in parts
    ]
    environment = Environment(
        loader=PackageLoader("kgrec.reports"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("report.html").render(sections=shown, about=opening)


def runs_table(runs: Sequence[Run]) -> pl.DataFrame:
    """One row for each run: its folder, its settings and every metric."""
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
