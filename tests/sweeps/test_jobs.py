"""Which jobs a sweep has, what their folders are called, what a search may search."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kgrec.errors import ConfigError
from kgrec.sweeps.folder import LONGEST_NAME, Job, State, best_jobs, folder_name
from kgrec.sweeps.grid import jobs_of
from kgrec.sweeps.search import job_of, search_space
from kgrec.sweeps.table import over_seeds


def parsed(*words: str):
    return OverridesParser.create().parse_overrides(list(words))


def test_every_combination_is_a_job_named_by_what_is_varied():
    jobs, keys = jobs_of(parsed("dataset=music", "model.K=2,4", "seed=1,2", "ranking.ks=[1,5]"), [])
    assert keys == ["model.K", "seed"]
    assert [job.name for job in jobs] == [
        "model.K=2,seed=1", "model.K=2,seed=2", "model.K=4,seed=1", "model.K=4,seed=2",
    ]  # fmt: skip
    assert jobs[1].overrides == ("dataset=music", "model.K=2", "seed=2", "ranking.ks=[1,5]")
    assert jobs[1].varied == {"model.K": "2", "seed": "2"}


def test_the_last_value_of_a_key_counts():
    jobs, keys = jobs_of(parsed("model.K=2,4", "seed=1,2,3", "seed=7"), [])
    assert keys == ["model.K"]
    assert [job.overrides for job in jobs] == [("model.K=2", "seed=7"), ("model.K=4", "seed=7")]
    assert jobs_of(parsed("seed=1,2,3", "seed=7"), ["seed"])[0][0].name == "seed=7"


def test_a_sweep_without_a_choice_is_one_job():
    (job,) = jobs_of(parsed("dataset=music"), [])[0]
    assert (job.name, job.varied) == ("run", {})


def test_intervals_are_for_a_search():
    with pytest.raises(ConfigError, match=r"optimizer\.lr: found interval.* hydra/sweeper=optuna"):
        jobs_of(parsed("optimizer.lr=interval(0.1,1)"), [])


def test_names_of_folders_fit_every_file_system_and_stay_apart():
    assert folder_name(["model.K=all", "seed=1"]) == "model.K=all,seed=1"
    odd, other = folder_name(["x=a b"]), folder_name(["x=a:b"])
    assert odd != other
    assert set(odd + other) <= set("abcdefghijklmnopqrstuvwxyz0123456789=_-")
    long = [folder_name([f"model.paths=[{'a' * 300}{end}]"]) for end in "xy"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= LONGEST_NAME + 9
    assert "/" not in folder_name(["dataset.root=a/b"])


def test_a_search_space_has_choices_and_intervals():
    space, fixed = search_space(
        parsed(
            "model.d=16,64", "optimizer.lr=tag(log, interval(1e-3, 0.1))",
            "model.H=int(interval(1,3))", "dataset=music", "epochs=2",
        )
    )  # fmt: skip
    assert list(space["model.d"].choices) == [16, 64]
    assert (space["optimizer.lr"].low, space["optimizer.lr"].log) == (1e-3, True)
    assert type(space["model.H"]).__name__ == "IntDistribution"
    assert (space["model.H"].low, space["model.H"].high) == (1, 3)
    assert fixed == ["dataset=music", "epochs=2"]
    job = job_of({"model.d": 64, "optimizer.lr": 0.0123456, "model.H": 2}, space, fixed)
    assert job.overrides == (
        "dataset=music", "epochs=2", "model.d=64", "optimizer.lr=0.0123", "model.H=2",
    )  # fmt: skip
    assert job == Job.of(job.overrides, list(space))
    exact, _ = search_space(parsed("optimizer.lr=choice(0.03125,0.1)"))
    assert job_of({"optimizer.lr": 0.03125}, exact, []).name == "optimizer.lr=0.03125"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=music"], r"hydra\.sweeper\.params: found nothing to search"),
        (["seed=1,2", "model.d=2,4"], r"seed: found several, expected one"),
        (["model=svd,kgcn"], r"model: found several, expected one"),
        (["model.d=2,4", "model.d=8"], r"found nothing to search"),
        (["split=random,temporal"], r"split: found several, expected one"),
        (["dataset.seed=1,2"], r"dataset\.seed: found several, expected one"),
        (["monitor=val/auc,val/recall@20"], r"monitor: found several, expected one"),
    ],
)
def test_what_cannot_be_searched(words, message):
    with pytest.raises(ConfigError, match=message):
        search_space(parsed(*words))


def test_the_best_is_of_one_data_set():
    found = {("book", "2"): 0.7, ("book", "4"): 0.72, ("music", "2"): 0.84, ("music", "4"): 0.83}
    states, rows = [], []
    for (dataset, k), value in found.items():
        job = Job.of([f"dataset={dataset}", f"model.K={k}"], ["dataset", "model.K"])
        states.append(State(job, None, "finished", {}, {"val/auc": value}))
        figures = {"test AUC": 0.5, "test F1": None, "test Recall@20": None, "popularity AUC": None,
                   "epochs run": 3, "seconds": 1.0}  # fmt: skip
        rows.append({**job.varied, "state": "finished", "val/auc": value, **figures})
    assert best_jobs(states) == {"dataset=book,model.K=4", "dataset=music,model.K=2"}
    means = over_seeds(rows, ["dataset", "model.K"], "val/auc")
    assert [row["best"] for row in means] == [False, True, True, False]
    failed = State(states[0].job, None, "failed", {"best": 0.99})
    assert best_jobs([failed]) == set()
