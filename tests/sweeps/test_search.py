"""The search space of a search, and the jobs of its trials."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from kgrec.errors import ConfigError
from kgrec.sweeps.search import job_of, search_space
from kgrec.sweeps.state import Job


def parsed(*words: str):
    return OverridesParser.create().parse_overrides(list(words))


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
        (["model.d=interval(8,8)"], r"model\.d: found interval\(8,8\), expected two numbers"),
        (["model.d=interval(8,4)"], r"expected two numbers, the first below the second$"),
        (["optimizer.lr=tag(log,interval(0,1))"], r"first below the second and above 0"),
    ],
)
def test_keys_that_cannot_be_searched_are_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        search_space(parsed(*words))
