"""A search that resumes chooses the trials of an uninterrupted one."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from kgrec.sweeps.replay import replayed
from kgrec.sweeps.search import _changed

SPACE: dict[str, Any] = {
    "lr": FloatDistribution(1e-4, 1e-1, log=True),
    "d": CategoricalDistribution([4, 8, 16]),
    "H": IntDistribution(1, 4),
}
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def tpe(more: int) -> BaseSampler:
    return TPESampler(seed=1 + more, n_startup_trials=3, multivariate=True, constant_liar=True)


def random(more: int) -> BaseSampler:
    return RandomSampler(seed=1 + more)


def new_study(storage: Any = None) -> optuna.Study:
    return optuna.create_study(
        study_name="s", storage=storage, direction="maximize", load_if_exists=True
    )


def reopened(study: optuna.Study) -> optuna.Study:
    """The study as another process has it."""
    return new_study(study._storage)


def ask(study: optuna.Study, at_once: int) -> list[optuna.Trial]:
    return [study.ask(dict(SPACE)) for _ in range(at_once)]


def tell(study: optuna.Study, numbers: list[int]) -> None:
    """Every fifth trial fails, every third is pruned."""
    for number in numbers:
        trial = study.trials[number]
        value = -abs(trial.params["lr"] - 0.01) + trial.params["H"]
        if number % 5 == 4:
            study.tell(number, state=optuna.trial.TrialState.FAIL)
        elif number % 3 == 2:
            optuna.Trial(study, trial._trial_id).report(value, 1)
            study.tell(number, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(number, value)


def params(study: optuna.Study) -> list[dict[str, Any]]:
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("sampler", [tpe, random])
@pytest.mark.parametrize("at_once", [1, 2])
def test_the_trials_are_those_of_an_uninterrupted_search(sampler, at_once):
    whole, parts = new_study(), new_study()
    whole.sampler = replayed(whole, SPACE, at_once, sampler)
    for _ in range(8 // at_once):
        tell(whole, [trial.number for trial in ask(whole, at_once)])
    for _ in range(8 // at_once):
        study = reopened(parts)
        study.sampler = replayed(study, SPACE, at_once, sampler)
        numbers = [trial.number for trial in ask(study, at_once)]
        again = reopened(parts)  # killed before the results are told
        replayed(again, SPACE, at_once, sampler)
        tell(again, numbers)
    assert params(parts) == params(whole)
    assert len({str(each) for each in params(whole)}) == 8


def test_a_trial_that_was_cut_short_gets_its_parameters(monkeypatch):
    whole, study = new_study(), new_study()
    whole.sampler = tpe(0)
    for _ in range(5):
        tell(whole, [trial.number for trial in ask(whole, 1)])
    study.sampler = tpe(0)
    for _ in range(4):
        tell(study, [trial.number for trial in ask(study, 1)])
    set_param = type(study._storage).set_trial_param

    def killed(storage: Any, trial: int, name: str, *rest: Any) -> None:
        if name == "d":
            raise KeyboardInterrupt
        set_param(storage, trial, name, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(type(study._storage), "set_trial_param", killed)
        with pytest.raises(KeyboardInterrupt):
            ask(study, 1)
    again = reopened(study)
    assert list(again.trials[-1].params) == ["lr"]
    assert _changed(again, SPACE) == []
    assert _changed(again, {"lr": SPACE["lr"]} | {"d": SPACE["H"]}) != []
    replayed(again, SPACE, 1, tpe)
    assert params(again) == params(whole)


def test_trials_that_cannot_be_repeated_are_not_drawn_again():
    study = new_study()
    study.sampler = random(7)  # another seed
    for _ in range(3):
        tell(study, [trial.number for trial in ask(study, 1)])
    study._storage.create_new_trial(study._study_id)  # killed before it had a parameter
    again = reopened(study)
    again.sampler = replayed(again, SPACE, 1, random)
    assert again.trials[-1].state == optuna.trial.TrialState.FAIL
    ask(again, 1)
    fresh = optuna.create_study(sampler=random(4))
    assert again.trials[-1].params == ask(fresh, 1)[0].params
