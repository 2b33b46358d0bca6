"""A model that has collapsed runs to its end, and is marked wherever its results are shown."""

import csv
from collections import defaultdict
from pathlib import Path

import pytest
from conftest import Train

from kgrec.reports.results.report import markdown, sections
from kgrec.reports.results.systems import systems
from kgrec.runs.finished import find_runs
from kgrec.runs.folder import RunFolder

ABSURD = ("optimizer.lr=1e6", "optimizer.weight_decay=1e6")
QUICK = ("epochs=3", "patience=null")


def marks(folder: Path) -> set[str]:
    return {key for key in RunFolder(folder).metrics() if key.startswith("collapsed/")}


def test_a_collapsed_model_is_marked_in_its_table_and_its_metrics(train: Train):
    run = train("model=svd", "ranking=none", *QUICK, ABSURD[0])
    assert run.code == 0
    assert marks(run.folder) == {"collapsed/chance", "collapsed/exploded"}
    assert "svd (at chance, exploded" in " ".join(run.out.split())
    assert "warning: svd is no better than chance on validation" in run.out
    assert "all_positive (" not in run.out
    assert "popularity (" not in run.out


def test_controls_are_never_marked(train: Train):
    run = train("model=all_positive")
    assert run.code == 0
    assert run.metrics["test/auc"] == 0.5
    assert marks(run.folder) == set()
    assert "at chance" not in run.out


@pytest.mark.slow
@pytest.mark.parametrize("model", ["kgcn", "svd", "ncf", "bprmf", "lightgcn"])
@pytest.mark.parametrize("setting", ABSURD)
def test_absurd_settings_are_marked(model, setting, train: Train):
    run = train(f"model={model}", "ranking=none", *QUICK, setting)
    assert run.code == 0
    # Over a graph even random vectors know which items are popular.
    sign = "collapsed/exploded" if setting == ABSURD[0] else "collapsed/chance"
    assert sign in marks(run.folder)
    assert "collapsed/constant" not in marks(run.folder)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["lightckg", "ncf", "cke", "ease", "itemknn", "libfm"])
def test_models_that_learn_are_not_marked(model, train: Train):
    run = train(f"model={model}", "ranking=none", "epochs=20", "optimizer.lr=2e-2")
    assert run.code == 0
    assert run.metrics["val/auc"] > 0.6
    assert marks(run.folder) == set()


@pytest.mark.slow
def test_sweeps_and_reports_mark_the_job(train: Train, tmp_path: Path):
    run = train(
        "-m", "model=ncf", "optimizer.lr=1e-2,1e6", "epochs=20", "ranking=none",
        "hydra.sweep.dir=sweep",
    )  # fmt: skip
    assert run.code == 0
    rows = list(csv.DictReader((tmp_path / "sweep/sweep.csv").read_text().splitlines()))
    assert [row["collapsed"] for row in rows] == ["", "at chance, exploded scores"]
    assert "at chance, exploded scores" in run.out
    report = markdown(sections(systems(find_runs([tmp_path / "sweep"]))), defaultdict(str), "")
    assert "Collapsed: ncf optimizer.lr=1000000.0 (at chance, exploded scores)." in report
    assert "| ncf optimizer.lr=1000000.0 (at chance, exploded scores) |" in report
    assert report.count("Collapsed: ") == 1
