"""Names from strangers do nothing in pages, sheets, Markdown and terminals."""

import html.parser
import io
import json
import re

import polars as pl
import pytest
import rich.console
from conftest import raw_tables
from finished_runs import grid, set_status
from payloads import FORMULAS, HTML, MARKDOWN, TERMINAL

from kgrec.data.describe import describe
from kgrec.data.prepare import prepare
from kgrec.errors import printable
from kgrec.reports.dataset import page as dataset_page
from kgrec.reports.foreign_text import for_spreadsheets, markdown_text, rich_text
from kgrec.reports.live.page import render
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.results import report
from kgrec.reports.results.systems import systems
from kgrec.runs.finished import find_runs


class Reader(html.parser.HTMLParser):
    """The elements and attributes of a page, as a browser reads it."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        self.texts.append(data)

    @property
    def shape(self) -> list[tuple[str, tuple[str, ...]]]:
        """Elements with the names of their attributes."""
        return [(tag, tuple(attributes)) for tag, attributes in self.elements]


def same_elements(build) -> str:
    """Checks that a page of all payloads has the elements of a page of a harmless text."""
    payload = " ".join(HTML)
    hostile, plain = Reader(build(payload)), Reader(build("x"))
    assert [e for e in hostile.shape if e not in plain.shape] == []
    assert not [a for _, a in hostile.elements for k in a if k.startswith("on")]
    for _, attributes in hostile.elements:
        for name in ("href", "src", "action", "xlink:href"):
            value = attributes.get(name) or ""
            assert not value.lower().lstrip().startswith(("javascript:", "//", "http")), value
    assert "alert('x')" in "".join(hostile.texts)
    return payload


def part(text: str, number: int) -> str:
    """A short printable part of a text, as names in a run folder are."""
    shown = "".join(c for c in text if c.isprintable())
    return shown[190 * number : 190 * (number + 1)] or "x"


def test_the_report(make_run, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PAINTERS", report.PAINTERS[:1])

    def build(text: str) -> str:
        place = tmp_path / "runs"
        for number in (1, 2):
            folder = place / "x" / str(number)
            if not folder.exists():
                make_run(f"x/{number}", number, d=8 * number)
            for file, change in (
                ("dataset.json", {"name": part(text, 0), "protocol": part(text, 1)}),
                ("environment.json", {"overrides": [f"model.d={text}"], "git_commit": text[:10],
                                      "choices": {"model": part(text, 2), "split": part(text, 3)}}),
            ):  # fmt: skip
                content = json.loads((folder / file).read_text())
                (folder / file).write_text(json.dumps(content | change))
        runs = find_runs([place])
        group = systems(runs)
        return report.page(report.sections(group), report.introduction(group, runs))

    same_elements(build)


def test_the_page_of_a_sweep(make_sweep, tmp_path):
    def build(text: str) -> str:
        name = f"sweep{len(text)}"
        place = make_sweep(*grid(model__K=(2, 8), tag=(text,)), {"model.K": "4", "tag": "x"},
                           finished=2, name=name)  # fmt: skip
        folder = set_status(
            place, 2, state="failed", error=text, device=text[:200], monitor="val/auc"
        )
        (folder / "train.log").write_text(text)
        done = next(path for path in place.iterdir() if path.name.startswith("model.K=2"))
        best = {"item": text, "name": None, "hit": True}
        samples = [{"user": text, "liked": [text], "recommended": [best]}]
        (done / "evaluation" / "samples.json").write_text(json.dumps(samples))
        return render(Snapshot.take(place), None)

    same_elements(build)


def test_the_page_of_a_data_set():
    def build(text: str) -> str:
        interactions = [("u", "a", 1.0), ("u", "b", 1.0), ("v", "a", 1.0)]
        triples = [("A", text, "B"), ("A", text * 2, "x")]
        raw = raw_tables(interactions, [("a", "A"), ("b", "B")], triples)
        return dataset_page.render(describe(prepare(raw, text)))

    same_elements(build)


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_in_sheets(text):
    table = pl.DataFrame({text: [text], "n": [-1.5]})
    assert for_spreadsheets(table).rows() == [("'" + text, -1.5)]


@pytest.mark.parametrize("text", ["", "x=1", "-1.5", "+3", "1e-3", "-.5E+7", "a+b", None])
def test_texts_that_are_no_formula_stay(text):
    table = pl.DataFrame({"x": pl.Series([text], dtype=pl.String)})
    assert for_spreadsheets(table).equals(table)


@pytest.mark.parametrize("text", TERMINAL)
def test_a_terminal_shows_control_characters_and_markup_as_text(text):
    shown = printable(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", shown)
    out = io.StringIO()
    console = rich.console.Console(file=out, force_terminal=True, width=200, highlight=False)
    console.print(rich_text(text), emoji=False)
    assert out.getvalue().strip() == shown.strip()


@pytest.mark.parametrize("text", [*MARKDOWN, *HTML])
def test_markdown_shows_texts_as_they_are(text):
    shown = markdown_text(text)
    assert "<" not in shown
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)[`|\[\]]", shown)
