"""Experiments are run whole, what has finished is not run again, what was cut short goes on."""

import json
from pathlib import Path

import pytest

from kgrec import reproduce
from kgrec.cli import main
from kgrec.errors import ConfigError
from kgrec.reproduce import Job, Outcome, jobs, sweep_of


def test_the_sweep_of_an_experiment_is_its_file_s():
    assert sweep_of("table3") == {"model.K": "2,4,8,16,32,64", "seed": "2019,2020,2021"}
    assert sweep_of("released_music") == {}
    with pytest.raises(
        ConfigError, match=r"found no experiment 'table9', expected one of .*table3"
    ):
        sweep_of("table9")


def test_every_value_with_every_seed_has_a_folder_of_its_own(tmp_path):
    found = jobs("table3", "music", [], tmp_path)
    assert len(found) == len({job.folder for job in found}) == 18
    assert found[0].overrides == (
        "experiment=table3", "dataset=music", "model.K=2", "seed=2019",
    )  # fmt: skip
    assert found[0].folder == tmp_path / "table3" / "music" / "model.K=2,seed=2019"


def test_overrides_replace_the_experiment_s_values(tmp_path):
    found = jobs("table3", "book", ["model.K=2,all", "epochs=3", "seed=1"], tmp_path)
    assert [job.overrides[2:] for job in found] == [
        ("model.K=2", "seed=1", "epochs=3"), ("model.K=all", "seed=1", "epochs=3"),
    ]  # fmt: skip
    listed = jobs("table3", "book", ["ranking.ks=[1,2]", "model.K=4", "seed=1"], tmp_path)
    assert len(listed) == 1  # a list is one value
    with pytest.raises(ConfigError, match=r"model\.K="):
        jobs("table3", "book", ["model.K=[1"], tmp_path)


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


def test_what_has_finished_is_not_run_again_and_one_failure_stops_nothing(
    command, monkeypatch, tmp_path
):
    ran = []

    def pretend(job: Job, extra: list[str]) -> Outcome:
        ran.append(job.overrides)
        if "seed=2" in job.overrides:
            return Outcome(job, 1.0, "error: something")
        job.folder.mkdir(parents=True)
        metrics = {"test/auc": 0.8, "test/recall@20": 0.1}
        (job.folder / "metrics.json").write_text(json.dumps(metrics))
        return Outcome(job, 1.0, None)

    monkeypatch.setattr(reproduce, "run_job", pretend)
    words = ("table4", "--dataset", "music", "model.H=1,2", "seed=1,2,3", "--jobs", "2")
    code, told = command(*words)
    assert code == 1
    assert len(ran) == 6
    assert told.count("failed after 1 s: error: something") == 2
    assert told.count("AUC 0.8000  Recall@20 0.1000") == 4
    ran.clear()
    code, told = command(*words)
    assert sorted(ran) == sorted(o for o in ran if "seed=2" in o)
    assert "6 runs, 4 of them finished before" in told
    code, told = command(*words, "--list")
    assert told.count("python train.py experiment=table4 dataset=music") == 2


def test_it_runs_and_goes_on_from_where_it_was_cut_short(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = [
        "dataset.num_users=40",
        "dataset.num_items=30",
        "dataset.positives_per_user=8",
        "seed=1",
        "model.K=2",
    ]
    [job] = jobs("table3", "synthetic", small, tmp_path / "out")
    assert reproduce.run_job(job, ["logger=csv", "epochs=2"]).error is None
    whole = json.loads((job.folder / "metrics.json").read_text())
    (job.folder / "metrics.json").unlink()  # as if it had been killed in its last moments
    assert reproduce.run_job(job, ["logger=csv", "epochs=3"]).error is None
    again = json.loads((job.folder / "metrics.json").read_text())
    assert (whole["train/epochs"], again["train/epochs"]) == (2, 3)
    bad = job._replace(overrides=(*job.overrides, "model.K=0"), folder=tmp_path / "bad")
    assert reproduce.run_job(bad, ["logger=csv"]).error.startswith("error: model.K: found 0")


def test_mistakes_end_with_a_line(command):
    assert command("model.K=2") == (
        1, "error: found no experiment, expected one or more, such as table3\n",
    )  # fmt: skip
    assert "--jobs: found 0" in command("table3", "--jobs", "0")[1]
