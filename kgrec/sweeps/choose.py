"""All models on one data set, tuned alike within a budget of time.

1. Popularity, EASE and ItemKNN, which choose their own settings on validation, and every other
   model with its own settings.
2. Searches in rounds: in each round every model gets the same number of trials. A round begins
   only if it fits in the budget, with what the seeds will need.
3. The best setting of each model with further seeds. A seed begins only if it fits for all models.

The folder has a run folder or a sweep for each step, so the same command resumes. A training may
take an equal share of the budget; it then ends with a validation, and its best epoch counts.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kgrec.config.location import options
from kgrec.errors import ConfigError, DataError
from kgrec.evaluation.results import BASELINE
from kgrec.files import make_folder, quoted, write_json
from kgrec.interrupts import on_interrupt
from kgrec.runs.folder import LOCK, RunFolder
from kgrec.runs.status import read_status
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.progress import say
from kgrec.sweeps.state import DONE, State, best
from kgrec.sweeps.timed import Clock, train

FILE = "choose.json"
ALWAYS = (BASELINE, "ease", "itemknn")  # models that choose their settings by themselves
START = 8.0  # seconds that a process takes in addition to its run, before this is measured
TRAINING_SHARE = 0.5  # of the budget, for the first training of every model
SEED_SHARE = 0.4  # most of the budget that is kept for further seeds
LEAST_TRAINING = 5  # seconds
MARGIN = 1.25  # a further seed may take this much longer than the first


@dataclass
class Trial:
    """The best finished run of a model so far.

    Attributes:
        folder: run folder.
        value: validation metric.
        seconds: seconds of the run.
        settings: overrides that differ from the model's own settings.
    """

    folder: RunFolder
    value: float
    seconds: float
    settings: list[str]


@dataclass
class Choice:
    """One comparison of models, in a folder.

    Attributes:
        path: the folder.
        overrides: settings of all runs.
        models: models to tune, without :data:`ALWAYS`.
        trials: most trials of a model.
        seeds: seeds of the last step; the first is the seed of the search.
        monitor: validation metric that decides.
        clock: budget of time.
        limit: seconds that a training may take.
        errors: model to the error that ended its first run.
        complete: whether nothing was left out for lack of time.
        start: seconds that a process takes in addition to its run, as measured.
    """

    path: Path
    overrides: Sequence[str]
    models: Sequence[str]
    trials: int
    seeds: Sequence[int]
    monitor: str
    clock: Clock
    limit: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    complete: bool = True
    start: float = START

    @property
    def everyone(self) -> list[str]:
        """All models."""
        return [*ALWAYS, *self.models]

    def best(self, model: str) -> Trial | None:
        """The best run of a model on validation, of the search's seed."""
        own = RunFolder(self.path / "own" / model)
        trials = []
        if own.finished:
            trials.append(self._trial(own, []))
        if (top := best(self._states(model))) is not None:
            words = [f"{key}={value}" for key, value in top.job.varied.items()]
            trials.append(self._trial(RunFolder(top.folder), words))
        return max(trials, key=lambda trial: trial.value, default=None)

    def count(self, model: str) -> int:
        """Trials of a model that have ended; one for EASE, ItemKNN and popularity."""
        own = RunFolder(self.path / "own" / model).finished
        return int(own) + sum(state.ended for state in self._states(model))

    def runs(self, model: str) -> dict[int, RunFolder]:
        """Finished runs of a model's best setting, by seed."""
        trial = self.best(model)
        if trial is None:
            return {}
        runs = {self.seeds[0]: trial.folder}
        runs |= {seed: self._of_seed(model, seed, trial) for seed in self.seeds[1:]}
        return {seed: run for seed, run in runs.items() if run.finished}

    def shared_seeds(self) -> list[int]:
        """Seeds that all models with a run have."""
        runs = [runs for model in self.everyone if (runs := self.runs(model))]
        return [seed for seed in self.seeds if runs and all(seed in own for own in runs)]

    # ------------------------------------------------------------ steps

    def run(self) -> None:
        """Takes all steps that fit in the budget.

        Raises:
            DataError: popularity has failed, and so would all models.
        """
        with self._recorded():
            self._own_settings()
            self._search()
            self._further_seeds()

    def _own_settings(self) -> None:
        for model in self.everyone:
            folder = RunFolder(self.path / "own" / model)
            if folder.finished:
                continue
            if self.clock.left <= 0:
                self.complete = False
                return
            self._say(f"{model} with its own settings")
            begin = self.clock.spent
            if self._train(model, folder, [f"seed={self.seeds[0]}"]):
                self.start = self.clock.spent - begin - self._trial(folder, []).seconds
            else:
                self._note_failure(model, folder)
                if model == BASELINE and model in self.errors:
                    # Popularity has no settings, so the reason is in the data or in all settings.
                    raise DataError(self.errors[model])

    def _search(self) -> None:
        tuned = [model for model in self.models if self.count(model)]
        size = 1
        while tuned:
            done = {model: self.count(model) for model in tuned}
            behind = min(done.values())
            most = min(behind + size, self.trials)
            while most > behind and not self._fits(tuned, most, done):
                most -= max(1, (most - behind) // 2)
            if most <= behind:
                self.complete &= behind >= self.trials
                return
            for model in tuned:
                if done[model] < most:
                    value = self.best(model)
                    so_far = "" if value is None else f", best {self.monitor} {value.value:.4f}"
                    self._say(f"search of {model}: {done[model]} of {most} trials done{so_far}")
                    self._train_search(model, most - 1)
                    if self.count(model) == done[model]:  # it cannot be searched
                        self.complete &= self.clock.left > 0
                        tuned = [other for other in tuned if other != model]
            if self.clock.left <= 0:
                self.complete = False
                return
            size *= 2

    def _fits(self, tuned: Sequence[str], most: int, done: Mapping[str, int]) -> bool:
        """Whether a round up to ``most`` trials of each model fits, with the seeds after it."""
        needed = sum(
            self.start + (most - done[model]) * self._mean_seconds(model)
            for model in tuned
            if done[model] < most
        )
        of_seed = MARGIN * self._seed_seconds()
        # Time that is too short for a whole seed is better spent on the search.
        affordable = int(SEED_SHARE * self.clock.budget / of_seed) if of_seed else 0
        return needed + of_seed * min(affordable, len(self.seeds) - 1) <= self.clock.left

    def _further_seeds(self) -> None:
        for seed in self.seeds[1:]:
            todo = {
                model: trial
                for model in self.everyone
                if (trial := self.best(model)) and not self._of_seed(model, seed, trial).finished
            }
            needed = sum(self.start + trial.seconds for trial in todo.values())
            if todo and MARGIN * needed > self.clock.left:
                self.complete = False
                self._say(f"seed {seed} does not fit any more")
                return
            for model, trial in todo.items():
                self._say(f"{model} with seed {seed}")
                folder = self._of_seed(model, seed, trial)
                if not self._train(model, folder, [*trial.settings, f"seed={seed}"]):
                    self.complete = False
                if self.clock.left <= 0:
                    return

    # ------------------------------------------------------------ runs

    def _train(self, model: str, folder: RunFolder, words: Sequence[str]) -> bool:
        last = folder.checkpoint("last")
        resumed = [f"ckpt_path={quoted(str(last))}"] if last.exists() else []
        place = f"hydra.run.dir={quoted(str(folder.path))}"
        return train([*self._words(model), *words, *resumed, place], self.path / "log.txt",
                     self.clock)  # fmt: skip

    def _train_search(self, model: str, trials: int) -> None:
        words = ["-m", "hydra/sweeper=optuna", *self._words(model), f"seed={self.seeds[0]}"]
        words += [f"hydra.sweeper.n_trials={trials}"]
        words += [f"hydra.sweep.dir={quoted(str(self.path / 'search' / model))}"]
        train(words, self.path / "log.txt", self.clock)

    def _words(self, model: str) -> list[str]:
        given = {word.lstrip("+~").partition("=")[0] for word in self.overrides}
        usual = {"settings": "none", "logger": "csv"}
        words = [f"{key}={value}" for key, value in usual.items() if key not in given]
        limit = [] if model in ALWAYS else [f"trainer.max_time={{seconds:{self.limit}}}"]
        return [*self.overrides, f"model={model}", *words, *limit]

    def _of_seed(self, model: str, seed: int, trial: Trial) -> RunFolder:
        """The run folder of a further seed; another best setting has another folder."""
        return RunFolder(self.path / "seeds" / f"{model}-{trial.folder.path.name}" / str(seed))

    def _note_failure(self, model: str, folder: RunFolder) -> None:
        if self.clock.left <= 0:
            self.complete = False
            return
        status = read_status(folder.path)
        lines = (self.path / "log.txt").read_text(encoding="utf-8").strip().splitlines()
        self.errors[model] = str(status.get("error") or lines[-1].removeprefix("error: "))
        say(f"{model} failed: {self.errors[model]}")

    # ------------------------------------------------------------ state

    def _states(self, model: str) -> list[State]:
        try:
            return SweepFolder.read(self.path / "search" / model).states()
        except DataError:
            return []

    def _trial(self, folder: RunFolder, settings: list[str]) -> Trial:
        status = read_status(folder.path)
        # In a small catalogue the monitor of a run has a smaller cut-off.
        value = folder.metrics().get(str(status.get("monitor") or self.monitor), -1.0)
        return Trial(folder, value, float(status.get("seconds") or 0.0), settings)

    def _mean_seconds(self, model: str) -> float:
        own = RunFolder(self.path / "own" / model)
        seconds = [self._trial(own, []).seconds] if own.finished else []
        seconds += [s.seconds for s in self._states(model) if s.state in DONE and s.seconds]
        return sum(seconds) / max(1, len(seconds))

    def _seed_seconds(self) -> float:
        """Estimated seconds of one further seed for all models."""
        trials = [trial for model in self.everyone if (trial := self.best(model))]
        return sum(self.start + trial.seconds for trial in trials)

    def _say(self, text: str) -> None:
        say(f"[{_minutes(self.clock.spent)} of {_minutes(self.clock.budget)} min] {text}")
        self._write()

    def _write(self) -> None:
        facts = {"spent": self.clock.spent, "limit": self.limit, **self._data()}
        write_json(self.path / FILE, facts)

    def _data(self) -> dict[str, Any]:
        """What must not change when the same command resumes: settings, and files of own data."""
        roots = [word.partition("=")[2].strip("'\"") for word in self.overrides
                 if word.startswith("dataset.root=")]  # fmt: skip
        folders = [Path(root).expanduser() for root in roots if root != "null"]
        files = sorted(file for folder in folders for file in folder.glob("*") if file.is_file())
        stats = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return {"overrides": list(self.overrides), "files": stats}

    def _check_same(self, facts: dict[str, Any]) -> None:
        """Raises ConfigError where earlier commands in the folder had other settings or data."""
        for key, value in self._data().items():
            if key in facts and facts[key] != value:
                what = "other settings" if key == "overrides" else "other files in dataset.root"
                raise ConfigError(
                    f"{self.path}: found the results of {what}, expected those of the same "
                    "command on the same data; choose another --out, or remove the folder"
                )

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Locks the folder, reads what earlier commands have used, and writes it at the end.

        Raises:
            ConfigError: another process is at work in the folder.
        """
        make_folder(self.path)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(timeout=2)
        except Timeout as error:
            raise ConfigError(
                f"{self.path}: found another process at work, expected none"
            ) from error
        facts: dict[str, Any] = {}
        try:
            if (self.path / FILE).is_file():
                facts = json.loads((self.path / FILE).read_text(encoding="utf-8"))
                self._check_same(facts)
                say(f"resuming in {self.path}")
        except ConfigError:
            lock.release()
            raise
        try:
            self.clock = Clock(self.clock.budget, float(facts.get("spent", 0.0)))
            share = TRAINING_SHARE * self.clock.budget / max(1, len(self.models))
            self.limit = int(facts.get("limit") or max(LEAST_TRAINING, share))
            with on_interrupt(lambda: f"the same command resumes in {self.path}"):
                yield
        finally:
            self._write()
            lock.release()


def tuned_models(named: Sequence[str], trials: int) -> list[str]:
    """Models to tune: the named ones, or all with a file in conf/search.

    Raises:
        ConfigError: a model is unknown, or there is no Optuna to search with.
    """
    searched = options("search")
    for model in named:
        if model not in searched and model not in ALWAYS:
            raise ConfigError(
                f"--models: found {model!r}, expected some of {', '.join(searched)} (popularity, "
                "ease and itemknn are always there)"
            )
    if trials > 1 and importlib.util.find_spec("optuna") is None:
        raise ConfigError(
            "--trials: found no optuna, expected pip install -e '.[search]', or --trials 1"
        )
    return [model for model in dict.fromkeys(named or searched) if model not in ALWAYS]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f}"
