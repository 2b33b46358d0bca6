"""Folders of strangers, or damaged ones: every command ends well or with one line."""

import contextlib
import io
import json
import random
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Trained
from finished_runs import grid
from mutations import FEW, Mutation, mutations

import kgrec
from kgrec import cli
from kgrec.errors import KgrecError
from kgrec.reports.live.page import render
from kgrec.reports.live.snapshot import Snapshot, fingerprint
from kgrec.reports.results import drawn, report, verdict
from kgrec.reports.results.compare import compare
from kgrec.reports.results.compared_systems import compared_systems
from kgrec.reports.results.comparison_table import comparison_table, usual_metrics
from kgrec.reports.results.systems import systems
from kgrec.runs.finished import find_runs
from kgrec.runs.status import read_status
from kgrec.serving.runs import ServedRuns
from kgrec.serving.settings import ServeSettings

CANARY = "c4nary"
LONGEST = 1000  # characters of a message


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret in the environment, and drawings that are not written: they take seconds."""
    monkeypatch.setenv("KGREC_CANARY", CANARY)
    monkeypatch.setattr(drawn, "draw", painted)
    monkeypatch.setattr(verdict, "SAMPLES", 20)


def painted(paint: Callable, size: tuple, kinds: tuple) -> list[bytes]:
    """As kgrec.reports.drawing.draw, without the files."""
    from matplotlib.figure import Figure

    paint(Figure(figsize=size))
    return [b"<svg></svg>"] * len(kinds)


def a_run(place: Path, _: Path) -> str:
    """Reads every file of a run."""
    [run] = find_runs([place])
    read_status(place)
    facts = [run.model, run.choices, run.settings, run.split_key, run.command, run.slices]
    tables = [run.curves, run.rows(), run.users(), run.controls()]
    return str([*facts, *tables])


def a_report(place: Path, _: Path) -> str:
    runs = find_runs([place])
    group = systems(runs)
    parts = report.sections(group)
    report.runs_table(runs)
    return report.page(parts, report.introduction(group, runs))


def a_comparison(place: Path, _: Path) -> str:
    group = compared_systems(find_runs([place]), None, [place])
    comparisons = compare(group, usual_metrics(group), 20)
    return str(comparison_table(group, comparisons, 100))


def a_use(place: Path, _: Path) -> str:
    rec = kgrec.load(place)
    users, items = rec.users["user"].to_list()[:2], rec.items["item"].to_list()[:2]
    rows = [rec.recommend(users, k=3), rec.similar_items(items[0]), rec.score(users, items)]
    rows += [rec.recommend(history=items, k=2), rec.relations, rec.history(users[0])]
    return str([*rows, rec.explain(users[0], items[0]).text(), rec.metrics])


def a_server(place: Path, _: Path) -> str:
    runs = ServedRuns(ServeSettings(runs=(str(place),)))
    runs.load()
    return str([run.info for run in runs.all()])


def a_page(place: Path, _: Path) -> str:
    fingerprint(place)
    return render(Snapshot.take(place), None)


def command(*words: str) -> Callable[[Path, Path], str]:
    def act(place: Path, out: Path) -> str:
        sys.argv = ["kgrec", *(w.format(run=place, out=out) for w in words)]
        errors, printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(printed):
            try:
                cli.main()
            except SystemExit as stop:
                if stop.code == 1:
                    assert errors.getvalue().count("error: ") == 1, errors.getvalue()
                    message = errors.getvalue().partition("error: ")[2].rstrip("\n")
                    raise KgrecError(message) from None
        return printed.getvalue() + errors.getvalue()

    return act


def tried(
    act: Callable[[Path, Path], str], place: Path, chosen: list[Mutation], out: Path
) -> tuple[int, list[str]]:
    """Applies mutations one by one; returns the number of errors, and what should not happen."""
    errors, faults = 0, []
    for mutation in chosen:
        before, begin = mutation.file.read_bytes(), time.perf_counter()
        name = f"{mutation.file.relative_to(place)}, {mutation.name[:60]}"
        try:
            mutation.apply()
            if CANARY in act(place, out):
                faults.append(f"{name}: shows a secret")
        except KgrecError as error:
            errors += 1
            if "\n" in str(error) or len(str(error)) > LONGEST:
                faults.append(f"{name}: not one line: {str(error)[:200]!r}")
        except BaseException as error:
            faults.append(f"{name}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            mutation.file.write_bytes(before)
            shutil.rmtree(out, ignore_errors=True)
        if time.perf_counter() - begin > 20:  # 5 on a machine of one's own
            faults.append(f"{name}: took {time.perf_counter() - begin:.0f} s")
    return errors, faults


def some(place: Path, count: int, few: bool = False) -> list[Mutation]:
    """A sample of the mutations of a folder, the same one in every session."""
    chosen = list(mutations(place, FEW.__contains__ if few else lambda _: True))
    chosen = [m for m in chosen if m.file.suffix not in (".log", ".lock", ".svg", ".png")]
    random.Random(0).shuffle(chosen)
    return chosen[:count]


def test_files_of_a_run(make_run, tmp_path):
    place = make_run("one")
    errors, faults = tried(a_run, place, some(place, 40), tmp_path / "out")
    assert faults == []
    assert errors > 10


def test_the_page_of_a_sweep(make_sweep, tmp_path):
    place = make_sweep(*grid(model__K=(2, 8)), finished=1)
    chosen = [m for m in some(place, 10**6, few=True) if m.file.parent == place]
    _, faults = tried(a_page, place, chosen[:6], tmp_path / "out")
    assert faults == []


@pytest.mark.parametrize(
    ("name", "message"),
    [("../../runs/x", "expected a name, without folders"), ("/etc", "expected a name"),
     ("..", "expected a name, without folders"), ("a\0b", "expected a printable text")],
)  # fmt: skip
def test_a_job_lies_in_the_folder_of_its_sweep(name, message, make_sweep):
    place = make_sweep(*grid(model__K=(2, 8)))
    content = json.loads((place / "sweep.json").read_text())
    content["jobs"][0]["name"] = name
    (place / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(KgrecError, match=message):
        a_page(place, place)


def test_a_model_is_no_path(make_run):
    place = make_run("one")
    environment = json.loads((place / "environment.json").read_text())
    environment["choices"]["model"] = "../../elsewhere"
    (place / "environment.json").write_text(json.dumps(environment))
    [run] = find_runs([place])
    with pytest.raises(KgrecError, match="expected a name, without folders"):
        run.rows()


SLOW = {
    "files": (a_run, 500),
    "report": (a_report, 60),
    "compare": (a_comparison, 60),
    "use": (a_use, 60),
    "serve": (a_server, 15),
    "export": (command("export", "{run}", "--to", "embeddings", "--out", "{out}"), 10),
    "refit": (command("refit", "{run}", "logger=csv", "--out", "{out}"), 15),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_every_command_on_a_mutated_run(name, trained: Trained, tmp_path, monkeypatch):
    act, count = SLOW[name]
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "run"
    shutil.copytree(trained("model=kgcn"), place)
    errors, faults = tried(act, place, some(place, count), tmp_path / "out")
    print(f"{name}: {count} mutations, {errors} errors of one line, {len(faults)} faults")  # noqa: T201
    assert faults == []


@pytest.mark.slow
def test_the_page_of_a_mutated_sweep(make_sweep, tmp_path):
    place = make_sweep(*grid(model__K=(2, 8)), finished=1)
    (place / "model.K=8").mkdir(exist_ok=True)
    errors, faults = tried(a_page, place, some(place, 60), tmp_path / "out")
    print(f"page: 60 mutations, {errors} errors of one line, {len(faults)} faults")  # noqa: T201
    assert faults == []
