"""Experiments are run whole; what has finished is not run again."""

import json
from pathlib import Path

import pytest

from kgrec.cli import main
from kgrec.errors import ConfigError
from kgrec.sweeps import reproduce
from kgrec.sweeps.reproduce import jobs, place, sweep_of


def test_the_sweep_of_an_experiment_is_its_file_s():
    assert sweep_of("table3") == {"model.K": "2,4,8,16,32,64", "seed": "2019,2020,2021"}
    assert sweep_of("released_music") == {}
    with pytest.raises(
        ConfigError, match=r"found no experiment 'table9', expected one of .*table3"
    ):
        sweep_of("table9")


def test_every_value_with_every_seed_has_a_folder_of_its_own():
    found = jobs("table3", "music", [])
    assert len(found) == len({job.name for job in found}) == 18
    assert found[0].overrides == (
        "experiment=table3", "dataset=music", "model.K=2", "seed=2019",
    )  # fmt: skip
    assert found[0].name == "model.K=2,seed=2019"


def test_overrides_replace_the_experiment_s_values():
    found = jobs("table3", "book", ["model.K=2,all", "epochs=3", "seed=1"])
    assert [job.overrides[2:] for job in found] == [
        ("model.K=2", "seed=1", "epochs=3"), ("model.K=all", "seed=1", "epochs=3"),
    ]  # fmt: skip
    # One value of what the experiment sweeps over still names the job: more may come later.
    assert [job.name for job in found] == ["model.K=2,seed=1", "model.K=all,seed=1"]
    listed = jobs("table3", "book", ["ranking.ks=[1,2]", "model.K=4", "seed=1"])
    assert len(listed) == 1  # a list is one value
    with pytest.raises(ConfigError, match=r"model\.K="):
        jobs("table3", "book", ["model.K=[1"])


def test_other_settings_for_all_go_to_another_folder(tmp_path):
    assert place("table3", "music", ["model.K=2", "seed=1"], tmp_path) == (
        tmp_path / "table3" / "music"
    )
    assert place("table3", "music", ["settings=tuned"], tmp_path).name == "settings=tuned"


@pytest.fixture
def command(tmp_path: Path, monkeypatch, capsys):
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["kgrec", "reproduce", *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        found = capsys.readouterr()
        return code, found.out + found.err

    return run


def test_what_has_finished_is_not_run_again_and_one_failure_stops_nothing(command, monkeypatch):
    ran = []

    def pretend(
        experiment: str, dataset: str, overrides: list[str], folder: Path, at_once: int
    ) -> int:
        ran.append((experiment, at_once))
        for job in jobs(experiment, dataset, overrides):
            if experiment == "table4" and "seed=2" in job.overrides:
                continue
            (folder / job.name).mkdir(parents=True, exist_ok=True)
            (folder / job.name / "metrics.json").write_text(json.dumps({"test/auc": 0.8}))
        return int(experiment == "table4")

    monkeypatch.setattr(reproduce, "sweep", pretend)
    words = ("table4", "table5", "--dataset", "music", "model.H=1", "seed=1,2,3", "--jobs", "2")
    code, told = command(*words)
    assert code == 1
    assert ran == [("table4", 2), ("table5", 2)]
    ran.clear()
    code, told = command(*words)
    assert ran == [("table4", 2)]
    assert "21 runs, 20 of them are finished" in told
    code, told = command(*words, "--list")
    assert told.count("python train.py experiment=table4 dataset=music") == 1


def test_it_runs(command, tmp_path):
    small = [
        "dataset.num_users=40", "dataset.num_items=30", "dataset.positives_per_user=8", "seed=1",
        "model.K=2,0", "epochs=2",
    ]  # fmt: skip
    code, told = command("table3", "--dataset", "synthetic", *small, "--out", "out")
    assert code == 1  # of K=0
    assert "2 runs, 0 of them are finished" in told
    (done,) = (tmp_path / "out").rglob("metrics.json")
    assert done.parent.name == "model.K=2,seed=1"


def test_mistakes_end_with_a_line(command):
    assert command("model.K=2") == (
        1, "error: found no experiment, expected one or more, such as table3\n",
    )  # fmt: skip
    assert "--jobs: found 0" in command("table3", "--jobs", "0")[1]
