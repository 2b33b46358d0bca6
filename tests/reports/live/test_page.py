"""The page of a sweep, from folders in all states."""

import json
import re
import time
from html.parser import HTMLParser
from statistics import fmean, stdev

import pytest
from browser import CHROMIUM, browse
from filelock import FileLock
from finished_runs import grid, set_status

from kgrec.reports.live.detail import duration, samples, tail
from kgrec.reports.live.page import best_words, job_table, means_table, render, standing, tiles
from kgrec.reports.live.parallel import parallel_coordinates
from kgrec.reports.live.plots import page_palette, training_curves
from kgrec.reports.live.snapshot import Snapshot
from kgrec.reports.live.watch import watch
from kgrec.reports.palette import Palette
from kgrec.runs.folder import LOCK
from kgrec.sweeps.folder import FILE

EVIL = "<script>alert('x')</script> & <b>bold</b>"


def own_part(page):
    """A page without plotly's code."""
    start = page.index("<script>/**")
    return page[:start] + page[page.index("</script>", start) :]


def page_of(place, every=None):
    return own_part(render(Snapshot.take(place), every))


def drawn(chart):
    return json.loads(chart.figure)


def test_a_finished_sweep_has_tables_charts_and_details(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8), seed=(1, 2)), finished=4)
    page = page_of(place)
    assert "Final: all jobs have ended." in page
    assert 'data-reload="0"' in page
    assert "4 of 4" in page
    for part in ("Means over seeds", "Table 3 of the paper", "0.795",
                 "Test AUC by K", "Training: validation AUC by epoch", "popularity",
                 "python train.py seed=2", "★ 0.",
                 "has the best validation AUC of 2 systems"):  # fmt: skip
        assert part in page, part
    assert page.count('<details id="job-') == 4
    assert "Search" not in page


def test_the_star_marks_the_best_on_validation(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)), finished=2)
    snapshot = Snapshot.take(place)
    values = [state.validation for state in snapshot.states]
    page = page_of(place)
    star = re.search(r"★ (0\.\d{4})", page[page.index("<h2>Jobs") :]).group(1)
    assert star == f"{max(values):.4f}"
    assert "validation AUC</button>" in page
    assert "test AUC</button>" in page


def test_of_several_seeds_the_best_is_a_mean(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8), seed=(1, 2)), finished=4)
    snapshot = Snapshot.take(place)
    values = {s.job.name: s.validation for s in snapshot.states}
    means = {k: fmean(v for n, v in values.items() if f"K={k}," in n) for k in (2, 8)}
    top = max(means, key=means.get)
    sentence = best_words(snapshot)
    assert sentence.startswith(f"model.K={top}, mean over seeds (2 of 2): validation AUC")
    assert f"{means[top]:.4f} ± " in sentence


def test_a_sweep_over_seeds_has_a_mean_and_no_star(make_sweep):
    place = make_sweep(*grid(seed=(1, 2, 3)), finished=3)
    snapshot = Snapshot.take(place)
    assert best_words(snapshot) is None
    [(_, cells)] = means_table(snapshot).rows
    values = [state.validation for state in snapshot.states]
    assert cells[0].text == "3 of 3"
    assert cells[1].text == f"{fmean(values):.4f} ± {stdev(values):.4f}"
    page = page_of(place)
    assert "★" not in page
    assert f"its test AUC is {fmean(values):.4f} ±" in page


def test_jobs_of_several_seeds_have_no_star_but_their_mean_has(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8), seed=(1, 2)), finished=4)
    snapshot = Snapshot.take(place)
    stars = [
        sum(cell.text.startswith("★") for _, cells in table.rows for cell in cells)
        for table in (job_table(snapshot), means_table(snapshot))
    ]
    assert stars == [0, 1]


def test_a_sweep_whose_jobs_all_wait(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)))
    page = page_of(place)
    assert "Stopped: no process runs this sweep and 2 jobs are left." in page
    assert f"The same command with hydra.sweep.dir={place} runs them." in page
    assert "<h2>Charts" not in page
    assert "Best on validation" not in page


def test_a_sweep_without_jobs(make_sweep):
    assert "0 of 0" in page_of(make_sweep())


def test_a_running_job_shows_its_epoch(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8, 16)), finished=1)
    folder = set_status(
        place, 1, state="running", epoch=3, epochs=12, best=0.7123, seconds=6.0,
        process={"pid": 7, "host": "here"},
    )  # fmt: skip
    (folder / "curves" / "version_0").mkdir(parents=True)
    curve = folder / "curves" / "version_0" / "metrics.csv"
    curve.write_text("epoch,step,val/auc\n0,1,0.6\n1,2,0.71\n")
    with FileLock(folder / LOCK):
        snapshot = Snapshot.take(place)
        page = own_part(render(snapshot, 2.0))
    assert snapshot.live
    assert "Live: the page is updated" in page
    assert 'data-reload="5000"' in page
    assert "running, epoch 3 of 12" in page
    assert "0.7123" in page
    assert snapshot.left == pytest.approx(18 + (9.5 + 24) / 2)
    names = [
        line["name"] for line in drawn(training_curves(snapshot, page_palette(snapshot)))["data"]
    ]
    assert names == ["K=2", "K=8", "popularity"]
    # Its process is killed.
    assert Snapshot.take(place).counts["interrupted"] == 1
    assert "interrupted, epoch 3 of 12" in page_of(place)
    set_status(place, 1, state="failed", epoch=4, epochs=12, error="out of memory")
    assert "failed, epoch 4 of 12" in page_of(place)


def test_the_time_of_a_sweep_is_the_sum_over_jobs(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8, 16)), finished=2)
    set_status(place, 2, state="failed", seconds=41.0, updated="2026-03-01T10:00:00+00:00")
    assert ("1 min 00 s", "total time of jobs") in tiles(Snapshot.take(place))
    assert Snapshot.take(make_sweep(*grid(model__K=[2]), name="new")).worked is None


def test_a_search_that_ended_early_does_not_say_that_all_jobs_have(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)))
    for number in (0, 1):
        set_status(place, number, state="failed", error="out of memory")
    about = json.loads((place / FILE).read_text())
    (place / FILE).write_text(json.dumps(about | {"planned": 5}))
    snapshot = Snapshot.take(place)
    assert snapshot.over
    assert standing(snapshot, None) == "Ended: 2 of 5 jobs were tried."


def test_jobs_of_popularity_have_its_figure_too(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8), seed=(1, 2)), finished=4)
    for job in place.glob("model.K=*"):
        figures = json.loads((job / "metrics.json").read_text())
        alone = {k: v for k, v in figures.items() if not k.startswith("popularity/")}
        (job / "metrics.json").write_text(json.dumps(alone))
        about = json.loads((job / "environment.json").read_text())
        about["choices"]["model"] = "popularity"
        (job / "environment.json").write_text(json.dumps(about))
    snapshot = Snapshot.take(place)
    for table in (job_table(snapshot), means_table(snapshot)):
        beside, own = (table.header.index(name) for name in ("popularity AUC", "test AUC"))
        assert all(cells[beside].text == cells[own].text != "" for _, cells in table.rows)


def test_only_failures(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)))
    for number in (0, 1):
        folder = set_status(place, number, state="failed", error="out of memory\nat line 3")
        (folder / "train.log").write_text("first\n" * 50 + "\x1b[31mlast words\x1b[0m\n")
    page = page_of(place)
    assert "Final" in page
    assert "out of memory" in page
    assert "last words" in page
    assert "\x1b" not in page
    assert page.count("first") < 50
    assert ">error</button>" in page


def test_text_from_files_is_escaped(make_sweep):
    place = make_sweep(
        *grid(model__K=(2, 8), tag=(EVIL,)), grid(model__K=[4], tag=["x"])[0], finished=2
    )
    folder = set_status(place, 2, state="failed", error=EVIL)
    (folder / "train.log").write_text(EVIL)
    done = next(place.glob("model.K=2*"))
    (done / "evaluation" / "samples.json").write_text(
        json.dumps([{"user": EVIL, "liked": [EVIL],
                     "recommended": [{"item": EVIL, "name": None, "hit": True}]}])
    )  # fmt: skip
    page = page_of(place)
    assert "alert('x')</script>" not in page
    assert "<b>bold" not in page
    assert "&lt;script&gt;alert(" in page
    plotted = [
        drawn(parallel_coordinates(Snapshot.take(place))),
        drawn(training_curves(Snapshot.take(place), Palette())),
    ]
    assert "<script" not in json.dumps(plotted)  # plotly takes some HTML for its own


def test_the_detail_shows_samples(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)), finished=2)
    path = next(place.glob("model.K=2*")) / "evaluation" / "samples.json"
    path.write_text(json.dumps([
        {"user": "u7", "liked": ["Björk"], "recommended": [
            {"item": "12", "name": "Radiohead", "hit": True},
            {"item": "13", "name": None, "hit": False},
        ]},
    ]))  # fmt: skip
    page = page_of(place)
    for part in ("u7", "Björk", "✓ Radiohead</b>", "13"):
        assert part in page
    path.write_text('[{"user": "u7", "li')
    assert samples(path) == []
    assert "u7" not in page_of(place)


def test_half_written_files_count_as_absent(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)), finished=2)
    for job in sorted(place.glob("model.K=*"))[:1]:
        (job / "metrics.json").write_text('{"test/auc": 0.')
        (job / "status.json").write_text('{"sta')
        (job / "curves" / "version_0" / "metrics.csv").write_text("")
    for number in (0, 1):
        jobs = json.loads((place / "sweep.json").read_text())["jobs"]
        (place / jobs[number]["name"] / "config.yaml").write_text("a: [")
    page = page_of(place)
    assert "1 of 2" in page
    snapshot = Snapshot.take(place)
    assert snapshot.runs == {}
    assert not snapshot.over


@pytest.mark.slow
def test_a_hundred_jobs_are_one_page_in_seconds(make_sweep):
    values = {"model__K": (2, 4, 8, 16, "all"), "model__H": (1, 2), "seed": range(1, 11)}
    place = make_sweep(*grid(**values), finished=100)
    begin = time.perf_counter()
    page = page_of(place)
    assert time.perf_counter() - begin < 20
    assert page.count('<details id="job-') == 100
    assert len(page) < 2_000_000
    lines = drawn(training_curves(Snapshot.take(place), Palette()))["data"]
    assert len(lines) == 101
    assert not any(line["showlegend"] for line in lines[:100])


def test_logs_and_durations(tmp_path):
    assert tail(tmp_path / "none") == ""
    (tmp_path / "log").write_bytes(b"\xff" * 20_000 + b"\na\nb")
    assert tail(tmp_path / "log", 2) == "a\nb"
    assert [duration(s) for s in (None, 5.2, 125, 3720)] == ["", "5 s", "2 min 05 s", "1 h 02 min"]


class Elements(HTMLParser):
    """What a page points to, and what it has drawn."""

    def __init__(self):
        super().__init__()
        self.links, self.plots = [], 0

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        assert tag not in ("link", "iframe", "object", "img")
        self.links += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]
        self.plots += tag == "svg" and "main-svg" in (named.get("class") or "").split()


def test_the_page_has_no_links_to_other_places(make_sweep):
    elements = Elements()
    page = page_of(make_sweep(*grid(model__K=(2, 8)), finished=2))
    elements.feed(page)
    assert elements.links
    assert all(link.startswith("#") for link in elements.links)
    assert not re.search(r"url\((?!#)|@import", page)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_browser_draws_all_of_it_without_an_error_or_a_request(make_sweep, tmp_path):
    place = make_sweep(*grid(model__K=(2, 8, "all"), model__H=(1, 2)), finished=6)
    page = watch(place)
    # A request would break the page's own policy, which the console tells.
    assert "default-src 'none'" in page.read_text()
    shown, console = browse(page, tmp_path / "profile")
    assert console == []
    elements = Elements()
    elements.feed(own_part(shown))
    charts = shown.count('class="chart')
    assert charts == 4
    assert elements.plots >= charts
    assert "WebGL is not supported" not in own_part(shown)
    # The test sees what it forbids.
    page.write_text(
        page.read_text().replace("<h1>", '<img src="https://example.org/x.png"><h1>', 1)
    )
    assert "Content Security Policy" in "".join(browse(page, tmp_path / "profile")[1])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_opened_details_and_sorting_survive_a_reload(make_sweep, tmp_path):
    place = make_sweep(*grid(model__K=(2, 4, 8)), finished=2)
    reader = """<script>
    if (sessionStorage.getItem("read")) {
      document.body.dataset.reload = "0";  // once is enough
      document.body.dataset.again = "yes";
    } else {
      sessionStorage.setItem("read", "yes");
      addEventListener("load", () => {
        document.getElementById("job-1").open = true;
        for (const _ of "ab") document.querySelector("table.sortable th").click();
      });
    }
    </script>"""
    with FileLock(place / LOCK):
        html = render(Snapshot.take(place), 2.0)
    page = tmp_path / "page.html"
    page.write_text(html.replace("<h1>", f"{reader}<h1>", 1))
    shown, console = browse(page, tmp_path / "profile", 9000)
    assert console == []
    assert 'data-again="yes"' in shown
    assert re.search(r'<details id="job-1"[^>]* open', shown)
    assert not re.search(r'<details id="job-0"[^>]* open', shown)
    jobs = shown[shown.index('data-key="jobs"') :]
    assert re.findall(r'<tr><td class="text">(\d)</td>', jobs)[:3] == ["8", "4", "2"]
