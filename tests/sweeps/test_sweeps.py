"""Sweeps as users type them: folders, tables, failures, resuming, refused settings."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished, Train

from kgrec.errors import DataError
from kgrec.runs.status import at_work
from kgrec.sweeps.folder import SweepFolder

Sweep = Callable[..., tuple[Finished, Path]]


@pytest.fixture
def sweep(train: Train, tmp_path: Path) -> Sweep:
    """Runs ``train.py -m`` on small synthetic data; returns the command and the sweep's folder."""

    def run(*words: str, name: str | None = "s") -> tuple[Finished, Path]:
        named = [] if name is None else [f"sweep={name}"]
        done = train("-m", *words, *named)
        folders = sorted((tmp_path / "logs" / "sweeps").glob(name or "*"))
        return done, folders[-1] if folders else tmp_path / "none"

    return run


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_job_has_a_folder_and_a_row_and_the_best_setting_is_marked(sweep):
    done, folder = sweep("model.K=2,4", "seed=1,2")
    assert done.code == 0, done.err
    names = [f"model.K={k},seed={s}" for k in (2, 4) for s in (1, 2)]
    assert [job.name for job in SweepFolder.read(folder).jobs] == names
    rows = table(folder)
    assert [row["folder"] for row in rows] == names
    for row in rows:
        metrics = json.loads((folder / row["folder"] / "metrics.json").read_text())
        assert float(row["val/auc"]) == pytest.approx(metrics["val/auc"])
        assert float(row["test AUC"]) == pytest.approx(metrics["test/auc"])
        assert float(row["popularity AUC"]) == pytest.approx(metrics["popularity/test/auc"])
        assert row["state"] == "finished"
    means = {k: sum(float(r["val/auc"]) for r in rows if r["model.K"] == k) / 2 for k in "24"}
    best = max(means, key=means.__getitem__)
    assert [row["model.K"] for row in rows if row["best"] == "true"] == [best, best]
    jobs_table, means_table = done.out.split("Mean ± sd over seeds; ★ best")
    assert "★" not in jobs_table  # a single seed is never the best
    assert f"★ {means[best]:.4f} ± " in means_table
    for number in range(1, 5):
        assert f"{number} of 4  model.K=" in done.out  # one line per job
    assert "epoch" not in done.out.split("4 jobs")[0]  # the jobs' own lines are in their logs
    assert "epoch   1" in (folder / names[0] / "train.log").read_text()
    assert SweepFolder.read(folder).finished


@pytest.mark.slow
def test_seeds_do_not_leak_from_one_job_to_the_next(sweep, train):
    done, folder = sweep("seed=1,2")
    assert "Mean ± sd over seeds" in done.out
    assert re.search(r"│ 2 of 2[^│]* │ +0\.\d{4} ± 0\.\d{4} │", done.out), done.out
    assert "★" not in done.out  # seeds are not choices
    assert {row["best"] for row in table(folder)} == {"false"}
    alone = train("seed=2", folder="alone")
    second = json.loads((folder / "seed=2" / "metrics.json").read_text())
    for key, value in alone.metrics.items():
        if key.startswith(("val/", "test/")):
            assert second[key] == value, key


def test_a_failing_job_does_not_stop_the_others_and_is_tried_again(sweep):
    done, folder = sweep("model.K=0,2,4")
    assert done.code == 1
    assert "model.K=0: failed after" in done.out
    assert "model.K: found 0, expected an integer >= 1" in done.out
    assert "error: 1 of 3 jobs did not finish; the same command with sweep=s tries" in done.err
    assert [row["state"] for row in table(folder)] == ["failed", "finished", "finished"]
    assert not SweepFolder.read(folder).finished
    kept = (folder / "model.K=2" / "metrics.json").stat().st_mtime_ns
    done, _ = sweep("model.K=0,2,4")
    assert "3 of 3  model.K=0: failed" in done.out
    assert done.out.count("of 3  model.K=") == 1  # the others are not run again
    assert (folder / "model.K=2" / "metrics.json").stat().st_mtime_ns == kept


@pytest.mark.slow
def test_without_a_name_an_unfinished_sweep_is_resumed_and_a_finished_one_is_not(sweep, tmp_path):
    done, first = sweep("model.K=2,4", name=None)
    assert "of the same overrides" not in done.out
    done, second = sweep("model.K=2,4", name=None)
    assert first != second
    assert f"a sweep of the same overrides is finished: {first}" in done.out
    assert f"sweep={first.name} shows the finished one" in done.out
    (second / "model.K=4" / "metrics.json").unlink()  # as if it had been killed before its end
    about = json.loads((second / "sweep.json").read_text())
    (second / "sweep.json").write_text(json.dumps(about | {"finished": None}))
    done, third = sweep("model.K=2,4", name=None)
    assert third == second
    assert f"resuming the unfinished sweep of the same overrides: {second}" in done.out
    assert "2 of 2  model.K=4:" in done.out
    assert "resuming from" in (second / "model.K=4" / "train.log").read_text()
    assert SweepFolder.read(second).finished
    assert len(list((tmp_path / "logs" / "sweeps").iterdir())) == 2
    done, _ = sweep("model.K=2,4", name=first.name)  # as the line says
    assert done.code == 0
    assert "of 2  model.K" not in done.out
    assert "2 jobs, all finished; ★ best val/auc" in done.out


@pytest.mark.slow
def test_a_name_takes_more_jobs_but_no_other_settings(sweep):
    _, folder = sweep("model.K=2,4")
    done, _ = sweep("model.K=4,8")
    assert done.code == 0, done.err
    assert [row["folder"] for row in table(folder)] == ["model.K=2", "model.K=4", "model.K=8"]
    done, _ = sweep("model.K=1")  # one value of what it varies
    assert done.code == 0, done.err
    assert table(folder)[-1]["folder"] == "model.K=1"
    for words, message in {
        ("model.K=4,16", "model.d=7"): "found a sweep with model.d not set, expected 7: a sweep",
        ("model.K=4,16", "seed=1,2"): "found a sweep over model.K, expected one over model.K, seed",
    }.items():
        done, _ = sweep(*words)
        assert done.code == 1
        assert message in done.err
    config = folder / "model.K=2" / "config.yaml"
    config.write_text(config.read_text().replace("d: 32", "d: 31"))
    done, _ = sweep("model.K=2,16")
    assert "found model.d 31 in" in done.err
    assert "expected 32: a sweep keeps its settings" in done.err
    assert not (folder / "model.K=16").exists()


@pytest.mark.slow
def test_a_small_catalogue_has_its_own_cutoff_and_can_be_resumed(sweep):
    words = ["model=ease,svd", "protocol=clean", "dataset.num_items=8"]
    words += ["dataset.positives_per_user=4", "dataset.num_users=40"]
    done, folder = sweep(*words)
    assert done.code == 0, done.err
    for state in SweepFolder.read(folder).states():
        assert state.monitor == "val/ndcg@5"
        assert state.validation == state.metrics["val/ndcg@5"]
    done, _ = sweep(*words)
    assert done.code == 0, done.err
    assert "2 jobs, all finished" in done.out


@pytest.mark.slow
def test_a_folder_may_be_given(train, tmp_path):
    done = train("-m", "model.K=2,4", f"hydra.sweep.dir='{tmp_path}/my sweep'")
    assert done.code == 0, done.err
    assert (tmp_path / "my sweep" / "model.K=4" / "metrics.json").is_file()
    assert not (tmp_path / "logs").exists()


@pytest.mark.slow
def test_an_experiment_s_own_sweep_runs(sweep):
    done, folder = sweep("experiment=table4", "dataset=synthetic", "model.H=1,2", "seed=1")
    assert done.code == 0, done.err
    assert [row["folder"] for row in table(folder)] == ["model.H=1,seed=1", "model.H=2,seed=1"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=table3,table4"], "found several, and table3 brings a sweep of its own"),
        (["model.Kk=1,2"], "model.Kk: found an unknown key, expected one of H, K"),
        (["model.d=interval(1,2)"], "model.d: found interval(1,2), expected values"),
        (["model.d=1,2", "sweep=a/b"], "sweep: found 'a/b', expected a name"),
        (["model.d=1,2", "sweep=a,b"], "sweep: found 'a,b', expected one name"),
        (["model.d=1,2", "sweep=.."], "sweep: found '..', expected a name"),
        (["model.d=1,2", "sweep=a", "hydra.sweep.dir=b"], "and hydra.sweep.dir, expected one"),
        (["monitor=val/auc,val/recall@20"], "monitor: found several, expected one"),
        (["hydra/sweeper=optuna", "hydra.sweeper.at_once=-1"], "at_once: found -1, expected"),
        (
            ["model.d=1,2", "hydra.sweeper.n_trials=2"],
            "one of lease, params, shared, or another sweeper with it (",
        ),
        (["model.d=1,2", "hydra.launcher.n_jobs=2"], "expected another launcher with it (hydra/la"),
        (["model.d=1,"], "model.d=1,: found nothing that Hydra can read (mismatched input"),
        (
            ["model.d=1,2", "hydra.sweeper.shared=true"],
            "shared: found no name of the sweep, expected",
        ),
        (
            ["model.d=1,2", "sweep=a", "hydra.sweeper.shared=true", "hydra/launcher=joblib"],
            "hydra/launcher: found joblib with hydra.sweeper.shared=true, expected basic",
        ),
        (["model.d=1,2", "hydra.sweeper.lease=0"], "lease: found 0, expected a number of seconds"),
        (
            ["model.d=1,2", "sweep=a", "hydra.sweeper.shared=7"],
            "shared: found 7, expected true or false",
        ),
        (["hydra/sweeper=optuna", "hydra.sweeper.shared=true"], "shared: found an unknown key"),
        (["hydra/sweeper=optuna", "model=ease"], "found nothing to search"),
        (["hydra/sweeper=optuna", "monitor=test/auc"], "monitor: found 'test/auc'"),
        (["hydra/sweeper=optuna", "hydra.sweeper.n_trials=0"], "n_trials: found 0, expected"),
        (["hydra/sweeper=optuna", "model.Kk=1,2"], "model.Kk: found an unknown key"),
    ],
)
def test_a_refused_sweep_leaves_no_files(sweep, tmp_path, words, message):
    done, _ = sweep(*words, name=None)
    assert done.code == 1
    assert message in done.err
    assert not list((tmp_path / "logs").rglob("sweep.json"))
    assert not list((tmp_path / "logs").rglob("metrics.json"))
    assert not list(tmp_path.rglob("study.db"))


@pytest.mark.slow
def test_a_job_that_cannot_be_composed_does_not_stop_the_others(sweep):
    done, folder = sweep("model=svd,ease,bprmf", "model.d=4")
    assert done.code == 1
    assert [row["state"] for row in table(folder)] == ["finished", "failed", "finished"]
    assert "model=ease: failed" in done.out
    assert "model.d: found an unknown key" in done.out


@pytest.mark.slow
def test_a_job_that_is_refused_at_its_start_is_named(sweep):
    done, folder = sweep("trainer.devices=2,1", "trainer.accelerator=cpu")
    assert done.code == 1
    assert [row["state"] for row in table(folder)] == ["failed", "finished"]
    assert "trainer.devices=2: failed after" in done.out
    assert "trainer.devices: found 2 devices in a multirun, expected 1" in done.out


def test_hydra_s_own_sweeper_is_refused(train):
    done = train("-m", "hydra/sweeper=basic", "model.K=2,4")
    assert done.code == 1
    assert "hydra/sweeper: found basic, expected grid or optuna" in done.out + done.err


@pytest.mark.slow
def test_all_commands_are_kept_as_typed(sweep):
    done, _ = sweep("model.K=2,100", "hydra/launcher=basic")
    assert "warning: a row of model.K=100 reads about 100 neighbours" in done.out
    _, folder = sweep("model.K=2,4")
    kept = SweepFolder.read(folder)
    assert [words[-2:] for words in kept.content["commands"]] == [
        ["model.K=2,100", "sweep=s"], ["model.K=2,4", "sweep=s"],
    ]  # fmt: skip
    assert "hydra/launcher=basic" in kept.content["commands"][0]
    assert kept.command.startswith("python train.py -m dataset=synthetic")


def test_a_file_that_is_not_a_sweep_s_is_refused(tmp_path):
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(DataError, match=r"sweep\.json: found no words, expected one"):
        SweepFolder.read(tmp_path)


@pytest.mark.slow
def test_models_without_training_are_compared_by_the_same_metric(sweep):
    done, folder = sweep(
        "model=itemknn,svd", "monitor=val/recall@20", "ranking.validation=true", "settings=tuned"
    )
    for row in table(folder):
        missing = f"settings=tuned has no conf/hparams/tuned/synthetic-{row['model']}.yaml"
        assert missing in row["settings"]
        assert re.search(rf"{re.escape(missing)}.* — 1 job: model={row['model']}\n", done.out)
    for row in table(folder):
        metrics = json.loads((folder / row["folder"] / "metrics.json").read_text())
        assert float(row["val/recall@20"]) == pytest.approx(metrics["val/recall@20"])


@pytest.mark.slow
def test_a_sweep_over_epochs_keeps_its_column(sweep):
    done, folder = sweep("epochs=1,2,2")
    assert "epochs: found 2 2 times; the value runs once" in done.out
    assert [row["epochs"] for row in table(folder)] == ["1", "2"]
    assert [float(row["epochs run"]) for row in table(folder)] == [1.0, 2.0]


def test_two_processes_do_not_share_a_sweep(sweep, tmp_path):
    with at_work(tmp_path / "logs" / "sweeps" / "s"):
        done, _ = sweep("model.K=2,4")
    assert done.code == 1
    assert "found another process at work on this sweep" in done.err


@pytest.mark.slow
def test_a_worker_shares_a_sweep_and_a_plain_command_may_end_it(sweep):
    done, folder = sweep("model=popularity,ease", "hydra.sweeper.shared=true")
    assert done.code == 0, done.err
    assert [row["state"] for row in table(folder)] == ["finished"] * 2
    claims = sorted(path.name for path in (folder / "claims").iterdir())
    assert claims == ["model=ease", "model=popularity"]
    again, _ = sweep("model=popularity,ease,itemknn")
    assert again.code == 0, again.err
    assert [row["state"] for row in table(folder)] == ["finished"] * 3
    for log in folder.glob("*/train.log"):
        assert log.read_text().count("the results are in") == 1


def test_a_single_run_of_an_experiment_names_the_keys_of_its_sweep(train):
    done = train("sweep=s")
    assert done.code == 1
    assert "sweep: found 's' in a single run, expected -m before it" in done.out + done.err
    done = train("experiment=table4", "dataset=synthetic", folder="other")
    assert done.code == 0, done.err
    assert "with -m it would be a sweep over model.H, seed" in done.out


@pytest.mark.slow
def test_a_search_keeps_its_study_resumes_and_writes_its_best_settings(sweep, train, tmp_path):
    import optuna

    words = ["hydra/sweeper=optuna", "model=svd", "optimizer.lr=interval(1e-3,1e-1)"]
    done, folder = sweep(*words, "hydra.sweeper.n_trials=2")
    assert done.code == 0, done.err
    done, folder = sweep(*words, "hydra.sweeper.n_trials=4")
    assert done.code == 0, done.err
    assert "2 of 4 trials so far" in done.out
    study = optuna.load_study(study_name="kgrec", storage=f"sqlite:///{folder / 'study.db'}")
    assert len(study.trials) == 4
    assert len({str(trial.params) for trial in study.trials}) == 4  # none is drawn twice
    rows = table(folder)
    values = sorted(float(row["val/auc"]) for row in rows)
    assert sorted(trial.value for trial in study.trials) == pytest.approx(values)
    # The best settings are a settings file.
    (tmp_path / "conf" / "hparams" / "mine").mkdir(parents=True)
    text = (folder / "best.yaml").read_text()
    assert f"Best val/auc {values[-1]:.4f}" in text
    (tmp_path / "conf" / "hparams" / "mine" / "synthetic-svd.yaml").write_text(text)
    again = train(f"--config-dir={tmp_path / 'conf'}", "model=svd", "settings=mine", folder="again")
    assert again.code == 1  # a group's file must be there too
    (tmp_path / "conf" / "settings").mkdir()
    (tmp_path / "conf" / "settings" / "mine.yaml").write_text("# @package _global_\nsettings: mine")
    again = train(f"--config-dir={tmp_path / 'conf'}", "model=svd", "settings=mine", folder="more")
    assert again.code == 0, again.err
    assert again.metrics["val/auc"] == pytest.approx(values[-1])


def test_without_optuna_a_search_says_what_to_install(sweep, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done, _ = sweep("hydra/sweeper=optuna", "model=svd")
    assert done.code == 1
    assert "found no optuna, expected pip install -e '.[search]'" in done.err


@pytest.mark.slow
def test_a_search_whose_trials_all_fail_ends_and_can_be_resumed(sweep):
    words = ["hydra/sweeper=optuna", "model=svd", "model.d=-1,-2", "hydra.sweeper.n_trials=5"]
    done, _ = sweep(*words)
    assert done.code == 1
    assert done.out.count(": failed after") == 3
    assert "the search ends here: all 3 trials so far have failed" in done.out
    assert "the same command with sweep=s tries others" in done.err
    done, _ = sweep(*words)
    assert "3 of 8 trials so far" in done.out
    assert done.out.count(": failed after") == 3  # a few more trials, not all


@pytest.mark.slow
def test_a_search_continues_after_failed_trials(sweep):
    words = ["hydra/sweeper=optuna", "model=svd", "model.d=-1,8", "optimizer.lr=interval(0.01,0.1)"]
    done, folder = sweep(*words, "hydra.sweeper.n_trials=6")
    assert done.code == 0, done.err
    failed = [row["state"] for row in table(folder)].count("failed")
    assert 0 < failed < 6
    assert f"among 6 trials ({failed} failed) of" in (folder / "best.yaml").read_text()


@pytest.mark.slow
def test_a_search_refuses_the_folder_of_another_sweep(sweep):
    _, folder = sweep("model.K=2")
    done, _ = sweep("hydra/sweeper=optuna", "model=svd", "model.d=4,8")
    assert done.code == 1
    assert "found a sweep over" in done.err
    assert not (folder / "study.db").exists()


@pytest.mark.slow
def test_a_search_resumes_with_the_same_space_only(sweep):
    words = ["hydra/sweeper=optuna", "model=svd", "hydra.sweeper.n_trials=1"]
    sweep(*words, "model.d=8,16")
    done, _ = sweep(*words, "model.d=8,16,32")
    assert done.code == 1
    assert "found a search with another space of model.d, expected the same" in done.err


@pytest.mark.slow
def test_an_interrupted_trial_comes_first(sweep):
    import optuna

    words = ["hydra/sweeper=optuna", "model=svd", "hydra.sweeper.n_trials=2"]
    _, folder = sweep(*words)
    storage = f"sqlite:///{folder / 'study.db'}"
    study = optuna.load_study(study_name="kgrec", storage=storage)
    space = dict(study.trials[0].distributions)
    open_one = study.ask(space)
    done, _ = sweep(*words[:2], "hydra.sweeper.n_trials=3")
    assert done.code == 0, done.err
    study = optuna.load_study(study_name="kgrec", storage=storage)
    assert len(study.trials) == 3
    assert study.trials[2].params == open_one.params
    assert study.trials[2].value is not None
