"""A worker of a shared sweep: runs jobs that no other worker has, until all jobs have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from hydra.plugins.launcher import Launcher

from kgrec.files import remove_leftovers
from kgrec.interrupts import on_interrupt
from kgrec.runs.folder import RunFolder
from kgrec.runs.status import update
from kgrec.sweeps.claims import Claim, Claims
from kgrec.sweeps.folder import SweepFolder
from kgrec.sweeps.launching import SweepError, launch_once
from kgrec.sweeps.progress import POLL_SECONDS, line, say
from kgrec.sweeps.state import DONE, FAILED, RUNNING, Job, State

MOST_DEATHS = 3  # workers that a job may end, one after another, before it counts as failed


def share(
    jobs: Sequence[Job],
    sweep: SweepFolder,
    launcher: Launcher,
    job_overrides: Callable[[Job], list[str]],
    lease: float,
) -> None:
    """Runs jobs until all of them have ended, here or in other workers.

    A job that had failed before this worker started is tried once more, by one worker. A job that
    other workers run is waited for, because it must be taken over if its worker dies.

    Args:
        jobs: jobs of the sweep.
        sweep: folder of the sweep, which all workers see.
        launcher: Hydra's basic launcher, which runs a job in this process.
        job_overrides: function from a job to all the overrides that the launcher gets.
        lease: seconds after which a worker without a heartbeat counts as dead.

    Raises:
        SweepError: the launcher starts no job.
    """
    claims, announced = Claims(sweep.path, lease), False
    unended = {job.name: job for job in jobs}
    failed_before = {
        job.name: claims.latest(job.name)
        for job in jobs
        if State.read(job, sweep.folder(job)).state == FAILED
    }

    def ended(state: State, claim: int) -> bool:
        """Whether a job has ended, given its latest claim before a claim of this worker."""
        failed = state.state == FAILED and failed_before.get(state.job.name) != claim
        return state.state in DONE or failed

    while unended:
        for name, job in list(unended.items()):
            state = State.read(job, sweep.folder(job))
            if ended(state, claims.latest(name)):
                del unended[name]
            elif state.state == RUNNING:  # the lock of its folder says so
                continue
            elif (claim := claims.take(name, int(state.status.get("epoch") or 0))) is not None:
                with claim, on_interrupt(claim.release):
                    # The job may have ended between the look at its state and the claim.
                    if not ended(State.read(job, state.folder), claim.number - 1):
                        _run(claim, job, sweep, launcher, job_overrides)
                break
        else:
            if unended and not announced:
                say("other workers have all jobs that are left; waiting for them")
                announced = True
            time.sleep(POLL_SECONDS)


def _run(
    claim: Claim,
    job: Job,
    sweep: SweepFolder,
    launcher: Launcher,
    job_overrides: Callable[[Job], list[str]],
) -> None:
    """Runs a claimed job, unless it has ended one worker after another."""
    folder = sweep.folder(job)
    if claim.deaths >= MOST_DEATHS:
        folder.mkdir(exist_ok=True)
        error = f"its worker died {claim.deaths} times in the same epoch (was there enough memory?)"
        update(folder, state=FAILED, error=error)
        say(line(State.read(job, folder)))
        return
    remove_leftovers(RunFolder(folder).status_file)
    if launch_once([job], sweep, launcher, job_overrides):
        raise SweepError(f"{sweep.path}: the launcher started no job")
