import json
from pathlib import Path

import pytest
import yaml

from kgrec.data.dataset import IdMaps
from kgrec.errors import DataError
from kgrec.reports.results.systems import Summary, systems
from kgrec.runs.finished import Run, find_runs, unfinished
from kgrec.runs.identity import difference


def test_runs_that_differ_by_seed_are_one_system_and_others_are_not(make_run, tmp_path):
    for seed in (1, 2, 3):
        make_run(f"a{seed}", seed)
        make_run(f"b{seed}", seed, K=4)
    found = systems(find_runs([tmp_path / "runs"]))
    assert sorted(system.label for system in found) == ["kgcn K=4", "kgcn K=8"]
    assert [[run.seed for run in system.runs] for system in found] == [[1, 2, 3]] * 2
    summary = found[0].summary("test/auc")
    values = [run.metrics["test/auc"] for run in found[0].runs]
    assert summary.mean == pytest.approx(sum(values) / 3)
    assert summary.n == 3
    assert found[0].summary("no/figure") is None


def test_the_later_of_two_equal_runs_counts(make_run, tmp_path):
    make_run("first", quality=1)
    later = make_run("later", quality=2)
    environment = json.loads((later / "environment.json").read_text())
    (later / "environment.json").write_text(json.dumps(environment | {"started": "2026-02-02"}))
    [system] = systems(find_runs([tmp_path / "runs"]))
    assert [run.folder.name for run in system.runs] == ["later"]


@pytest.mark.parametrize(
    ("callbacks", "label"),
    [
        ({"average": {"_target_": "my.Averaging"}}, "kgcn callbacks.average._target_=my.Averaging"),
        ({"early_stopping": {"patience": 3}}, "kgcn callbacks.early_stopping.patience=3"),
        ({"best": {"_target_": "my.Best"}}, "kgcn callbacks.best._target_=my.Best"),
        ({"norms": None, "last": None}, None),
        ({"progress": {"_target_": "my.Bar"}}, None),
    ],
)
def test_a_callback_that_changes_results_makes_another_system(make_run, tmp_path, callbacks, label):
    make_run("plain")
    folder = make_run("changed")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for name, settings in callbacks.items():
        own = config["callbacks"].get(name, {})
        config["callbacks"][name] = None if settings is None else own | settings
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    found = systems(find_runs([tmp_path / "runs"]))
    assert len(found) == (1 if label is None else 2)
    assert label is None or label in [system.label for system in found]


def test_a_setting_that_a_callback_repeats_is_in_the_label_once(make_run, tmp_path):
    for patience in (3, 5):
        folder = make_run(f"patience{patience}")
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config["patience"] = config["callbacks"]["early_stopping"]["patience"] = patience
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    found = systems(find_runs([tmp_path / "runs"]))
    assert sorted(system.label for system in found) == ["kgcn patience=3", "kgcn patience=5"]


def test_summaries_as_text():
    assert Summary.of([0.8]).text() == "0.8000"
    assert Summary.of([0.8, 0.9]).text(2) == "0.85 ± 0.07"
    assert Summary.of([3, 3]).text(0) == "3"


def test_a_run_has_its_command_curves_and_controls(make_run):
    run = Run.read(make_run("one"))
    assert run.command == "python train.py seed=1"
    assert run.curves["val/auc"].to_list() == [0.6, 0.7]
    assert run.curves["train/loss"].to_list() == [0.69, 0.6]
    assert run.controls() == ["popularity"]
    assert run.figure("test/auc", "popularity") == run.metrics["popularity/test/auc"]


def test_the_command_of_a_resumed_run_is_that_of_the_whole(make_run):
    folder = make_run("one")
    environment = json.loads((folder / "environment.json").read_text())
    words = ["seed=1", "logger=csv", "ckpt_path='/somewhere/last.ckpt'"]
    (folder / "environment.json").write_text(json.dumps(environment | {"overrides": words}))
    assert Run.read(folder).command == "python train.py seed=1"


def test_what_is_missing_or_damaged_is_named(make_run, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="nothing: found no such folder"):
        find_runs([tmp_path / "nothing"])
    with pytest.raises(DataError, match="found no finished run"):
        find_runs([tmp_path])
    folder = make_run("one")
    (folder / "dataset.json").write_text("{")
    with pytest.raises(DataError, match=r"dataset\.json: found no readable file"):
        find_runs([folder])
    (folder / "metrics.json").unlink()
    assert unfinished([tmp_path]) == [folder]
    monkeypatch.chdir(tmp_path)
    # A folder in two of the places counts once.
    assert unfinished([tmp_path, folder, tmp_path / "runs" / "..", Path("runs")]) == [folder]


READ = {
    "metrics.json": Run.read,
    "dataset.json": Run.read,
    "environment.json": Run.read,
    "config.yaml": lambda folder: difference(folder / "config.yaml", {}),
    "evaluation/slices.json": lambda folder: Run.read(folder).slices,
    "evaluation/kgcn/rows.parquet": lambda folder: Run.read(folder).rows(),
    "evaluation/kgcn/users.parquet": lambda folder: Run.read(folder).users("kgcn"),
    **{
        f"ids/{name}.parquet": lambda folder: IdMaps.load(folder / "ids")
        for name in ("users", "items", "entities", "relations")
    },
}


@pytest.mark.parametrize("file", READ)
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "kind"])
def test_a_damaged_file_is_an_error_that_names_it(make_run, data, file, damage):
    folder = make_run("one")
    data.ids.save(folder / "ids")
    READ[file](folder)
    path = folder / file
    if damage == "empty" and file == "config.yaml":
        pytest.skip("an empty configuration has no setting, which the difference says")
    content = {
        "cut": path.read_bytes()[: path.stat().st_size // 2] + b'\n"{',
        "empty": b"",
        "text": b"{[ \xff no file\n of this kind",
        "kind": b"{}" if file.endswith("slices.json") else b"[1, 2]",
    }
    path.write_bytes(content[damage])
    with pytest.raises(DataError) as caught:
        READ[file](folder)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "expected" in message
    assert "\n" not in message


def test_labels_leave_out_what_a_settings_file_sets(make_run, tmp_path):
    def made(name: str, settings: str, K: int, lr: float, *asked: str) -> None:
        folder = make_run(name, K=K)
        config = yaml.safe_load((folder / "config.yaml").read_text())
        config |= {"settings": settings, "optimizer": {"lr": lr}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        environment = json.loads((folder / "environment.json").read_text())
        environment["overrides"] += asked
        (folder / "environment.json").write_text(json.dumps(environment))

    made("a", "published", 8, 0.1)
    made("b", "tuned", 4, 0.2)
    apart = systems(find_runs([tmp_path / "runs"]))
    assert sorted(s.label for s in apart) == ["kgcn settings=published", "kgcn settings=tuned"]
    made("c", "tuned", 4, 0.3, "optimizer.lr=0.3")  # said, and differs within tuned
    made("d", "none", 16, 0.3, "model.K=16")  # said alone
    found = sorted(s.label for s in systems(find_runs([tmp_path / "runs"])))
    assert found == [
        "kgcn K=16 optimizer.lr=0.3 settings=none",
        "kgcn K=4 optimizer.lr=0.2 settings=tuned",
        "kgcn K=4 optimizer.lr=0.3 settings=tuned",
        "kgcn K=8 optimizer.lr=0.1 settings=published",
    ]
