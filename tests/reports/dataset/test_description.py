"""The page and the tables of a described data set."""

import re
from xml.etree import ElementTree

import pytest
import torch
from conftest import prepared, raw_tables, small
from rich.cells import cell_len

from kgrec.data.dataset import PreparedData
from kgrec.data.describe import describe
from kgrec.data.prepare import prepare
from kgrec.data.protocols import clean, paper
from kgrec.data.splits import RandomSplit
from kgrec.reports import console
from kgrec.reports.dataset import page as dataset_page
from kgrec.reports.dataset import tables as dataset_tables
from kgrec.reports.drawing import svg_element

NASTY = "<script>alert('x')</script> $a_b$ & \"q\" [bold]:cat: 日本 "


def nasty(times: list[float] | None = None) -> PreparedData:
    import polars as pl

    raw = raw_tables(
        [("u", "a", 1.0), ("u", "b", 1.0), ("v", "a", 1.0)], [("a", "A"), ("b", "B")],
        [("A", NASTY, "B"), ("A", NASTY * 4 + "end", "x"),
         *(("A", f"r{i}", "x") for i in range(30))],
    )  # fmt: skip
    if times is not None:
        raw = type(raw)(
            raw.interactions.with_columns(timestamp=pl.Series(times)), raw.links, raw.triples
        )
    return prepare(raw, NASTY)


@pytest.mark.parametrize(
    "times",
    [None, [1e9, 1.1e9, 1.2e9], [1.0, 1.0, 1.0], [0.0, 1.0, 2.0], [-1e10, 0.0, 1e9],
     [1e12, 1.1e12, 1.2e12], [1e15, 1e15 + 1, 2e15]],
    ids=["none", "years", "all the same", "seconds", "before 1970", "milliseconds", "no dates"],
)  # fmt: skip
def test_the_page_loads_nothing_with_any_names_and_times(times):
    page = dataset_page.render(describe(nasty(times)))
    assert "<script" not in page
    assert "[bold]:cat:" in page
    # Nothing is fetched: addresses are the names of XML's vocabularies alone.
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) == {
        "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink",
    }  # fmt: skip
    assert not re.search(r"<(link|img|iframe|object)\b|@import|src=|url\((?!#)", page)
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    dated = times is not None and times[0] != times[-1]
    assert len(drawings) == 5 + dated  # relations for wide and for narrow screens
    assert ("Positives over time" in page) == dated
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert len(root.get("aria-label")) > 20
        words = " ".join(root.itertext())
        assert "mathdefault" not in words
        assert "#808080" not in drawing
    assert page.count("<figcaption>") == len(drawings) - 1


def test_long_names_show_their_end_and_dollar_signs():
    page = dataset_page.render(describe(nasty()))
    plot = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)[-1]
    words = [text for text in ElementTree.fromstring(plot).itertext() if text.strip()]
    long = [text for text in words if text.startswith("…")]
    assert any(text.endswith("end") for text in long)
    assert max(map(len, long)) <= 44
    assert any("$a_b$" in text for text in words)


def test_a_page_is_reproducible():
    found = describe(small())
    assert dataset_page.render(found) == dataset_page.render(found)


@pytest.mark.parametrize("counts", [[3, 3, 3], [0, 0, 0, 5], [40, 55, 60], [1, 10, 1000]])
def test_axes_have_numbers_for_any_range_of_counts(counts):
    counts = torch.tensor(counts)
    lines = [("users", counts, "#3b82c4")]
    svg = svg_element(
        lambda figure: dataset_page._survival(figure.add_subplot(), lines, "positives"), "told"
    )
    words = [text.strip() for text in ElementTree.fromstring(svg).itertext()]
    across = [text for text in words if re.fullmatch(r"[\d,.]+", text)]
    up = [text for text in words if text.endswith(" %")]
    assert len(across) >= 2
    assert len(up) >= 2
    assert len(set(across)) == len(across)


def test_the_page_lists_all_relations_and_folds_the_rare_ones():
    data = nasty()
    page = dataset_page.render(describe(data))
    assert "<summary>12 more</summary>" in page
    for i in range(30):
        assert f">r{i}<" in page


def test_tables_are_not_clipped_and_show_names_unchanged(capsys):
    dataset_tables.show(describe(nasty()))
    out = capsys.readouterr().out
    assert NASTY.strip() in out
    assert (NASTY * 4 + "end") in out
    assert "… and 12 more (all in --json)" in out
    assert "interactions of items without an entity, dropped" in out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_the_terminal(width, capsys, monkeypatch):
    data = nasty([1.0, 2.0, 3.0])
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(dataset_tables.sys.stdout, "isatty", lambda: True, raising=False)
    dataset_tables.show(describe(data))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(cell_len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "…" not in text.replace("… and", "")
    mean = next(line for line in lines if line.split()[:1] == ["mean"])
    assert mean.split() == ["mean", "1.50", "1.50", "16.50", "21.33"]
    assert sum(line.count("neighbours") for line in lines) >= 2
    big = small()
    for protocol in (paper, clean):
        lines = console.dataset_tables(big, protocol(big, RandomSplit())).splitlines()
        assert max(map(cell_len, lines)) <= width


def test_the_start_of_a_run_shows_only_steps_that_changed_something():
    rows = [(f"u{n}", f"i{m}", 5.0) for n in range(8) for m in range(n, n + 8)]
    links = [(f"i{m}", f"e{m}") for m in range(40)]
    data = prepared([*rows, rows[0], ("x", "i0", 1.0)], links, [("e0", "r", "e1")], min_rating=4)
    dataset = paper(data, RandomSplit())
    text = console.dataset_tables(data, dataset)
    for line in ("duplicate positives (the same user and item), merged", "users without a posi"):
        assert line in text
    for line in ("duplicate links", "triples read", "test rows", "self-loops"):
        assert line not in text
    assert any(e.what == "self-loops, kept" for e in dataset.account.entries)
    data = small()
    text = console.dataset_tables(data, paper(data, RandomSplit()))
    assert "dropped or merged" not in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0.0 %"), (0.00294, "0.294 %"), (1e-7, "1e-05 %"), (0.5, "50.0 %"), (0.99986, "99.99 %"),
     (0.9999999, "99.99 %"), (1, "100.0 %")],
)  # fmt: skip
def test_only_0_and_1_are_shown_as_0_and_100_per_cent(value, shown):
    assert dataset_tables.share(value) == shown


def test_times_that_cannot_be_dates_are_numbers():
    assert dataset_tables.fact("first_positive_at", 0) == "1970-01-01 00:00"
    assert dataset_tables.fact("first_positive_at", 1e15) == "1,000,000,000,000,000"
