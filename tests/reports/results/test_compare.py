"""Comparisons of systems: reference, tests, verdict, table and command."""

import json

import numpy as np
import polars as pl
import pytest
from finished_runs import grid

from kgrec.cli import main
from kgrec.errors import DataError
from kgrec.reports.console import as_text
from kgrec.reports.results.compare import compare
from kgrec.reports.results.compared_systems import compared_systems
from kgrec.reports.results.comparison_table import comparison_table
from kgrec.reports.results.systems import systems
from kgrec.reports.results.verdict import comparison_verdict
from kgrec.runs.finished import find_runs


def runs(*folders):
    return [run for folder in folders for run in find_runs([folder])]


def test_a_better_system_is_found_better_in_every_test(make_run):
    worse = [make_run(f"worse{seed}", seed, quality=0.5, K=2) for seed in (1, 2, 3)]
    better = [make_run(f"better{seed}", seed, quality=1.5) for seed in (1, 2, 3)]
    group = compared_systems(runs(*worse, *better), baseline="kgcn K=2")
    assert labels(group) == ["kgcn K=2", "kgcn K=8"]
    found = {c.metric: c for c in compare(group, ["auc", "recall@20"], samples=300)}
    for comparison in found.values():
        assert comparison.seeds == 3
        assert comparison.bootstrap.low > 0
        assert comparison.corrected["bootstrap"] < 0.05
        assert comparison.t.p < 0.05
    area = found["auc"].bootstrap
    mean = [sum(r.metrics["test/auc"] for r in runs(*some)) / 3 for some in (worse, better)]
    assert [area.first, area.second] == pytest.approx(mean)
    assert found["recall@20"].wilcoxon.p < 0.05
    assert found["recall@20"].wilcoxon.effect == 1
    assert found["auc"].wilcoxon is None


def test_one_system_is_compared_with_popularity(make_run):
    group = compared_systems(runs(make_run("one")))
    assert labels(group) == ["popularity", "kgcn"]
    [found] = compare(group, ["auc"], samples=100)
    assert found.bootstrap.value > 0
    plain = found.as_dict()
    assert plain["t"]["p"] is None  # one seed
    json.dumps(plain, allow_nan=False)


def test_p_values_are_corrected_for_the_number_compared(make_run):
    folders = [make_run(f"{q}-{s}", s, quality=q, d=int(10 * q)) for q in (1.0, 1.1, 1.2)
               for s in (1, 2)]  # fmt: skip
    group = compared_systems(runs(*folders), baseline="kgcn d=10")
    found = compare(group, ["auc"], samples=200)
    least = min(found, key=lambda c: c.t.p)
    assert least.corrected["t"] == pytest.approx(min(1, 2 * least.t.p))


def test_the_same_f1_comes_from_the_rows(make_run):
    [found] = compare(compared_systems(runs(make_run("one"))), ["f1_val_threshold"], samples=50)
    rows = runs(make_run("two"))[0].rows()
    called, positive = rows["score"] >= 0.2, rows["label"] == 1
    expected = 2 * (called & positive).sum() / (called.sum() + positive.sum())
    assert found.bootstrap.second == pytest.approx(expected)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data": "book"}, "found dataset book, expected music"),
        ({"protocol": "clean"}, "found protocol clean, expected paper"),
        ({"fingerprint": "other", "K": 4}, "found other test rows"),
        ({"seed": 5, "K": 4}, r"found seeds 5, expected the seeds of kgcn K=8, 1"),
    ],
)
def test_runs_that_are_not_comparable_are_refused(make_run, other, message):
    places = [make_run("a"), make_run("b", **other)]
    with pytest.raises(DataError, match=message):
        compared_systems(runs(*places), places=places)


def test_runs_with_and_without_weights_are_tested_on_the_same_rows(make_run):
    places = [make_run("a", fingerprint="ab"), make_run("b", fingerprint="ab+cd", K=4)]
    group = compared_systems(runs(*places), places=places)
    assert "kgcn K=4" in [system.label for system in group.others]


def test_unknown_metrics_and_controls_are_named(make_run):
    group = compared_systems(runs(make_run("one")))
    with pytest.raises(DataError, match="found no 'recall@7', expected one of auc"):
        compare(group, ["recall@7"], samples=10)
    with pytest.raises(DataError, match="found 'ease', expected one of 'kgcn', 'popularity'"):
        compared_systems(runs(make_run("two")), baseline="ease")


def test_the_command_prints_a_table_and_json(make_run, tmp_path, capsys, monkeypatch):
    a, b = make_run("a", K=4), make_run("b", quality=2)
    written = tmp_path / "found.json"
    monkeypatch.setattr(
        "sys.argv",
        ["kgrec", "compare", str(a), str(b), "--samples", "50", "--json", str(written)],
    )
    main()
    out = capsys.readouterr().out
    assert out.startswith("Reference: kgcn K=4 (its folder is given first).\n")
    assert "music, protocol=paper, 1 seed: difference from kgcn K=4" in out
    assert out.count("\u2502   kgcn K=8") == 4
    assert out.splitlines()[-1] == "One seed: the effect of the seed is unknown."
    assert {c["metric"] for c in json.loads(written.read_text())} == {
        "auc", "f1_val_threshold", "recall@20", "ndcg@20",
    }  # fmt: skip


def labels(group):
    return [system.label for system in (group.reference, *group.others)]


def test_the_reference_and_why_it_is_one(make_run, make_sweep):
    sweep = make_sweep(*grid(model__K=(2, 8), seed=(1, 2)), finished=4)
    other = [make_run(f"svd-{s}", s, model="svd", aggregator=None) for s in (1, 2)]
    place = other[0].parent
    both = runs(sweep, *other)
    group = compared_systems(runs(sweep), places=[sweep])
    assert (group.reference.label, group.reference.model) == ("popularity", "popularity")
    assert group.reason.startswith("the default; --baseline NAME")
    assert labels(compared_systems(both, places=[place, sweep]))[0] == "svd"
    assert compared_systems(both, places=[place, sweep]).reason == "its folder is given first"
    assert labels(compared_systems(both, places=[sweep, place]))[0] == "popularity"
    assert labels(compared_systems(both, "svd")) == ["svd", "kgcn K=2", "kgcn K=8"]
    assert labels(compared_systems(both, "kgcn K=8"))[0] == "kgcn K=8"
    with pytest.raises(
        DataError, match="'kgcn', which matches 2 systems, expected one of 'kgcn K=2'"
    ):
        compared_systems(both, "kgcn")


def test_popularity_that_was_trained_is_the_reference_itself(make_run):
    trained = make_run("popularity", model="popularity", aggregator=None)
    group = compared_systems(runs(trained, make_run("kgcn")))
    assert group.reference.model is None
    assert labels(group) == ["popularity", "kgcn"]


def test_a_run_and_a_sweep_of_further_seeds_are_one_system(
    make_run, make_sweep, capsys, monkeypatch
):
    alone = make_run("alone", 1, quality=1.1)
    sweep = make_sweep(*grid(seed=(2, 3)), finished=2)
    group = compared_systems(runs(alone, sweep))
    assert labels(group) == ["popularity", "kgcn"]
    assert [run.seed for run in group.others[0].runs] == [1, 2, 3]
    monkeypatch.setattr("sys.argv", ["kgrec", "compare", str(alone), str(sweep)])
    main()
    out = capsys.readouterr().out
    assert "Reference: popularity (there is one system)." in out
    assert "3 seeds" in out


def test_a_metric_given_twice_is_compared_once(make_run, capsys, monkeypatch):
    words = ["kgrec", "compare", str(make_run("one")), "--metric", "auc", "auc", "--json", "-"]
    monkeypatch.setattr("sys.argv", [*words, "--samples", "20"])
    main()
    assert [c["metric"] for c in json.loads(capsys.readouterr().out)] == ["auc"]


@pytest.mark.slow
def test_the_command_counts_runs_that_a_later_run_repeats(make_run, capsys, monkeypatch):
    folders = [make_run("first", 1), make_run("again", 1), make_run("other", 1, K=2)]
    words = ["kgrec", "compare", *map(str, folders), "--metric", "auc", "--samples", "20"]
    monkeypatch.setattr("sys.argv", words)
    main()
    expected = "1 more run with the same settings and seed was left out: the latest run counts\n"
    assert capsys.readouterr().err.endswith(expected)


@pytest.mark.slow
def test_runs_of_the_command_line_that_differ_by_seed_are_one_system(train, tmp_path):
    assert train("seed=1", folder="alone").code == 0
    assert train("-m", "seed=2,3", "sweep=more").code == 0
    found = runs(tmp_path / "alone", tmp_path / "logs" / "sweeps" / "more")
    assert [system.seeds for system in systems(found)] == ["1-3"]
    assert labels(compared_systems(found)) == ["popularity", "kgcn"]


def test_users_of_all_seeds_are_one_sample(make_run):
    """Ten seeds with the same rows and scores say no more than one seed."""
    for seed in range(10):
        for name, model, quality in (("a", "a", 1.0), ("b", "b", 1.05)):
            folder = make_run(f"{name}{seed}", 1, quality, model=model, fingerprint="pinned")
            for file, change in (("config.yaml", ("seed: 1", f"seed: {seed}")),):
                (folder / file).write_text((folder / file).read_text().replace(*change))
    everyone = runs(make_run("x").parent)
    everyone = [run for run in everyone if run.model in "ab"]
    metrics = ["auc", "recall@20", "f1_val_threshold"]
    often = compare(compared_systems(everyone, "a"), metrics, samples=200)
    once = compare(
        compared_systems([r for r in everyone if r.seed == 1], "a"), metrics, samples=200
    )
    assert {c.seeds for c in often} == {10}
    for one, ten in zip(once, often, strict=True):
        assert ten.bootstrap == pytest.approx(one.bootstrap)
        assert ten.wilcoxon == pytest.approx(one.wilcoxon)


def test_users_are_matched_by_their_id_over_seeds(make_run):
    """A seed that lacks a user must not shift the others."""
    folders = {(m, s): make_run(f"{m}{s}", s, model=m) for m in "ab" for s in (1, 2)}
    for (model, seed), folder in folders.items():
        for name in (model, "popularity"):
            file = folder / "evaluation" / name / "users.parquet"
            table = pl.read_parquet(file)
            # One user alone tells the systems apart, in both seeds.
            mark = pl.when(pl.col("user") == "u7").then(0.5 * (model == "b")).otherwise(0.25)
            table = table.with_columns(**{"recall@20": mark})
            table.filter(pl.col("user") != f"u{seed}").write_parquet(file)
    group = compared_systems(runs(*folders.values()), "a")
    [c] = compare(group, ["recall@20"], samples=100)
    assert c.wilcoxon.differing == 1


def test_the_verdict_says_who_is_above_and_whether_beyond_chance(make_run):
    folders = [
        make_run(f"{model}-{seed}", seed, quality, model=model)
        for seed in (1, 2, 3)
        for model, quality in (("good", 3.0), ("bad", 0.0), ("same", 0.5))
    ]
    group = compared_systems(runs(*folders))
    [line] = comparison_verdict(group, compare(group, ["auc"], samples=300))
    values = [run.metrics["test/auc"] for run in runs(*folders) if run.model == "good"]
    assert line.startswith(f"AUC: good ({np.mean(values):.4f}) is the best of 3 and 0.")
    assert "above popularity" in line
    assert "beyond chance over users (95 % interval +" in line
    assert "; t-test over seeds: p < 0.001" in line
    assert line.endswith(" Above: good. Below: bad. Within chance: same.")
    alone = compared_systems(runs(folders[0]))
    lines = comparison_verdict(alone, compare(alone, ["auc", "recall@20"], samples=300))
    assert [line.partition(":")[0] for line in lines] == ["AUC", "Recall@20", "One seed"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal(make_run, width):
    labels = ("K=4", "K=16", "aggregator=concat")
    folders = [
        make_run(f"{label}-{seed}", seed, **dict([label.split("=")]))
        for label in labels
        for seed in (1, 2)
    ]
    group = compared_systems(runs(*folders))
    comparisons = compare(group, ["auc", "recall@20"], samples=50)
    text = as_text(comparison_table(group, comparisons, width), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert text.count("+0.") + text.count("-0.") >= 6  # every difference is shown
    assert ("Wilcoxon:" in text) == (width == 120)
    assert ("Left out" in text) == (width < 120)


def test_a_mistake_ends_with_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kgrec", "compare", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path / 'nowhere'}: found no such folder"
    )
