"""The base of both sweepers: chooses the sweep's folder, launches jobs and prints the table.

Hydra would compose the folder's name again in every job. Here the name is chosen once, before the
launcher is made. Every job gets it, and the name of its own run folder, as overrides.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from kgrec.config.checks import check, check_start
from kgrec.config.messages import any_user_error
from kgrec.config.targets import check_targets
from kgrec.errors import ConfigError
from kgrec.files import inside, make_folder, quoted
from kgrec.interrupts import on_interrupt
from kgrec.runs.folder import LOCK, RunFolder
from kgrec.runs.identity import difference, result_settings
from kgrec.runs.status import DIVERGED, update
from kgrec.sweeps.checks import (
    ANOTHER_NAME,
    check_experiments,
    check_keys,
    check_name,
    check_same_sweep,
)
from kgrec.sweeps.claims import check_no_worker
from kgrec.sweeps.device_pool import jobs_at_once
from kgrec.sweeps.folder import FILE, SweepFolder, sweeps_of
from kgrec.sweeps.launcher_workarounds import let_ray_join, mismatch_of_joblib
from kgrec.sweeps.launching import SweepError, launch
from kgrec.sweeps.progress import counted, line, say
from kgrec.sweeps.state import DONE, FAILED, FINISHED, INTERRUPTED, Job, State
from kgrec.sweeps.table import print_tables, write_table

log = logging.getLogger(__name__)

# Settings of workers: commands that differ in them are commands of one sweep.
OF_WORKERS = ("hydra.sweeper.shared=", "hydra.sweeper.lease=")
LISTING_SECONDS = 60.0  # a worker waits this long while others write the list of jobs


class KgrecSweeper(Sweeper):
    """Base of the sweepers.

    Args:
        params: keys of the configuration's own sweep and their values.
    """

    shared = False  # whether other processes work on the sweep, too

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params: dict[str, str] = (
            {} if params is None else {str(k): v for k, v in params.items()}
        )
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.launcher: Launcher
        self.folder: Path
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._invalid: set[str] = set()  # names of jobs that cannot be composed

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Prepares the sweeper; Hydra calls this before :meth:`sweep`."""
        self.hydra_context, self.config = hydra_context, config
        overrides = config.hydra.overrides
        of_sweeper = [
            o
            for o in overrides.hydra
            if o.startswith(("hydra/sweeper", "hydra.sweeper")) and not o.startswith(OF_WORKERS)
        ]
        task = [o for o in overrides.task if not o.startswith("sweep=")]
        self.words = [*of_sweeper, *task]
        self.typed = [o for o in [*overrides.hydra, *overrides.task] if o != "hydra.mode=MULTIRUN"]
        self.folder = self._choose_folder()
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = str(self.folder)  # the launcher's own files go there too
            if config.hydra.launcher.get("n_jobs") == -1:  # joblib would start one job per core
                config.hydra.launcher.n_jobs = jobs_at_once(config.trainer.accelerator)
            let_ray_join(config.hydra.launcher)
        if config.hydra.runtime.choices["hydra/launcher"] == "joblib" and (
            mismatch := mismatch_of_joblib()
        ):
            say(f"warning: {mismatch}")
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def _choose_folder(self) -> Path:
        """The folder that the command names, or that of an unfinished sweep, or a new folder."""
        name = OmegaConf.select(self.config, "sweep")
        typed = self.config.hydra.overrides.hydra
        folder_given = any(override.startswith("hydra.sweep.dir=") for override in typed)
        parent = Path(self.config.paths.logs).resolve() / "sweeps"
        if name is not None:
            path = inside(parent, str(name), "sweep")
            if folder_given:
                raise ConfigError(f"sweep: found {name!r} and hydra.sweep.dir, expected one")
            return path
        if folder_given:
            return Path(self.config.hydra.sweep.dir).resolve()
        if self.shared:
            raise ConfigError(
                "hydra.sweeper.shared: found no name of the sweep, expected sweep=NAME, the same "
                "for all workers"
            )
        earlier = list(sweeps_of(parent, self.words))
        for sweep in earlier:
            if not sweep.finished:
                say(f"resuming the unfinished sweep of the same overrides: {sweep.path}")
                return sweep.path
        if earlier:
            say(
                f"a sweep of the same overrides is finished: {earlier[0].path}\nThis command runs "
                f"all jobs again in a new sweep; {sweep_word(earlier[0].path)} shows the finished "
                "one"
            )
        return parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")

    def parsed(self, words: Sequence[str]) -> list[Override]:
        """Overrides of the configuration's own sweep, then of the command line."""
        listed = [f"{key}={value}" for key, value in self.params.items()]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*listed, *words])
        check_experiments(overrides)
        check_name(overrides)
        return [o for o in overrides if o.get_key_element() != "sweep"]

    def composed(self, job: Job) -> DictConfig:
        """The configuration of a job, with Hydra's own part."""
        if job.overrides not in self._composed:
            loader = self.hydra_context.config_loader
            cfg = loader.load_sweep_config(self.config, self.job_overrides(job))
            with read_write(cfg.hydra), open_dict(cfg.hydra):
                cfg.hydra.job.id, cfg.hydra.job.num = job.name, 0
                cfg.hydra.runtime.output_dir = str(self.folder / job.name)
            self._composed[job.overrides] = cfg
        return self._composed[job.overrides]

    def job_overrides(self, job: Job) -> list[str]:
        """All overrides that a launcher gets for a job."""
        places = {"hydra.sweep.dir": self.folder, "hydra.sweep.subdir": job.name}
        return [*job.overrides, *(f"{key}={quoted(str(path))}" for key, path in places.items())]

    def check(self) -> None:
        """Checks what all jobs have in common, before anything is written.

        Raises:
            ConfigError: a setting cannot work.
        """
        with _as_job(self.config) as cfg:
            check(cfg)
            check_targets(cfg)
            check_start(cfg)

    def begin(
        self, jobs: Sequence[Job], keys: Sequence[str], planned: int | None = None
    ) -> SweepFolder:
        """Checks all jobs before the first job runs, and writes the sweep's file.

        A job whose configuration cannot be composed is marked as failed, and the others run. If no
        job can be composed, the sweep is refused.

        Args:
            jobs: jobs to run.
            keys: keys that are varied.
            planned: number of jobs in all; None: the given jobs.

        Raises:
            ConfigError: the sweep, or the run folder of a job, has other settings.
        """
        self.check_same_sweep(jobs[0], keys)
        errors: dict[str, str] = {}
        for job in jobs:
            try:
                composed = self.composed(job)
            except Exception as error:  # Hydra raises many kinds
                errors[job.name] = any_user_error(error) or str(error)
                continue
            config_file = RunFolder(self.folder / job.name).config_file
            if not config_file.is_file():
                continue
            with _as_job(composed) as cfg:
                message = difference(config_file, result_settings(cfg))
            if message is not None:
                raise ConfigError(f"{self.folder}: {message}: {ANOTHER_NAME}")
        if len(errors) == len(jobs):
            raise ConfigError(errors[jobs[0].name])
        with self._alone(LISTING_SECONDS) if self.shared else contextlib.nullcontext():
            sweep = SweepFolder.open(
                self.folder, self.words, self.typed, jobs, keys, str(self.config.monitor), planned
            )
        for name, message in errors.items():
            (self.folder / name).mkdir(exist_ok=True)
            update(self.folder / name, state=FAILED, error=message)
        self._invalid |= errors.keys()
        return sweep

    def check_same_sweep(self, job: Job, keys: Sequence[str]) -> None:
        """Checks that the sweep's folder, if it has a sweep, has the settings of this job.

        Raises:
            ConfigError: the sweep varies other keys, or sets another value for all jobs.
        """
        check_keys(keys)
        if (self.folder / FILE).is_file():
            check_same_sweep(SweepFolder.read(self.folder), job, keys)

    def launch(self, sweep: SweepFolder, jobs: Sequence[Job]) -> list[State]:
        """Runs the unfinished jobs; returns the state of all jobs afterwards."""
        for job in jobs:
            if job.name in self._invalid:
                say(line(State.read(job, sweep.folder(job))))
        valid = [job for job in jobs if job.name not in self._invalid]
        self.run(sweep, valid)
        return [State.read(job, sweep.folder(job)) for job in jobs]

    def run(self, sweep: SweepFolder, jobs: Sequence[Job]) -> None:
        """Runs the unfinished jobs among those that can be composed."""
        launch(jobs, sweep, self.launcher, self.job_overrides)

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the sweep; Hydra calls this with the overrides of the command line."""
        make_folder(self.folder)
        try:
            with (
                contextlib.nullcontext() if self.shared else self._alone(),
                on_interrupt(self._stopped),
            ):
                if not self.shared:
                    check_no_worker(self.folder)
                return self._sweep(arguments)
        finally:
            if not (self.folder / FILE).is_file():  # refused before it started
                (self.folder / LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self.folder.rmdir()

    @contextlib.contextmanager
    def _alone(self, seconds: float = 2) -> Iterator[None]:
        """Keeps other processes from the sweep.

        Raises:
            ConfigError: another process is at work on it.
        """
        lock = FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=seconds)
        except Timeout as error:
            raise ConfigError(
                f"{self.folder}: found another process at work on this sweep, expected none "
                "(sweep=NAME starts another one)"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def _stopped(self) -> str | None:
        """Writes the state and the table of an interrupted sweep; returns how to resume it."""
        if not (self.folder / FILE).is_file():  # no job has begun
            return None
        hint = f"the same command with {sweep_word(self.folder)} resumes"
        if self.shared:  # the other jobs are those of other workers
            return hint
        sweep = SweepFolder.read(self.folder)
        states = sweep.states()
        for state in states:  # jobs of other processes, which ended with this one
            if state.state == INTERRUPTED:
                update(state.folder, state=INTERRUPTED, error=None)
        write_table(sweep, states)
        return hint

    def _sweep(self, arguments: list[str]) -> Any:
        raise NotImplementedError

    def end(
        self,
        sweep: SweepFolder,
        jobs: Sequence[Job],
        failures_allowed: bool = False,
        retry: str = "tries them again",
    ) -> None:
        """Prints the table of all jobs and writes it.

        Args:
            sweep: sweep that has been run.
            jobs: jobs that this command was to run.
            failures_allowed: whether the sweep counts as finished although jobs have failed.
            retry: effect of the same command, in words.

        Raises:
            SweepError: jobs have failed, and failures are not allowed; or no job has finished,
                because the training has diverged.
        """
        states = sweep.states()
        path = write_table(sweep, states)
        print_tables(sweep, states)
        say(f"{path} has this table with all columns")
        names = {job.name for job in jobs}
        unfinished = sum(s.state not in DONE for s in states if s.job.name in names)
        if unfinished and not failures_allowed:
            raise SweepError(
                f"{unfinished} of {counted(len(names))} did not finish; the same command with "
                f"{sweep_word(sweep.path)} {retry}"
            )
        sweep.close()
        diverged = sum(s.state == DIVERGED for s in states)
        if diverged and not any(s.state == FINISHED for s in states):
            raise SweepError(f"{diverged} of {counted(len(states))} diverged and none finished")


@contextlib.contextmanager
def _as_job(composed: DictConfig) -> Iterator[DictConfig]:
    """A configuration without Hydra's own part, to which its interpolations may refer."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(composed)
    try:
        yield OmegaConf.masked_copy(composed, [str(k) for k in composed if k != "hydra"])
    finally:
        HydraConfig.instance().cfg = before


def sweep_word(folder: Path) -> str:
    """The override by which a command names the sweep in this folder."""
    named = folder.parent.name == "sweeps"
    return f"sweep={folder.name}" if named else f"hydra.sweep.dir={folder}"
