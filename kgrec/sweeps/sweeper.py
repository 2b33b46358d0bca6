"""What Hydra's sweepers have in common here: a folder of their own, jobs that go on, a table.

Hydra would make the folder's name anew in every job. It is made once, before a launcher is, and
given to every job as an override, with the name of the job's own folder.
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
from kgrec.config.location import conf_dir
from kgrec.config.messages import any_user_error
from kgrec.config.targets import check_targets
from kgrec.errors import ConfigError
from kgrec.runs.folder import LOCK, RunFolder
from kgrec.runs.identity import difference, result_settings, role
from kgrec.runs.status import update
from kgrec.sweeps.device_pool import jobs_at_once
from kgrec.sweeps.folder import (
    FAILED,
    FILE,
    FINISHED,
    Job,
    State,
    SweepFolder,
    shared,
    unfinished_like,
)
from kgrec.sweeps.launching import SweepError, launch
from kgrec.sweeps.progress import counted, line, say
from kgrec.sweeps.table import print_tables, write_table

log = logging.getLogger(__name__)

ANOTHER_NAME = (
    "a sweep goes on with the settings that it began with; give it another name (sweep=NAME)"
)


class KgrecSweeper(Sweeper):
    """Chooses the folder, launches what is unfinished, and tells how it went.

    Args:
        params: of the configuration: keys and the values that they sweep over.
    """

    def __init__(self, params: DictConfig | None = None) -> None:
        self.params: dict[str, str] = (
            {} if params is None else {str(k): v for k, v in params.items()}
        )
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.launcher: Launcher
        self.folder: Path
        self._composed: dict[tuple[str, ...], DictConfig] = {}
        self._wrong: set[str] = set()  # jobs that cannot be composed

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """As Hydra calls it, before :meth:`sweep`."""
        self.hydra_context, self.config = hydra_context, config
        overrides = config.hydra.overrides
        of_sweeper = [
            o for o in overrides.hydra if o.startswith(("hydra/sweeper", "hydra.sweeper"))
        ]
        task = [o for o in overrides.task if not o.startswith("sweep=")]
        self.words = [*of_sweeper, *task]
        self.typed = [o for o in [*overrides.hydra, *overrides.task] if o != "hydra.mode=MULTIRUN"]
        self.folder = self._choose_folder()
        with read_write(config), open_dict(config):
            config.hydra.sweep.dir = str(self.folder)  # the launcher's own files go there too
            if config.hydra.launcher.get("n_jobs") == -1:  # joblib would take a core each
                config.hydra.launcher.n_jobs = jobs_at_once(config.trainer.accelerator)
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def _choose_folder(self) -> Path:
        """Of the sweep that is meant, or a new one."""
        name = OmegaConf.select(self.config, "sweep")
        given = any(o.startswith("hydra.sweep.dir=") for o in self.config.hydra.overrides.hydra)
        parent = Path(self.config.paths.logs).resolve() / "sweeps"
        if name is not None:
            if str(name) in ("", ".", "..") or Path(str(name)).name != str(name):
                raise ConfigError(f"sweep: found {name!r}, expected a name, without folders")
            if given:
                raise ConfigError(f"sweep: found {name!r} and hydra.sweep.dir, expected one")
            return parent / str(name)
        if given:
            return Path(self.config.hydra.sweep.dir).resolve()
        if (found := unfinished_like(parent, self.words)) is not None:
            say(f"an unfinished sweep of the same overrides is there and is gone on with: {found}")
            return found
        return parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")

    def parsed(self, words: Sequence[str]) -> list[Override]:
        """Overrides of the configuration's own sweep and of the command line, the latter last."""
        listed = [f"{key}={value}" for key, value in self.params.items()]
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        found = parser.parse_overrides([*listed, *words])
        refuse_lost_sweeps(found)
        for override in found:
            if override.get_key_element() == "sweep" and override.is_sweep_override():
                told = override.get_value_string()
                raise ConfigError(f"sweep: found {told!r}, expected one name")
        return [o for o in found if o.get_key_element() != "sweep"]

    def composed(self, job: Job) -> DictConfig:
        """The configuration that a job will have, with Hydra's own part."""
        if job.overrides not in self._composed:
            loader = self.hydra_context.config_loader
            cfg = loader.load_sweep_config(self.config, self.given(job))
            with read_write(cfg.hydra), open_dict(cfg.hydra):
                cfg.hydra.job.id, cfg.hydra.job.num = job.name, 0
                cfg.hydra.runtime.output_dir = str(self.folder / job.name)
            self._composed[job.overrides] = cfg
        return self._composed[job.overrides]

    def given(self, job: Job) -> list[str]:
        """All overrides that a launcher gets for a job."""
        places = {"hydra.sweep.dir": self.folder, "hydra.sweep.subdir": job.name}
        return [*job.overrides, *(f"{key}={quoted(str(at))}" for key, at in places.items())]

    def check(self) -> None:
        """Checks what all jobs have in common, before anything is written.

        Raises:
            ConfigError: it cannot work.
        """
        with _as_job(self.config) as plain:
            check(plain)
            check_targets(plain)
            check_start(plain)

    def begin(
        self, jobs: Sequence[Job], keys: Sequence[str], planned: int | None = None
    ) -> SweepFolder:
        """Checks the jobs before any of them runs, and writes down what is to be done.

        A job whose configuration cannot even be composed fails here, and stops no other; where none
        can be, all is refused.

        Args:
            jobs: that are known by now.
            keys: settings that are varied.
            planned: how many jobs there will be in all; None: these.

        Raises:
            ConfigError: settings other than those that the sweep, or a job's folder, has.
        """
        self.check_shared(jobs[0], keys)
        wrong: dict[str, str] = {}
        for job in jobs:
            try:
                whole = self.composed(job)
            except Exception as problem:  # whatever Hydra says of it
                wrong[job.name] = any_user_error(problem) or str(problem)
                continue
            kept = RunFolder(self.folder / job.name).config_file
            if not kept.is_file():
                continue
            with _as_job(whole) as plain:
                told = difference(kept, result_settings(plain))
            if told is not None:
                raise ConfigError(f"{self.folder}: {told}: {ANOTHER_NAME}")
        if len(wrong) == len(jobs):
            raise ConfigError(wrong[jobs[0].name])
        sweep = SweepFolder.open(
            self.folder, self.words, self.typed, jobs, keys, str(self.config.monitor), planned
        )
        for name, told in wrong.items():
            (self.folder / name).mkdir(exist_ok=True)
            update(self.folder / name, state=FAILED, error=told)
        self._wrong |= wrong.keys()
        return sweep

    def check_shared(self, job: Job, keys: Sequence[str]) -> None:
        """Checks that a sweep that is there already has the settings of this job.

        Raises:
            ConfigError: it varies, or sets for all jobs, something else.
        """
        if "monitor" in keys:
            raise ConfigError("monitor: found several, expected one: jobs are compared by it")
        if not (self.folder / FILE).is_file():
            return
        about = SweepFolder.read(self.folder).about
        if set(about["keys"]) != set(keys):
            raise ConfigError(
                f"{self.folder}: found a sweep over {_listed(about['keys'])}, expected one over "
                f"{_listed(keys)}: {ANOTHER_NAME}"
            )
        found, wanted = about["shared"], shared(job, keys)
        for key in sorted(found.keys() | wanted.keys()):
            if found.get(key) != wanted.get(key) and role(key).results:
                raise ConfigError(
                    f"{self.folder}: found a sweep with {key} {found.get(key, 'not set')}, "
                    f"expected {wanted.get(key, 'not set')}: {ANOTHER_NAME}"
                )

    def launch(self, sweep: SweepFolder, jobs: Sequence[Job]) -> list[State]:
        """Runs those of the jobs that are not finished, and says how each of all stands then."""
        for job in jobs:
            if job.name in self._wrong:
                say(line(State.read(job, sweep.folder(job))))
        launch([j for j in jobs if j.name not in self._wrong], sweep, self.launcher, self.given)
        return [State.read(job, sweep.folder(job)) for job in jobs]

    def sweep(self, arguments: list[str]) -> Any:
        """As Hydra calls it, with the overrides of the command line."""
        lock = FileLock(self.folder / LOCK)
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=2)
        except Timeout as error:
            raise ConfigError(
                f"{self.folder}: found another process at work on this sweep, expected none "
                "(sweep=NAME begins another one)"
            ) from error
        try:
            return self._sweep(arguments)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
            if (self.folder / FILE).is_file():
                sweep = SweepFolder.read(self.folder)
                write_table(sweep, sweep.states())
            say(f"interrupted; the same command with {sweep_word(self.folder)} goes on")
            raise SystemExit(130) from None
        finally:
            lock.release()
            if not (self.folder / FILE).is_file():  # refused before it began
                (self.folder / LOCK).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    self.folder.rmdir()

    def _sweep(self, arguments: list[str]) -> Any:
        raise NotImplementedError

    def end(
        self,
        sweep: SweepFolder,
        jobs: Sequence[Job],
        failures_allowed: bool = False,
        again: str = "tries them again",
    ) -> None:
        """Prints and keeps the table of all jobs.

        Args:
            sweep: that has been run.
            jobs: those that this command was to do.
            failures_allowed: whether it counts as finished although some have failed.
            again: what the same command would do.

        Raises:
            SweepError: some have, and should not.
        """
        states = sweep.states()
        path = write_table(sweep, states)
        print_tables(sweep, states)
        say(f"{sweep.path}: the table is in {path.name}")
        names = {job.name for job in jobs}
        bad = sum(s.state != FINISHED for s in states if s.job.name in names)
        if bad and not failures_allowed:
            raise SweepError(
                f"{bad} of {counted(len(names))} did not finish; the same command with "
                f"{sweep_word(sweep.path)} {again}"
            )
        sweep.close()


@contextlib.contextmanager
def _as_job(whole: DictConfig) -> Iterator[DictConfig]:
    """A configuration without Hydra's own part, to which its interpolations may still refer."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(whole)
    try:
        yield OmegaConf.masked_copy(whole, [str(k) for k in whole if k != "hydra"])
    finally:
        HydraConfig.instance().cfg = before


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(keys) or "nothing"


def sweep_word(folder: Path) -> str:
    """How a command names the sweep in this folder."""
    named = folder.parent.name == "sweeps"
    return f"sweep={folder.name}" if named else f"hydra.sweep.dir={folder}"


def refuse_lost_sweeps(overrides: Sequence[Override]) -> None:
    """Refuses to sweep over experiments that carry sweeps of their own, which would be lost.

    Raises:
        ConfigError: one does.
    """
    for override in overrides:
        if override.get_key_element() != "experiment" or not override.is_sweep_override():
            continue
        for name in map(str, override.sweep_iterator()):
            path = conf_dir() / "experiment" / f"{name}.yaml"
            found = OmegaConf.load(path) if path.is_file() else OmegaConf.create()
            if OmegaConf.select(found, "hydra.sweeper.params"):
                raise ConfigError(
                    f"experiment: found several, of which {name} carries a sweep of its own that "
                    "would be lost, expected one; kgrec reproduce takes several, one after another"
                )


def quoted(text: str) -> str:
    """Text as a value of Hydra's grammar, whose own signs it may hold."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
