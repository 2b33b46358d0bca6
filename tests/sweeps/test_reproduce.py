"""The sweeps of experiments: their jobs, their folders, and what is run again."""

import json

import pytest

from kgrec.errors import ConfigError
from kgrec.sweeps import reproduce
from kgrec.sweeps.reproduce import jobs_of_experiment, sweep_folder, sweep_of


def test_an_experiment_s_file_brings_its_sweep():
    assert sweep_of("table3") == {"model.K": "2,4,8,16,32,64", "seed": "2019,2020,2021"}
    assert sweep_of("released_music") == {}
    with pytest.raises(
        ConfigError, match=r"found no experiment 'table9', expected one of .*table3"
    ):
        sweep_of("table9")


def test_every_value_with_every_seed_has_its_own_folder():
    jobs = jobs_of_experiment("table3", "music", [])
    assert len(jobs) == len({job.name for job in jobs}) == 18
    assert jobs[0].overrides == (
        "experiment=table3", "dataset=music", "model.K=2", "seed=2019",
    )  # fmt: skip
    assert jobs[0].name == "model.K=2,seed=2019"


def test_overrides_replace_the_experiment_s_values():
    jobs = jobs_of_experiment("table3", "book", ["model.K=2,all", "epochs=3", "seed=1"])
    assert [job.overrides[2:] for job in jobs] == [
        ("model.K=2", "seed=1", "epochs=3"), ("model.K=all", "seed=1", "epochs=3"),
    ]  # fmt: skip
    # A single value of a key that the experiment varies still names the job: more may come later.
    assert [job.name for job in jobs] == ["model.K=2,seed=1", "model.K=all,seed=1"]
    one = jobs_of_experiment("table3", "book", ["ranking.ks=[1,2]", "model.K=4", "seed=1"])
    assert len(one) == 1  # a list is one value
    with pytest.raises(ConfigError, match=r"model\.K="):
        jobs_of_experiment("table3", "book", ["model.K=[1"])


def test_other_shared_settings_have_another_folder(tmp_path):
    assert sweep_folder("table3", "music", ["model.K=2", "seed=1"], tmp_path) == (
        tmp_path / "table3" / "music"
    )
    assert sweep_folder("table3", "music", ["settings=tuned"], tmp_path).name == "settings=tuned"


def test_finished_jobs_are_skipped_and_a_failing_sweep_does_not_stop_the_others(
    monkeypatch, tmp_path, capsys
):
    sweeps_run = []

    def run_sweep(experiment, dataset, overrides, folder, at_once):
        sweeps_run.append((experiment, at_once))
        for job in jobs_of_experiment(experiment, dataset, overrides):
            if experiment == "table4" and "seed=2" in job.overrides:
                continue
            (folder / job.name).mkdir(parents=True, exist_ok=True)
            (folder / job.name / "metrics.json").write_text(json.dumps({"test/auc": 0.8}))
        return int(experiment == "table4")

    monkeypatch.setattr(reproduce, "run_sweep", run_sweep)
    words = ["table4", "table5", "model.H=1", "seed=1,2,3"]
    arguments = (words, ["music"], 2, str(tmp_path))
    with pytest.raises(SystemExit, match="1"):
        reproduce.reproduce(*arguments)
    assert sweeps_run == [("table4", 2), ("table5", 2)]
    sweeps_run.clear()
    capsys.readouterr()
    with pytest.raises(SystemExit, match="1"):
        reproduce.reproduce(*arguments)
    assert sweeps_run == [("table4", 2)]
    assert "21 runs, 20 of them finished" in capsys.readouterr().out
    reproduce.reproduce(*arguments, only_list=True)
    assert capsys.readouterr().out.count("python train.py experiment=table4 dataset=music") == 1
