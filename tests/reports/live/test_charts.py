"""Charts of a sweep and of a search: axes, bars, colours, parallel coordinates, importance."""

import json
import sys

import pytest
from finished_runs import grid

from kgrec.reports.live.charts import Axis
from kgrec.reports.live.page import render
from kgrec.reports.live.parallel import parallel_coordinates
from kgrec.reports.live.plots import (
    by_value,
    page_palette,
    sweep_charts,
    training_curves,
)
from kgrec.reports.live.search_plots import search_charts
from kgrec.reports.live.snapshot import Snapshot


def drawn(chart):
    return json.loads(chart.figure)


def chart_by_value(snapshot, key):
    return by_value(snapshot, key, page_palette(snapshot))


def charts_of(place):
    snapshot = Snapshot.take(place)
    return sweep_charts(snapshot, page_palette(snapshot))


def test_charts_by_value_have_the_paper_and_popularity(make_sweep):
    place = make_sweep(*grid(model__K=(2, 8, "all"), seed=(1, 2)), finished=6)
    figure = drawn(chart_by_value(Snapshot.take(place), "model.K"))
    ours, popularity, paper = figure["data"]
    assert ours["name"] == "kgcn"
    assert len(ours["x"]) == 3
    assert ours["error_y"]["visible"]
    assert popularity["line"]["dash"] == "dash"
    assert paper["y"] == [0.791, 0.794, 0.795]  # K of 2, 4, 8
    assert figure["layout"]["xaxis"]["ticktext"] == ["2", "8", "all"]


@pytest.mark.parametrize(
    ("values", "log", "numeric", "labels"),
    [
        (["2", "4", "8", "all"], True, True, ["2", "4", "8", "all"]),
        (["1", "2", "3", "4"], False, True, ["1", "2", "3", "4"]),
        (["1e-4", "0.001", "0.02"], True, True, ["0.0001", "0.001", "0.02"]),
        (["sum", "concat", None], False, False, ["sum", "concat", "not set"]),
        (["all"], False, False, ["all"]),
        (["nan", "1"], False, False, ["nan", "1"]),
        (["0", "0.1", "0.5"], False, True, ["0", "0.1", "0.5"]),
        (["64", "128", "256", "512", "1024"], True, True, ["64", "128", "256", "512", "1024"]),
        (["0.00326592"], False, True, ["0.00327"]),
        (["0.00114", "0.00115", "0.0021", "0.017"], True, True, ["0.002", "0.005", "0.01"]),
        (["1.01", "1.02", "4.1"], True, True, ["2", "3"]),
        (["0.3", "0.304", "0.71"], False, True, ["0.3", "0.4", "0.5", "0.6", "0.7"]),
        (["0.1", "0.10004"], False, True, ["0.1"]),
    ],
)
def test_axes(values, log, numeric, labels):
    axis = Axis.of(values)
    assert (axis.log, axis.numeric, axis.labels) == (log, numeric, labels)
    spots = [axis.at(value) for value in values]
    assert spots == sorted(spots)
    assert len(set(spots)) == len(spots)


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([10 ** (-4 + i / 10) for i in range(31)], ["0.0001", "0.001", "0.01", "0.1"]),
        ([1 + i / 2 for i in range(30)], ["1", "2", "5", "10"]),
        ([10.0**-i for i in range(12)], ["1e-10", "1e-08", "1e-06", "0.0001", "0.01", "1"]),
        (range(1, 11), ["2", "4", "6", "8", "10"]),
        ([0.01 * i for i in range(5, 50)], ["0.1", "0.2", "0.3", "0.4"]),
    ],
)
def test_an_axis_of_many_values_has_few_round_labels(values, labels):
    assert Axis.of(map(str, values)).labels == labels


def test_a_sweep_over_models_has_bars_with_intervals(make_sweep):
    """One setting that is not a number: parallel coordinates would say nothing."""
    place = make_sweep(*grid(model=("kgcn", "svd"), seed=(1, 2)), finished=4)
    [bars] = charts_of(place)
    assert bars.title == "Test AUC by model"
    figure = drawn(bars)
    shown, popularity = figure["data"]
    assert shown["type"] == "bar"
    assert sorted(figure["layout"]["yaxis"]["ticktext"]) == ["kgcn", "svd"]
    assert all(shown["error_x"]["array"])
    assert popularity["x"][0] == popularity["x"][1]
    assert popularity["name"] == "popularity"
    assert shown["base"] == 0.5


def test_a_sweep_over_seeds_or_one_number_has_no_parallel_coordinates(make_sweep):
    assert charts_of(make_sweep(*grid(seed=(1, 2)), finished=2, name="seeds")) == []
    titles = [c.title for c in charts_of(make_sweep(*grid(model__K=(2, 8)), finished=2, name="K"))]
    assert titles == ["Test AUC by K"]


def test_one_model_has_one_colour_in_all_charts(make_sweep):
    place = make_sweep(*grid(model=("kgcn", "svd"), model__K=(2, 8)), finished=4)
    snapshot = Snapshot.take(place)
    palette = page_palette(snapshot)
    colours = {"kgcn": set(), "svd": set()}
    for figure in map(
        drawn, (by_value(snapshot, "model.K", palette), training_curves(snapshot, palette))
    ):
        lines = [line for line in figure["data"] if line["name"] != "KGCN paper"]
        assert len({(line["line"]["color"], line["line"]["dash"]) for line in lines}) == len(lines)
        for line in lines:
            for model, found in colours.items():
                if model in line["name"]:
                    found.add(line["line"]["color"])
    assert [len(found) for found in colours.values()] == [1, 1]
    assert colours["kgcn"] != colours["svd"]


def test_parallel_coordinates_have_room_for_labels_and_hold_every_value(make_sweep):
    lrs = [f"{10 ** (-3.3 + i / 7):.3g}" for i in range(9)]
    place = make_sweep(*grid(optimizer__lr=lrs), finished=9)
    figure = drawn(parallel_coordinates(Snapshot.take(place)))
    low, high = figure["data"][0]["dimensions"][0]["range"]
    assert all(low < spot < high for spot in figure["data"][0]["dimensions"][0]["values"])
    place = make_sweep(*grid(model__of=("kgcn", "a_model_of_my_own")), finished=2, name="long")
    long = drawn(parallel_coordinates(Snapshot.take(place)))
    assert long["layout"]["margin"]["l"] > figure["layout"]["margin"]["l"] > 60


def study(place, trials=12):
    optuna = pytest.importorskip("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{place / 'study.db'}")
    found = optuna.create_study(
        study_name="kgrec", storage=storage, direction="maximize",
        sampler=optuna.samplers.RandomSampler(seed=0),
    )  # fmt: skip

    def figure(trial):
        lr = trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
        K = trial.suggest_categorical("model.K", ["2", "4", "all"])
        return 0.8 - lr + (K == "all") / 10

    found.optimize(figure, n_trials=trials)
    storage.engine.dispose()


@pytest.mark.slow
def test_a_search_has_history_importance_and_slices(make_sweep):
    pytest.importorskip("sklearn")
    place = make_sweep(*grid(model__K=(2, "all")), finished=2, name="a search, #1")
    study(place)
    charts, notes = search_charts(place)
    assert [chart.title for chart in charts] == ["History", "Importance", "lr", "K"]
    assert notes == ["12 of 12 trials have a value."]
    assert drawn(charts[3])["layout"]["xaxis"]["ticktext"] == ["2", "4", "all"]
    page = render(Snapshot.take(place), None)
    assert "<h2>Search" in page
    assert "Test AUC by K" not in page


def test_a_search_with_few_trials_or_without_a_library(make_sweep, monkeypatch):
    pytest.importorskip("optuna")
    place = make_sweep(*grid(model__K=(2, 8)))
    assert search_charts(place) == ([], [])
    (place / "study.db").write_text("half of")
    assert "could not be read" in search_charts(place)[1][0]
    (place / "study.db").unlink()
    study(place, 3)
    charts, notes = search_charts(place)
    assert [chart.title for chart in charts] == ["History"]
    assert "need at least 4 such trials" in notes[1]
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "not installed" in search_charts(place)[1][0]
