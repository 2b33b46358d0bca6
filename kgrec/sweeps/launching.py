"""Jobs given to one of Hydra's launchers until each has ended, whatever becomes of the launcher."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.plugins.launcher import Launcher

from kgrec.errors import KgrecError
from kgrec.runs.folder import STATUS
from kgrec.runs.status import held, update
from kgrec.sweeps.folder import FAILED, FINISHED, RUNNING, WAITING, Job, State, SweepFolder
from kgrec.sweeps.progress import POLL_SECONDS, Watching, line, say

log = logging.getLogger(__name__)

# A job whose process was killed is begun once more.
MOST_ATTEMPTS = 2


class SweepError(KgrecError):
    """Some jobs of a sweep have failed; the others are done."""


def launch(
    jobs: Sequence[Job],
    sweep: SweepFolder,
    launcher: Launcher,
    given: Callable[[Job], list[str]],
) -> None:
    """Runs those of the jobs that are not finished.

    A launcher whose pool breaks, as when a process is killed, takes other jobs along. Those that
    had not begun are launched again together, the others one by one, so that the next to be killed
    is the one to blame.

    Args:
        jobs: to be done; how they end their folders say.
        sweep: whose.
        launcher: of Hydra, or of a plugin.
        given: the overrides that the launcher gets for a job.

    Raises:
        SweepError: the launcher begins none.
    """
    attempts: Counter[str] = Counter()
    unique = {job.name: job for job in jobs}.values()
    todo = [job for job in unique if State.read(job, sweep.folder(job)).state != FINISHED]
    batches = [todo] if todo else []
    while batches:
        batch = batches.pop(0)
        with _interrupts_kept():
            left = _launch_once(batch, sweep, launcher, given)
        waiting = [state.job for state in left if state.state == WAITING]
        if len(waiting) == len(batch):
            raise SweepError(f"{sweep.path}: no job could be begun")
        for state in left:
            if state.state == WAITING:
                continue
            attempts[state.job.name] += 1
            if attempts[state.job.name] < MOST_ATTEMPTS:
                batches.append([state.job])
                continue
            what = "its process was killed, twice (was there enough memory?)"
            update(state.folder, state=FAILED, error=what)
            say(line(State.read(state.job, state.folder)))
        if waiting:
            batches.insert(0, waiting)


def _launch_once(
    batch: Sequence[Job], sweep: SweepFolder, launcher: Launcher, given: Callable[[Job], list[str]]
) -> list[State]:
    """Gives jobs to the launcher; how those stand that have not ended."""
    for job in batch:  # what an earlier launch left
        if (sweep.folder(job) / STATUS).is_file() and not held(sweep.folder(job)):
            update(sweep.folder(job), state=WAITING, error=None)
    with Watching(sweep, batch), _each_by_itself():
        try:
            launcher.launch([given(job) for job in batch], 0)
        except Exception as error:
            log.debug("the launcher broke down", exc_info=True)
            broken = str(error).strip().splitlines() or [type(error).__name__]
            say(f"the launcher broke down ({broken[0]}); what it left is taken up again")
        while True:  # a job may outlive its launcher
            states = [State.read(job, sweep.folder(job)) for job in batch]
            if not any(state.state == RUNNING for state in states):
                return [state for state in states if not state.ended]
            time.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Raises KeyboardInterrupt at the latest when the context ends, if there was Ctrl-C in it.

    Python drops what is raised in a finalizer, and joblib runs some when it closes its pool.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    noted = threading.Event()

    def note(number: int, frame: Any) -> None:
        noted.set()
        signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if noted.is_set():
        raise KeyboardInterrupt


@contextlib.contextmanager
def _each_by_itself() -> Iterator[None]:
    """Makes Hydra's submitit launcher wait for all jobs, also where one of them was killed.

    It asks each for its result and would end at the first that has none.
    """
    try:
        import submitit
    except ImportError:
        yield
        return
    kind: Any = submitit.Job
    ask = kind.results

    def answer(job: Any) -> Any:
        try:
            return ask(job)
        except Exception as error:  # of many kinds: killed, out of time, refused
            log.debug("a job has no result: %s", error)
            return [None]

    kind.results = answer
    try:
        yield
    finally:
        kind.results = ask
