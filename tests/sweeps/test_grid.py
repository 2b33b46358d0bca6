"""The jobs of a grid: combinations, names, repeated values."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kgrec.errors import ConfigError
from kgrec.sweeps.checks import uneven_jobs
from kgrec.sweeps.grid import jobs_of, repeated
from kgrec.sweeps.state import Job


def parsed(*words: str):
    return OverridesParser.create().parse_overrides(list(words))


def test_every_combination_is_a_job_named_by_its_varied_values():
    jobs, keys = jobs_of(parsed("dataset=music", "model.K=2,4", "seed=1,2", "ranking.ks=[1,5]"), [])
    assert keys == ["model.K", "seed"]
    assert [job.name for job in jobs] == [
        "model.K=2,seed=1", "model.K=2,seed=2", "model.K=4,seed=1", "model.K=4,seed=2",
    ]  # fmt: skip
    assert jobs[1].overrides == ("dataset=music", "model.K=2", "seed=2", "ranking.ks=[1,5]")
    assert jobs[1].varied == {"model.K": "2", "seed": "2"}


def test_the_last_override_of_a_key_counts():
    jobs, keys = jobs_of(parsed("model.K=2,4", "seed=1,2,3", "seed=7"), [])
    assert keys == ["model.K"]
    assert [job.overrides for job in jobs] == [("model.K=2", "seed=7"), ("model.K=4", "seed=7")]
    assert jobs_of(parsed("seed=1,2,3", "seed=7"), ["seed"])[0][0].name == "seed=7"


def test_a_sweep_without_a_choice_is_one_job():
    (job,) = jobs_of(parsed("dataset=music"), [])[0]
    assert (job.name, job.varied) == ("run", {})


def test_a_repeated_value_is_one_job_and_is_named():
    overrides = parsed("model.K=2,2,4", "seed=1,1", "seed=3", "ranking.ks=[1,1]")
    assert [job.name for job in jobs_of(overrides, [])[0]] == ["model.K=2", "model.K=4"]
    assert repeated(overrides) == ["model.K: found 2 2 times; the value runs once"]


def test_intervals_are_for_a_search():
    with pytest.raises(ConfigError, match=r"optimizer\.lr: found interval.* hydra/sweeper=optuna"):
        jobs_of(parsed("optimizer.lr=interval(0.1,1)"), [])


def configured(*models: dict[str, object]):
    jobs = [Job.of([f"model.H={m.get('H')}"], ["model.H"]) for m in models]
    return [
        (job, OmegaConf.create({"model": model})) for job, model in zip(jobs, models, strict=True)
    ]


def test_a_job_that_reads_many_times_the_neighbors_of_another_is_named():
    warning = uneven_jobs(configured({"K": 8, "H": 1}, {"K": 8, "H": 2}, {"K": 8, "H": 4}))
    assert warning == (
        "warning: a row of model.H=4 reads about 4,096 neighbours (K^H), a row of model.H=1 8: "
        "expect the job to take 512 times as long, or more"
    )


@pytest.mark.parametrize(
    "models",
    [
        [{"K": 8, "H": 1}, {"K": 8, "H": 2}],
        [{"K": 8, "H": 1}, {"K": "all", "H": 4}],  # cannot be estimated before the data are read
        [{"d": 8}, {"K": 8, "H": 4}],
        [{"d": 8}],
        [],
    ],
)
def test_jobs_of_similar_or_unknown_size_are_not_warned_of(models):
    assert uneven_jobs(configured(*models)) is None
