"""A search for settings with Optuna: ``-m hydra/sweeper=optuna model=kgcn dataset=music``.

The objective is the validation figure that ``monitor`` names, higher being better; the budget is a
number of trials. The study is kept in study.db in the sweep's folder, so a search goes on where it
stopped; the best settings are left in best.yaml, ready for conf/hparams.
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
from kgrec.sweeps.folder import FINISHED, Job, State, SweepFolder, best
from kgrec.sweeps.progress import say, words
from kgrec.sweeps.sweeper import ANOTHER_NAME, KgrecSweeper

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study

STUDY = "study.db"
# When so many trials have failed, and none has not, the search ends.
MOST_FAILURES = 3
# What figures are compared on, and by.
OF_ALL_TRIALS = ("seed", "monitor", "dataset", "protocol", "split", "ranking", "experiment")
# What best.yaml holds beside the model's own settings.
SETTINGS = ("optimizer.lr", "optimizer.weight_decay", "batch_size", "epochs", "patience")


class Search(KgrecSweeper):
    """Trials, a few at a time, each chosen by what those before it have found.

    Args:
        n_trials: the budget; those of earlier sittings and failed ones count.
        sampler: configuration of an Optuna sampler with a seed.
        at_once: trials side by side; None: as many as the launcher runs.
        params: key to the values or the interval that is searched.
    """

    def __init__(
        self,
        n_trials: int,
        sampler: DictConfig,
        at_once: int | None = None,
        params: DictConfig | None = None,
    ) -> None:
        super().__init__(params)
        self.n_trials, self.sampler, self.at_once = n_trials, sampler, at_once

    def _sweep(self, arguments: list[str]) -> Any:
        if importlib.util.find_spec("optuna") is None:
            raise ConfigError(
                "hydra/sweeper=optuna: found no optuna, expected pip install -e '.[search]'"
            )
        space, fixed = search_space(self.parsed(arguments))
        self.check()
        for name, value in (("n_trials", self.n_trials), ("at_once", self.at_once)):
            if value is not None and (type(value) is not int or value < 1):
                found = f"found {value!r}, expected an integer >= 1"
                raise ConfigError(f"hydra.sweeper.{name}: {found}")
        self._check_before(space, fixed)
        study = self._study(space)
        # Where all have failed, something else was wrong than their settings.
        most = self.n_trials + (len(study.trials) if _all_failed(study) else 0)
        say(f"search of {', '.join(space)}: {len(study.trials)} of {most} trials so far")
        at_once = self.at_once or int(self.config.hydra.launcher.get("n_jobs") or 1)
        sweep, begun = None, len(study.trials)
        while batch := self._next(study, space, at_once, most):
            trials = {number: job_of(params, space, fixed) for number, params in batch}
            jobs = list({job.name: job for job in trials.values()}.values())
            sweep = self.begin(jobs, list(space), planned=most)
            ended = {s.job.name: s for s in self.launch(sweep, jobs)}
            for number, job in trials.items():
                _tell(study, number, ended[job.name])
            if _all_failed(study) and len(study.trials) - begun >= MOST_FAILURES:
                say(f"the search ends here: all {len(study.trials)} trials so far have failed")
                break
        sweep = sweep or SweepFolder.read(self.folder)
        states = sweep.states()
        top = best(states)
        if top is not None:
            path = self._leave_best(sweep, top, states, at_once)
            say(f"best {sweep.monitor} {top.validation:.4f}: {words(top.job)}; kept as {path}")
        self.end(sweep, sweep.jobs, failures_allowed=top is not None, again="tries others")

    def _check_before(self, space: Mapping[str, BaseDistribution], fixed: Sequence[str]) -> None:
        """Refuses, before a study is begun, what no trial could be, and the folder of others."""
        some = {
            key: getattr(d, "choices", [getattr(d, "low", None)])[0] for key, d in space.items()
        }
        job = job_of(some, space, fixed)
        self.check_shared(job, list(space))
        self.composed(job)

    def _study(self, space: Mapping[str, BaseDistribution]) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name="kgrec",
            storage=f"sqlite:///{self.folder / STUDY}",
            direction="maximize",
            load_if_exists=True,
        )
        if study.trials and (before := study.trials[-1].distributions) != space:
            changed = [k for k in before.keys() | space.keys() if before.get(k) != space.get(k)]
            raise ConfigError(
                f"{self.folder}: found a search with another space of "
                f"{', '.join(sorted(changed))}, expected the same: {ANOTHER_NAME}"
            )
        # A search that goes on must not draw again what it drew when it began.
        study.sampler = instantiate(self.sampler, seed=self.sampler.seed + len(study.trials))
        return study

    def _next(
        self, study: Study, space: Mapping[str, BaseDistribution], at_once: int, most: int
    ) -> list[tuple[int, dict[str, Any]]]:
        """Numbers and parameters of the trials to come; those that were cut short go first."""
        from optuna.trial import TrialState

        open_ones = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        batch = [(trial.number, dict(trial.params)) for trial in open_ones][:at_once]
        while len(batch) < at_once and len(study.trials) < most:
            trial = study.ask(dict(space))
            batch.append((trial.number, dict(trial.params)))
        return batch

    def _leave_best(
        self, sweep: SweepFolder, top: State, states: Sequence[State], at_once: int
    ) -> Path:
        """Writes the best job's settings as a file for conf/hparams, the search in its header."""
        cfg, path = self.composed(top.job), sweep.path / "best.yaml"
        choices = cfg.hydra.runtime.choices
        done = [s for s in states if s.state == FINISHED]
        failed = f" ({len(states) - len(done)} failed)" if len(done) < len(states) else ""
        values = sorted((s.validation for s in done if s.validation is not None), reverse=True)
        groups: list[str] = []
        kept, sampler = OmegaConf.create(), str(self.sampler._target_).rpartition(".")[2]
        own = [f"model.{k}" for k in cfg.model if not str(k).startswith("_") and k != "cache"]
        for key in dict.fromkeys([*own, *SETTINGS, *sweep.keys]):
            if key in choices:  # a group, such as optimizer
                groups.append(f"  - override /{key}: {choices[key]}")
            elif OmegaConf.select(cfg, key.rpartition(".")[0] or key) is not None:
                OmegaConf.update(kept, key, OmegaConf.select(cfg, key), force_add=True)
        head = [
            "# @package _global_",
            f"# {choices.model} on {choices.dataset}, chosen by {sweep.monitor} on the split of "
            f"seed {cfg.seed} among {len(states)} trials{failed} of",
            f"# {sweep.plain_command}",
            f"# ({sampler}, {at_once} at a time). Best {sweep.monitor} {values[0]:.4f}, "
            f"median {statistics.median(values):.4f}, least {values[-1]:.4f}.",
        ]
        head += ["defaults:", *groups, ""] if groups else []
        write_text(path, "\n".join([*head, OmegaConf.to_yaml(kept)]))
        return path


def search_space(
    overrides: Sequence[Override],
) -> tuple[dict[str, BaseDistribution], list[str]]:
    """What is searched, and the overrides that all trials share; of a key the last one counts.

    Raises:
        ConfigError: nothing is searched, or a group of the configuration is.
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
            "interval(…); conf/search has those of every trained model"
        )
    for key in space:
        group = key.lstrip("+").partition(".")[0]
        if group in OF_ALL_TRIALS or key in ("model", "settings"):
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
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def job_of(
    params: Mapping[str, Any], space: Mapping[str, BaseDistribution], fixed: Sequence[str]
) -> Job:
    """A trial as a job; of numbers from an interval three digits count, more are not told apart."""
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


def _tell(study: Study, number: int, state: State) -> None:
    from optuna.trial import TrialState

    if state.state == FINISHED and state.validation is not None:
        study.tell(number, state.validation)
    else:
        study.tell(number, state=TrialState.FAIL)
