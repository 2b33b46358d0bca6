import json

import pytest

from kgrec.cli import main
from kgrec.errors import DataError
from kgrec.reports.results.compare import compare, contenders
from kgrec.runs.finished import find_runs


def runs(*folders):
    return [run for folder in folders for run in find_runs([folder])]


def test_a_better_system_is_found_better_in_every_test(make_run):
    worse = [make_run(f"worse{seed}", seed, quality=0.5, K=2) for seed in (1, 2, 3)]
    better = [make_run(f"better{seed}", seed, quality=1.5) for seed in (1, 2, 3)]
    listed = contenders(runs(*worse, *better))
    assert [c.label for c in listed] == ["kgcn K=2", "kgcn K=8"]
    found = {c.metric: c for c in compare(listed, ["auc", "recall@20"], samples=300)}
    for comparison in found.values():
        assert comparison.splits == 3
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
    listed = contenders(runs(make_run("one")))
    assert [c.label for c in listed] == ["popularity", "kgcn"]
    [found] = compare(listed, ["auc"], samples=100)
    assert found.bootstrap.value > 0
    plain = found.as_dict()
    assert plain["t"]["p"] is None  # one seed
    json.dumps(plain, allow_nan=False)


def test_p_values_are_corrected_for_the_number_compared(make_run):
    folders = [make_run(f"{q}-{s}", s, quality=q, d=int(10 * q)) for q in (1.0, 1.1, 1.2)
               for s in (1, 2)]  # fmt: skip
    found = compare(contenders(runs(*folders)), ["auc"], samples=200)
    least = min(found, key=lambda c: c.t.p)
    assert least.corrected["t"] == pytest.approx(min(1, 2 * least.t.p))


def test_the_same_f1_comes_from_the_rows(make_run):
    [found] = compare(contenders(runs(make_run("one"))), ["f1_val_threshold"], samples=50)
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
        ({"seed": 5, "K": 4}, r"found seeds 5, expected those of kgcn K=8, 1"),
    ],
)
def test_runs_that_do_not_belong_together_are_refused(make_run, other, message):
    with pytest.raises(DataError, match=message):
        contenders(runs(make_run("a"), make_run("b", **other)))


def test_unknown_metrics_and_controls_are_named(make_run):
    listed = contenders(runs(make_run("one")))
    with pytest.raises(DataError, match="found no 'recall@7', expected one of auc"):
        compare(listed, ["recall@7"], samples=10)
    with pytest.raises(DataError, match="found no control 'ease' in this run"):
        contenders(runs(make_run("two")), against="ease")


def test_the_command_prints_a_table_and_json(make_run, tmp_path, capsys, monkeypatch):
    a, b = make_run("a", K=4), make_run("b", quality=2)
    told = tmp_path / "found.json"
    monkeypatch.setattr(
        "sys.argv",
        ["kgrec", "compare", str(a), str(b), "--samples", "50", "--json", str(told)],
    )
    main()
    out = capsys.readouterr().out
    assert "music, protocol=paper: against kgcn K=4 on 1 split" in out
    assert out.count("kgcn K=8") == 4
    assert {c["metric"] for c in json.loads(told.read_text())} == {
        "auc", "f1_val_threshold", "recall@20", "ndcg@20",
    }  # fmt: skip


def test_a_mistake_ends_with_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kgrec", "compare", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(
        f"error: {tmp_path / 'nowhere'}: found no such folder"
    )
