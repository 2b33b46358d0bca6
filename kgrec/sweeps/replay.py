"""The sampler of a resumed search, in the state that it would have without the interruption.

A sampler draws random numbers that the study does not keep. So a search that resumes repeats its
trials on a study in memory: it asks for each trial and tells the result that is known. Then the
sampler has drawn what it had drawn before, and the next trials are those of an uninterrupted
search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial


def replayed(
    study: Study,
    space: Mapping[str, BaseDistribution],
    at_once: int,
    sampler: Callable[[int], BaseSampler],
) -> BaseSampler:
    """A sampler for the next trials of a study.

    The last trial may lack parameters, if the search was killed while they were drawn; it gets
    them.

    Args:
        study: the study so far.
        space: the search space.
        at_once: number of trials that are asked for before the first of them is told.
        sampler: function from what is added to the seed to a new sampler.

    Returns:
        The sampler after all trials. If the trials cannot be repeated, for example because at_once
        was another number, the result is a sampler with another seed: the same seed would draw the
        same settings again.
    """
    import optuna

    trials, result = study.get_trials(deepcopy=False), sampler(0)
    if not trials:
        return result
    storage = optuna.storages.InMemoryStorage()
    while (memory := optuna.create_study(storage=storage, direction="maximize"))._study_id < (
        study._study_id
    ):
        pass  # a sampler serves one study, by its number
    memory.sampler = result
    asked: list[tuple[Trial, FrozenTrial]] = []
    for recorded in trials:
        if recorded.number % at_once == 0:
            _tell(memory, asked)
            asked = []
        trial = memory.ask(dict(space))
        if any(trial.params.get(key) != value for key, value in recorded.params.items()):
            _fail_incomplete(study, space)
            return sampler(len(trials))
        _complete(study, recorded, trial.params, space)
        asked.append((trial, recorded))
    return result


def _tell(memory: Study, asked: list[tuple[Trial, FrozenTrial]]) -> None:
    from optuna.trial import TrialState

    for trial, recorded in asked:
        for step, value in sorted(recorded.intermediate_values.items()):
            trial.report(value, step)
        if recorded.state == TrialState.COMPLETE:
            memory.tell(trial, recorded.values)
        elif recorded.state.is_finished():
            memory.tell(trial, state=recorded.state)


def _complete(
    study: Study,
    recorded: FrozenTrial,
    params: Mapping[str, Any],
    space: Mapping[str, BaseDistribution],
) -> None:
    """Gives a trial the parameters that it lacks."""
    for key, distribution in space.items():
        if key not in recorded.params and not recorded.state.is_finished():
            value = distribution.to_internal_repr(params[key])
            study._storage.set_trial_param(recorded._trial_id, key, value, distribution)


def _fail_incomplete(study: Study, space: Mapping[str, BaseDistribution]) -> None:
    """Ends unfinished trials that lack parameters."""
    from optuna.trial import TrialState

    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if space.keys() - trial.params.keys():
            study.tell(trial.number, state=TrialState.FAIL)
