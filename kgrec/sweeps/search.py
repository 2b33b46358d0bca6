"""A search for settings with Optuna: ``-m hydra/sweeper=optuna model=kgcn dataset=music``.

The objective is the validation metric that ``monitor`` names; higher is better. The budget is a
number of trials. The study is kept in study.db in the sweep's folder, so a search can be resumed.
A pruner stops trials that are clearly behind (:mod:`kgrec.sweeps.pruning`). The best settings are
written to best.yaml, which can be copied to conf/hparams.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, Transformer
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kgrec.errors import ConfigError
from kgrec.files import write_text
from kgrec.runs.status import DIVERGED, update
from kgrec.sweeps.checks import ANOTHER_NAME
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.progress import say, words
from kgrec.sweeps.pruning import NAME, make_pruner, open_storage
from kgrec.sweeps.replay import replayed
from kgrec.sweeps.state import FAILED, FINISHED, PRUNED, Job, State, best
from kgrec.sweeps.sweeper import KgrecSweeper

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study

# The search ends if this many first trials have all failed.
MAX_FAILURES = 3
# Groups that a search cannot vary: trials that differ in them cannot be compared.
FIXED_GROUPS = ("seed", "monitor", "dataset", "protocol", "split", "ranking", "experiment")
# Keys in best.yaml besides the model's keys.
SETTINGS = ("optimizer.lr", "optimizer.weight_decay", "batch_size", "epochs", "patience")


class Search(KgrecSweeper):
    """Runs trials, a few at a time; Optuna chooses them by the results of earlier trials.

    Args:
        n_trials: number of trials in all; failed, pruned and diverged trials and trials
            of earlier commands count.
        sampler: configuration of an Optuna sampler with a seed.
        at_once: number of trials that run at once; None: as many as the launcher runs.
        pruner: configuration of an Optuna pruner; None: every trial trains to its end.
        params: keys to search, each with its values or its interval.
    """

    def __init__(
        self,
        n_trials: int,
        sampler: DictConfig,
        at_once: int | None = None,
        pruner: DictConfig | None = None,
        params: DictConfig | None = None,
    ) -> None:
        super().__init__(params)
        self.n_trials, self.sampler, self.at_once = n_trials, sampler, at_once
        self.pruner = pruner

    def _sweep(self, arguments: list[str]) -> Any:
        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(
                "hydra/sweeper=optuna: found no optuna, expected pip install -e '.[search]'"
            )
        space, fixed = search_space(self.parsed(arguments))
        self.check()
        for name, value in (("n_trials", self.n_trials), ("at_once", self.at_once)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(
                    f"hydra.sweeper.{name}: found {value!r}, expected an integer >= 1"
                )
        make_pruner(self.pruner)
        self._check_before(space, fixed)
        at_once = self.at_once or int(self.config.hydra.launcher.get("n_jobs") or 1)
        study = self._study(space, at_once)
        # If all trials have failed, their settings are not the reason: the budget starts again.
        budget = self.n_trials + (len(study.trials) if _all_failed(study) else 0)
        say(f"search of {', '.join(space)}: {len(study.trials)} of {budget} trials so far")
        sweep, trials_before = None, len(study.trials)
        while batch := self._next(study, space, at_once, budget):
            trials = {number: job_of(params, space, fixed) for number, params in batch}
            jobs = list({job.name: job for job in trials.values()}.values())
            sweep = self.begin(jobs, list(space), planned=budget)
            for number, job in trials.items():
                sweep.folder(job).mkdir(exist_ok=True)
                update(sweep.folder(job), trial=number)  # its process reports to this trial
            ended = {s.job.name: s for s in self.launch(sweep, jobs)}
            for number, job in trials.items():
                _report(study, number, ended[job.name])
            if _all_failed(study) and len(study.trials) - trials_before >= MAX_FAILURES:
                say(f"the search ends here: all {len(study.trials)} trials so far have failed")
                break
        sweep = sweep or SweepFolder.read(self.folder)
        states = sweep.states()
        top = best(states)
        if top is not None:
            path = self._write_best(sweep, top, states, at_once)
            say(f"best {sweep.monitor} {top.validation:.4f}: {words(top.job)}; written to {path}")
        self.end(sweep, sweep.jobs, failures_allowed=top is not None, retry="tries others")

    def _check_before(self, space: Mapping[str, BaseDistribution], fixed: Sequence[str]) -> None:
        """Checks the folder and one trial before a study is created."""
        params = {
            key: getattr(d, "choices", [getattr(d, "low", None)])[0] for key, d in space.items()
        }
        job = job_of(params, space, fixed)
        self.check_same_sweep(job, list(space))
        self.composed(job)

    def _study(self, space: Mapping[str, BaseDistribution], at_once: int) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=NAME,
            storage=open_storage(self.folder),
            direction="maximize",
            pruner=make_pruner(self.pruner),
            load_if_exists=True,
        )
        if changed := _changed(study, space):
            raise ConfigError(
                f"{self.folder}: found a search with another space of "
                f"{', '.join(sorted(changed))}, expected the same: {ANOTHER_NAME}"
            )

        def sampler(more: int) -> BaseSampler:
            return instantiate(self.sampler, seed=self.sampler.seed + more)  # type: ignore[no-any-return]

        study.sampler = replayed(study, space, at_once, sampler)
        return study

    def _next(
        self, study: Study, space: Mapping[str, BaseDistribution], at_once: int, budget: int
    ) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and parameters of the next trials; interrupted trials come first.

        Interrupted trials get the others with which they were to run, and no more, as in a search
        without an interruption.
        """
        from optuna.trial import TrialState

        interrupted = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        batch = [(trial.number, dict(trial.params)) for trial in interrupted][:at_once]
        while len(batch) < at_once and len(study.trials) < budget:
            if batch and len(study.trials) % at_once == 0:
                break
            trial = study.ask(dict(space))
            batch.append((trial.number, dict(trial.params)))
        return batch

    def _write_best(
        self, sweep: SweepFolder, top: State, states: Sequence[State], at_once: int
    ) -> Path:
        """Writes the best job's settings as a file for conf/hparams, the search in its header."""
        cfg, path = self.composed(top.job), sweep.path / "best.yaml"
        choices = cfg.hydra.runtime.choices
        finished = [s for s in states if s.state == FINISHED]
        counts = {word: sum(s.state == word for s in states) for word in (PRUNED, DIVERGED, FAILED)}
        others = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        others = f" ({others})" if others else ""
        values = sorted((s.validation for s in finished if s.validation is not None), reverse=True)
        groups: list[str] = []
        best_settings, sampler = OmegaConf.create(), str(self.sampler._target_).rpartition(".")[2]
        own = [f"model.{k}" for k in cfg.model if not str(k).startswith("_") and k != "cache"]
        for key in dict.fromkeys([*own, *SETTINGS, *sweep.keys]):
            if key in choices:  # a group, such as optimizer
                groups.append(f"  - override /{key}: {choices[key]}")
            elif OmegaConf.select(cfg, key.rpartition(".")[0] or key) is not None:
                OmegaConf.update(best_settings, key, OmegaConf.select(cfg, key), force_add=True)
        head = [
            "# @package _global_",
            f"# {choices.model} on {choices.dataset}, chosen by {sweep.monitor} on the split of "
            f"seed {cfg.seed} among {len(states)} trials{others} of",
            f"# {sweep.plain_command}",
            f"# ({sampler}, {at_once} at a time). Best {sweep.monitor} {values[0]:.4f}, "
            f"median {statistics.median(values):.4f}, least {values[-1]:.4f}.",
        ]
        head += ["defaults:", *groups, ""] if groups else []
        write_text(path, "\n".join([*head, OmegaConf.to_yaml(best_settings)]))
        return path


def _changed(study: Study, space: Mapping[str, BaseDistribution]) -> list[str]:
    """Keys in which the space of a study differs.

    The last trial may lack keys, if the search was killed while they were drawn.
    """
    if not study.trials:
        return []
    first = study.trials[0]
    keys = first.distributions.keys() | (space.keys() if first.state.is_finished() else set())
    return [key for key in keys if first.distributions.get(key) != space.get(key)]


def search_space(
    overrides: Sequence[Override],
) -> tuple[dict[str, BaseDistribution], list[str]]:
    """The search space, and the overrides of all trials; the last override of a key counts.

    Raises:
        ConfigError: there is nothing to search, or a key in which trials must agree is searched.
    """
    space: dict[str, BaseDistribution] = {}
    fixed: dict[str, str] = {}
    for override in overrides:
        key = override.get_key_element()
        space.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            space[key] = _distribution(override)
        else:
            fixed[key] = f"{key}={override.get_value_element_as_str()}"
    if not space:
        raise ConfigError(
            "hydra.sweeper.params: found nothing to search, expected keys with choice(…) or "
            "interval(…); conf/search has the intervals of every trained model"
        )
    for key in space:
        group = key.lstrip("+").partition(".")[0]
        if group in FIXED_GROUPS or key in ("model", "settings"):
            raise ConfigError(f"{key}: found several, expected one: a search compares settings")
    return space, list(fixed.values())


def _distribution(override: Override) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if not override.is_interval_sweep():
        values: list[Any] = list(override.sweep_iterator(transformer=Transformer.encode))
        return CategoricalDistribution(values)
    value: Any = override.value()
    assert isinstance(value, IntervalSweep)
    low, high, log = value.start, value.end, "log" in value.tags
    if low is None or high is None or not low < high or (log and low <= 0):
        expected = "two numbers, the first below the second" + (" and above 0" if log else "")
        found = f"{override.get_key_element()}: found {override.get_value_string()}"
        raise ConfigError(f"{found}, expected {expected}")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def job_of(
    params: Mapping[str, Any], space: Mapping[str, BaseDistribution], fixed: Sequence[str]
) -> Job:
    """The job of a trial; numbers from an interval are rounded to three significant digits."""
    from optuna.distributions import FloatDistribution

    values = {
        key: f"{params[key]:.3g}" if isinstance(distribution, FloatDistribution) else params[key]
        for key, distribution in space.items()
    }
    words = [f"{k}={'null' if v is None else v}" for k, v in values.items()]
    return Job.of([*fixed, *words], list(space))


def _all_failed(study: Study) -> bool:
    from optuna.trial import TrialState

    return bool(study.trials) and all(t.state == TrialState.FAIL for t in study.trials)


def _report(study: Study, number: int, state: State) -> None:
    from optuna.trial import TrialState

    if state.state == FINISHED and state.validation is not None:
        study.tell(number, state.validation)
    elif state.state in (PRUNED, DIVERGED):  # of a failed trial the sampler would learn nothing
        study.tell(number, state=TrialState.PRUNED)
    else:
        study.tell(number, state=TrialState.FAIL)
