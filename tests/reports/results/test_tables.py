"""Tables of a report: systems, the paper's results, best values and signs."""

import json
import re

import pytest
import yaml

from kgrec.reports.results.paper_tables import representatives, sweep_table, sweeps, table_2
from kgrec.reports.results.published import DATA_SETS, SWEEPS, TABLE_2
from kgrec.reports.results.report import page, sections
from kgrec.reports.results.systems import systems
from kgrec.reports.results.tables import by_place, control, overview
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


def texts(table):
    return {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}


def test_table_3_has_values_of_kgrec_the_paper_and_popularity(many):
    [sweep] = sweeps(many, "model.K")
    assert list(sweep.systems) == [2, 8, "all"]
    table = sweep_table([sweep])
    assert table.header == ["", "K=2", "K=8", "K=all"]
    rows = texts(table)
    ours = next(value for name, value in rows.items() if "kgcn" in name)
    assert ours[1] == sweep.systems[8].summary("test/auc").text()
    assert rows["KGCN paper"] == ["0.791", "0.795", ""]
    assert rows["popularity"] == [control(many, "popularity", "test/auc").text()] * 3
    best = next(row for row in table.rows if row[0].kind == "name")
    assert [cell.kind for cell in best[1:]] == ["", "best", ""]
    assert "*0.795*" in table.markdown()
    assert sweeps(many, "model.H") == []


def test_table_2_has_one_system_of_each_aggregator_and_stars(many):
    assert sorted(representatives(many)) == ["kgcn concat", "kgcn neighbor", "kgcn sum"]
    rows = texts(table_2("music", many))
    assert rows["kgcn concat"][2:4] == ["0.796", "0.721"]
    assert rows["kgcn neighbor"][0].endswith("*")  # the best, far above popularity
    assert not rows["kgcn concat"][0].endswith("*")
    assert "*: the best KGCN is above" in table_2("music", many).note
    assert list(rows)[-1] == "popularity"


def test_the_paper_is_not_named_with_other_data_sets(make_run, tmp_path):
    for K in (2, 8):
        make_run(f"K{K}", data="own", K=K)
    make_run("svd", data="own", model="svd", aggregator=None)
    own = systems(find_runs([tmp_path / "runs"]))
    swept, compared = sweep_table(sweeps(own, "model.K")), table_2("own", own)
    assert (swept.title, compared.title) == ("AUC by K", "AUC and F1: own")
    assert not any("paper" in name for name in compared.header)
    assert all(len(row) == len(compared.header) for row in compared.rows)
    texts = [t.markdown() for section in sections(own) for t in section.tables]
    texts += [drawn.title for section in sections(own) for drawn in section.drawings]
    assert not any("the paper" in text or "KGCN paper" in text for text in texts)


def test_only_values_of_the_paper_are_in_italics(many):
    [sweep] = sweeps(many, "model.K")
    for table in (sweep_table([sweep]), table_2("music", many)):
        assert "In italics: values of the KGCN paper" in table.note
        [popularity] = [row for row in table.rows if row[0].text == "popularity"]
        assert "published" not in {cell.kind for cell in popularity}
    styles = page([], "").partition("</style>")[0]
    assert re.findall(r"([^{}]+) \{[^}]*font-style: italic", styles) == ["\n.published"]


def test_table_2_has_published_and_tuned_settings_side_by_side(make_run, tmp_path):
    for name, settings, d in (("a", "published", 8), ("b", "tuned", 64), ("c", "none", 16)):
        folder = make_run(name, model="svd", d=d, aggregator=None)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump(config | {"settings": settings}))
    make_run("k", model="kgcn")
    table = table_2("music", systems(find_runs([tmp_path / "runs"])))
    rows = texts(table)
    assert list(rows) == ["svd", "svd, none", "svd, tuned", "kgcn sum", "popularity"]
    assert [row[2] for row in rows.values()] == ["0.769", "", "", "0.794", ""]


@pytest.mark.parametrize(
    ("group", "setting", "value"),
    [("ranking", "name", "released"), ("dataset", "min_rating", 4), ("split", "ratios", "x")],
)
def test_runs_whose_rows_or_rankings_differ_are_in_tables_of_their_own(
    group, setting, value, make_run, tmp_path
):
    make_run("usual", fingerprint="one")
    folder = make_run("other", fingerprint="two", quality=0.2)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config[group][setting] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    about = json.loads((folder / "environment.json").read_text())
    about["overrides"].append(f"{group}.{setting}={value}")
    (folder / "environment.json").write_text(json.dumps(about))
    places = by_place(systems(find_runs([tmp_path / "runs"])))
    usual, other = places
    assert usual == "music, protocol=paper"
    assert other.endswith(f"{group}{'' if group == 'ranking' else '.' + setting}={value}")
    for members in places.values():
        assert control(members, "popularity", "test/auc").n == 1


def test_settings_of_training_alone_are_compared_in_one_table(make_run, tmp_path):
    make_run("usual")
    folder = make_run("weighted", 2)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["dataset"]["weights"] = "repeats"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    about = json.loads((folder / "environment.json").read_text())
    about["overrides"].append("dataset.weights=repeats")
    (folder / "environment.json").write_text(json.dumps(about))
    assert len(by_place(systems(find_runs([tmp_path / "runs"])))) == 1


def test_the_overview_has_the_best_on_validation_first(many):
    [(where, group)] = by_place(many).items()
    table = overview(where, group)
    assert table.rows[0][0].text == "kgcn K=8 aggregator=neighbor"
    assert [row[0].text for row in table.rows if row[0].kind == "control"] == ["popularity"]
    assert all(len(row) == len(table.header) for row in table.rows)


def test_signs_that_a_table_lacks_are_not_explained(make_run, tmp_path):
    make_run("kgcn", quality=0.2)
    make_run("svd", model="svd", data="music", quality=1.0)
    table = table_2("music", systems(find_runs([tmp_path / "runs"])))
    assert not any(cell.text.endswith("*") for row in table.rows for cell in row)
    assert "*" not in table.note
    make_run("alone", data="own")
    [own] = [s for s in systems(find_runs([tmp_path / "runs"])) if s.first.data == "own"]
    assert "italics" not in table_2("own", [own]).note


def test_the_values_of_the_paper_are_complete():
    assert set(TABLE_2) >= {"svd", "libfm", "ripplenet", "sum", "concat", "neighbor", "avg"}
    for by_data in (*TABLE_2.values(), *SWEEPS.values()):
        assert set(by_data) == set(DATA_SETS)


def test_the_command_of_a_system_runs_all_its_seeds(make_run):
    (system,) = systems(find_runs([make_run("a", 1).parent, make_run("b", 3).parent]))
    assert system.command == "python train.py -m seed=1,3"
    (alone,) = systems([system.first])
    assert alone.command == "python train.py seed=1"


def test_a_run_from_before_a_setting_existed_is_of_the_same_system(make_run):
    runs = find_runs([make_run("new", 1).parent, make_run("old", 2).parent])
    old = next(run for run in runs if run.seed == 2)
    absent = next(key for key, value in old.config["trainer"].items() if value is None)
    del old.config["trainer"][absent]
    (system,) = systems(runs)
    assert len(system.runs) == 2
