"""The report from local files alone: its verdict, pages and plots; it fetches nothing."""

import html
import json
import re
import time
from html.parser import HTMLParser

import polars as pl
import pytest
import yaml
from browser import CHROMIUM, browse
from finished_runs import grid

from kgrec.cli import main
from kgrec.errors import DataError
from kgrec.reports.results.plots import chosen
from kgrec.reports.results.report import introduction, page, section_lines, sections, write_report
from kgrec.reports.results.systems import systems
from kgrec.reports.results.tables import by_place, overview
from kgrec.reports.results.verdict import place_verdict
from kgrec.runs.finished import find_runs


@pytest.fixture
def many(make_run, tmp_path):
    """KGCN-sum with three K and three aggregators, two seeds each, on one split a seed."""
    for seed in (1, 2):
        for K in (2, 8, "all"):
            make_run(f"K{K}-{seed}", seed, quality=1.0 + 0.1 * (K == 8), K=K)
        for number, aggregator in enumerate(("concat", "neighbor")):
            make_run(f"{aggregator}-{seed}", seed, quality=1.2 + number, aggregator=aggregator)
    return systems(find_runs([tmp_path / "runs"]))


def test_plots_with_too_many_systems_show_each_model_once(make_run, tmp_path):
    for number, model in enumerate("abcdefghi"):
        make_run(model, model=model, quality=0.1 * number, d=number)
    tuned = make_run("b-tuned", model="b", quality=2, d=64)
    config = yaml.safe_load((tuned / "config.yaml").read_text())
    (tuned / "config.yaml").write_text(yaml.safe_dump(config | {"settings": "tuned"}))
    many = systems(find_runs([tmp_path / "runs"]))
    shown, words = chosen(many, most=4)
    assert list(shown) == ["b, tuned", "i", "h", "g"]
    assert words.endswith("The 5 models with the lowest AUC on validation are left out.")
    everything, words = chosen(many, most=10)
    assert len(everything) == 10
    assert words == ""


def test_markdown_folds_long_tables_away(many):
    text = "\n".join(section_lines(sections(many)[0]))
    before, _, folded = text.partition("<details>")
    folded = folded.partition("</details>")[0]
    assert "Table 2 of the paper" in before
    assert "Time, memory, command" in folded
    assert "kgcn K=8 aggregator=sum" in folded


def test_the_report_begins_with_a_verdict(many):
    made = [section._replace(drawings=section.drawings[:1]) for section in sections(many)]
    shown = page(made, "")
    [group] = by_place(many).values()
    first, lead, _, popularity, _ = place_verdict(group)
    best = next(s for s in group if s.label == "kgcn K=8 aggregator=neighbor")
    assert first == (
        "music, protocol=paper: kgcn K=8 aggregator=neighbor has the best validation AUC of 5 "
        f"systems; its test AUC is {best.summary('test/auc').text()} (mean of 2 seeds)."
    )
    assert "above kgcn K=8 aggregator=concat" in lead
    assert "above popularity" in popularity
    assert "beyond chance over users (95 % interval +" in popularity
    assert "t-test over seeds: p < 0.001" in popularity
    assert shown.index('<ul class="verdict">') < shown.index("<table") < shown.index("<figure")
    assert section_lines(made[0])[2] == f"- {first}"


def test_systems_of_other_seeds_are_compared_on_those_of_both(make_run, tmp_path):
    for seed in (1, 2, 3):
        make_run(f"a{seed}", seed, 2.0, model="a")
    make_run("b", 2, 1.0, model="b")
    lines = place_verdict(systems(find_runs([tmp_path / "runs"])))
    assert lines[1].startswith("On the seeds that both have (2), AUC: a (")
    make_run("c", 9, 1.5, model="c")  # the second best has none of these seeds
    lines = place_verdict(systems(find_runs([tmp_path / "runs"])))
    assert lines[1].endswith("; not tested, as the runs have other seeds or rows.")


def test_titles_count_what_tables_show(make_run, make_sweep, tmp_path):
    """A run, a sweep of further seeds, and one of these runs once more."""
    make_run("alone", 1)
    make_run("again", 1)
    sweep = make_sweep(*grid(seed=(2, 3)), finished=2)
    runs = find_runs([tmp_path / "runs", sweep])
    [system] = systems(runs)
    assert system.seeds == "1-3"
    assert introduction([system], runs).startswith(
        "3 runs of 1 system (1 more run with the same settings and seed was left out"
    )
    assert [row[0].text for row in overview("music", [system]).rows] == ["kgcn", "popularity"]


@pytest.mark.slow
def test_one_model_has_one_colour_in_all_plots(make_run, tmp_path):
    """Each plot leaves out another model: slices, curves and log-odds are missing."""
    for model, missing in (
        ("a", "evaluation/slices.json"), ("b", "curves/version_0/metrics.csv"), ("c", None),
    ):  # fmt: skip
        folder = make_run(model, model=model)
        if missing:
            (folder / missing).unlink()
    path, *_ = write_report(find_runs([tmp_path / "runs"]), tmp_path / "out")
    pattern = r'stroke="(#\w+)" stroke-width="3" stroke-dasharray="([^"]+)"/></svg> ([\w ]+)<'
    entries = re.findall(pattern, path.read_text())
    styles = {name: {(c, d) for c, d, n in entries if n == name} for *_, name in entries}
    assert set(styles) == {"a", "b", "c", "popularity"}
    assert all(len(looks) == 1 for looks in styles.values())
    assert len(set.union(*styles.values())) == 4
    assert sum(name == "c" for *_, name in entries) == 3


def test_the_panels_of_a_plot_are_drawings_of_their_own(many):
    """So a page can set them below each other where there is no room side by side."""
    for section in sections(many):
        for drawn in section.drawings:
            elements = drawn.elements()
            assert len(elements) == len(drawn.panels)
            sizes = [re.search(r'viewBox="0 0 ([\d.]+) ', svg).group(1) for svg in elements]
            assert max(map(float, sizes)) < 360


MEASURE = """<script>addEventListener("load", () => {
const inside = document.getElementById("page").contentDocument;
const width = inside.documentElement.clientWidth;
const box = (element) => element.getBoundingClientRect();
const cut = [...inside.querySelectorAll("body *")].filter((element) =>
  box(element).right > width + 1 && !element.closest(".wide, svg"));
const panels = [...inside.querySelectorAll(".panels svg")].map((svg) => box(svg).width);
const overflow = inside.documentElement.scrollWidth - width;
document.body.dataset.found = JSON.stringify([cut.length, overflow, Math.min(...panels)]);
});</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("width", [360, 420, 768, 1400])
def test_nothing_leaves_the_margins_of_the_page(make_run, tmp_path, width):
    long = {"aggregator": "my.own.package.with.a.long.name.Aggregator"}
    folders = [make_run("one"), make_run("two", model="svd"), make_run("three", **long)]
    shown = page(sections(systems(find_runs(folders))), "3 runs")
    frame = (
        f'<iframe id="page" width="{width}" height="900" srcdoc="{html.escape(shown)}"></iframe>'
    )
    path = tmp_path / "frame.html"
    path.write_text(f"<!doctype html><body>{frame}{MEASURE}")
    text, console = browse(path, tmp_path / "profile")
    assert console == []
    cut, overflow, narrowest = json.loads(
        html.unescape(re.search(r'data-found="([^"]+)"', text).group(1))
    )
    assert (cut, overflow) == (0, 0)
    assert narrowest > 280  # panels stand below each other where they would be too small


class Links(HTMLParser):
    found: list[str]

    def handle_starttag(self, tag, attrs):
        self.found += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        assert tag not in ("script", "link", "iframe")


def test_the_page_fetches_nothing_and_has_everything(many, make_run, tmp_path):
    out = tmp_path / "out"
    found = find_runs([tmp_path / "runs"])
    path, markdown, table, plots = write_report(found, out)
    shown = path.read_text()
    links = Links()
    links.found = []
    links.feed(shown)
    assert all(link.startswith("#") for link in links.found)
    assert not re.search(r"url\((?!#)|@import", shown)
    for part in ("Table 3 of the paper", "Table 2 of the paper", "music, protocol=paper", "0.795",
                 "Recall@K", "Calibration", "Training", "By training positives", "popularity",
                 "Test metrics by model",
                 "python train.py -m seed=1,2"):  # fmt: skip
        assert part in shown, part
    drawn = [plot for section in sections(many) for plot in section.drawings]
    assert {p.suffix for p in plots.iterdir()} == {".svg", ".png"}
    assert len(list(plots.iterdir())) == 2 * len(drawn)
    for name in re.findall(r"\(plots/([^)]+)\)", markdown.read_text()):
        assert (plots / name).is_file()
    runs = pl.read_csv(table)
    assert runs.height == len(found)
    assert runs["test/auc"].to_list() == pytest.approx([r.metrics["test/auc"] for r in found])


@pytest.mark.slow
def test_a_report_replaces_only_an_earlier_report(make_run, tmp_path):
    runs = find_runs([make_run("one")])
    out = tmp_path / "out"
    write_report(runs, out)
    write_report(runs, out)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="found other files"):
        write_report(runs, mine)
    assert (mine / "thesis.tex").is_file()


def test_tables_are_written_into_a_markdown_file(many, tmp_path, monkeypatch, capsys):
    page = tmp_path / "results.md"
    page.write_text(
        "# Mine\n\n<!-- kgrec report -->\nstale\n<!-- end of kgrec report -->\n\nwords\n"
    )
    monkeypatch.setattr(
        "sys.argv", ["kgrec", "report", str(tmp_path / "runs"), "--into", str(page)]
    )
    main()
    text = page.read_text()
    assert text.startswith("# Mine\n\n<!-- kgrec report -->\n")
    assert text.endswith("<!-- end of kgrec report -->\n\nwords\n")
    assert "Table 3 of the paper" in text
    assert "stale" not in text
    page.write_text("no marks")
    with pytest.raises(SystemExit):
        main()
    assert "found no <!-- kgrec report -->" in capsys.readouterr().err
    assert page.read_text() == "no marks"


def test_names_chosen_by_users_are_escaped(make_run, tmp_path):
    make_run("odd", data="my <b>data</b> | set/1", model="own_model", aggregator=None)
    path, markdown, *_ = write_report(find_runs([tmp_path / "runs"]), tmp_path / "out")
    assert "<b>data</b>" not in path.read_text()
    assert "own_model" in markdown.read_text()


@pytest.mark.slow
def test_sixty_runs_take_less_than_a_minute(make_run, tmp_path):
    for seed in (1, 2, 3):
        for K in (2, 4, 8, 16, 32):
            for H in (1, 2, 3, 4):
                make_run(f"{K}-{H}-{seed}", seed, K=K, H=H)
    begin = time.perf_counter()
    write_report(find_runs([tmp_path / "runs"]), tmp_path / "out")
    assert time.perf_counter() - begin < 60
