"""Launching the jobs of a sweep until each one has ended, even if the launcher breaks down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from hydra.plugins.launcher import Launcher

from kgrec.errors import KgrecError
from kgrec.files import remove_leftovers
from kgrec.interrupts import interrupted
from kgrec.runs.folder import RunFolder
from kgrec.runs.status import held, update
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.launcher_workarounds import all_submitit_jobs_awaited, held_back_from_workers
from kgrec.sweeps.progress import POLL_SECONDS, Watching, line, say
from kgrec.sweeps.state import DONE, FAILED, RUNNING, WAITING, Job, State

log = logging.getLogger(__name__)


class SweepError(KgrecError):
    """Some jobs of a sweep have failed."""


def launch(
    jobs: Sequence[Job],
    sweep: SweepFolder,
    launcher: Launcher,
    job_overrides: Callable[[Job], list[str]],
) -> None:
    """Runs the unfinished jobs; their folders say how they ended.

    A killed job may break the launcher's pool of processes, and then its neighbours are cut short
    too. Jobs that have not started are launched again together. Each job that was cut short is
    then resumed once, one at a time. A job that is cut short again kills its own process, and
    it counts as failed.

    Args:
        jobs: jobs to run.
        sweep: folder of the sweep.
        launcher: launcher of Hydra or of a plugin.
        job_overrides: function from a job to all the overrides that the launcher gets.

    Raises:
        SweepError: the launcher starts no job.
    """
    unique = {job.name: job for job in jobs}.values()
    waiting = [job for job in unique if State.read(job, sweep.folder(job)).state not in DONE]
    for job in unique:  # one may have been killed right after its metrics
        remove_leftovers(RunFolder(sweep.folder(job)).status_file)
    cut_short: list[Job] = []
    while waiting:
        unended = launch_once(waiting, sweep, launcher, job_overrides)
        not_started = [state.job for state in unended if state.state == WAITING]
        if len(not_started) == len(waiting):
            raise SweepError(f"{sweep.path}: the launcher started no job")
        cut_short += [state.job for state in unended if state.state != WAITING]
        waiting = not_started
    for job in cut_short:
        for state in launch_once([job], sweep, launcher, job_overrides):
            error = "its process was killed, twice (was there enough memory?)"
            update(state.folder, state=FAILED, error=error)
            say(line(State.read(job, state.folder)))


def launch_once(
    batch: Sequence[Job],
    sweep: SweepFolder,
    launcher: Launcher,
    job_overrides: Callable[[Job], list[str]],
) -> list[State]:
    """Gives jobs to the launcher and waits for them; returns the jobs that have not ended."""
    for job in batch:  # so that "waiting" means: not started by this launch
        folder = sweep.folder(job)
        if RunFolder(folder).status_file.is_file() and not held(folder):
            update(folder, state=WAITING, error=None)
    with held_back_from_workers(), Watching(sweep, batch), all_submitit_jobs_awaited():
        try:
            launcher.launch([job_overrides(job) for job in batch], 0)
        except Exception as error:
            if interrupted():
                raise
            log.debug("the launcher broke down", exc_info=True)
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            say(f"the launcher broke down ({first_line}); its unfinished jobs are launched again")
        while True:  # a job may outlive its launcher
            states = [State.read(job, sweep.folder(job)) for job in batch]
            if not any(state.state == RUNNING for state in states):
                return [state for state in states if not state.ended]
            time.sleep(POLL_SECONDS)
