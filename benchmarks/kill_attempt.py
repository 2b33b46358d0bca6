"""One attempt of a command, in a forked process that may be killed with SIGKILL.

A new process would import kgrec for seconds. Here the process that kills has imported everything,
has started no thread, and forks one child for each attempt; the child leads a process group of its
own, which is killed as a whole. The child reports through a pipe when a phase, such as an epoch,
begins and ends. So a kill may be aimed at a random moment in a phase. It may also be aimed at the
n-th change of a file: the child then kills itself before it opens a file for writing, renames or
removes one, or flushes one to the disk.

Linux only, because of pidfds.
"""

from __future__ import annotations

import functools
import importlib
import os
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

TIMEOUT = 300.0  # seconds; a command that takes longer hangs
OUTPUT = "output.txt"  # in the workspace: what all attempts have printed
MODULES = "modules.txt"  # in the workspace: what the last attempt that ended has imported
EVENT = struct.Struct("<BBd")  # phase, whether it begins, time

# Phases, with the functions that they are.
PHASES = {
    "preparing": "kgrec.data.loading.prepare",
    "writing the cache": "kgrec.data.cache._write",
    "a job": "kgrec.pipeline.run.run",
    "an epoch": "pytorch_lightning.loops.fit_loop._FitLoop.advance",
    "a checkpoint": "pytorch_lightning.trainer.trainer.Trainer.save_checkpoint",
    "the evaluation": "kgrec.pipeline.run.test",
    "the results": "kgrec.pipeline.run.save",
    "a trial chosen": "kgrec.sweeps.search.Search._next",
    "the end of a sweep": "kgrec.sweeps.sweeper.KgrecSweeper.end",
}
NAMES = tuple(PHASES)
OUTSIDE = "the start or between jobs"
CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass(frozen=True)
class Moment:
    """A moment at which a process is killed.

    Attributes:
        phase: name of a phase.
        number: which of its occurrences, from 1.
        delay: seconds after its begin.
    """

    phase: str
    number: int
    delay: float


@dataclass
class Attempt:
    """An attempt that has ended.

    Attributes:
        killed: whether it was killed.
        code: exit code, unless it was killed.
        phase: innermost phase in which it was killed.
        begins: begin of every phase by name, in seconds since the fork.
        lengths: duration of every phase that ended, by name.
    """

    killed: bool = False
    code: int = 0
    phase: str = OUTSIDE
    begins: dict[str, list[float]] = field(default_factory=dict)
    lengths: dict[str, list[float]] = field(default_factory=dict)


def attempt(
    command: Sequence[str], workspace: Path, moment: Moment | None = None, change: int | None = None
) -> Attempt:
    """Runs a command in a forked process, and kills it at a moment or before a change of a file.

    Args:
        command: name of the program, "train" or "kgrec", and its arguments.
        workspace: folder in which it runs.
        moment: moment of the kill.
        change: number of the change of a file, from 1, before which it is killed.
    """
    reading, writing = os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _child(command, workspace, writing, change)
    os.close(writing)
    process, result, inside = os.pidfd_open(pid), Attempt(), list[tuple[str, float]]()
    kill_at, status = (start + moment.delay if moment and not moment.phase else None), None
    try:
        while status is None:
            now = time.monotonic()
            until = kill_at if kill_at is not None else start + TIMEOUT
            ready, _, _ = select.select([reading, process], [], [], max(0.0, until - now))
            if reading in ready and _read(reading, result, inside, start) and moment:
                begins = result.begins.get(moment.phase, [])
                if kill_at is None and len(begins) >= moment.number:
                    kill_at = start + begins[moment.number - 1] + moment.delay
                continue
            if process not in ready and time.monotonic() < until:
                continue
            if process not in ready and kill_at is None:
                raise TimeoutError(f"{command} did not end within {TIMEOUT} s")
            _kill_group(pid)
            status = os.waitpid(pid, 0)[1]
        while _read(reading, result, inside, start):
            pass
    finally:
        if status is None:
            _kill_group(pid)
            os.waitpid(pid, 0)
        os.close(reading)
        os.close(process)
    result.killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    result.code = 0 if result.killed else os.waitstatus_to_exitcode(status)
    result.phase = inside[-1][0] if inside else OUTSIDE
    return result


def _kill_group(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group exists when the child has made it
        try:
            kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _read(pipe: int, result: Attempt, inside: list[tuple[str, float]], start: float) -> bool:
    """Reads events; False at the end of the pipe, or where nothing is left for now."""
    if not select.select([pipe], [], [], 0)[0]:
        return False
    data = os.read(pipe, EVENT.size * 64)
    for phase, begins, at in EVENT.iter_unpack(data[: len(data) // EVENT.size * EVENT.size]):
        name = NAMES[phase]
        if begins:
            result.begins.setdefault(name, []).append(at - start)
            inside.append((name, at))
        elif inside and inside[-1][0] == name:
            result.lengths.setdefault(name, []).append(at - inside.pop()[1])
    return bool(data)


# ------------------------------------------------------------ in the child


def _child(command: Sequence[str], workspace: Path, pipe: int, change: int | None) -> NoReturn:
    """Runs the command, and ends the process."""
    code, before = 70, set(sys.modules)
    try:
        os.setsid()
        os.chdir(workspace)
        out = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        for number, target in enumerate(PHASES.values()):
            _report(target, number, pipe)
        if change is not None:
            _kill_before(change, workspace)
        code = _main(command)
        Path(MODULES).write_text("\n".join(sys.modules.keys() - before))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _main(command: Sequence[str]) -> int:
    """The exit code of a program with arguments."""
    from hydra._internal.hydra import Hydra

    from kgrec import cli
    from kgrec.commands import train

    # Hydra composes once more, only to read hydra.mode, which no file sets.
    Hydra.get_mode = lambda *_, **__: None  # type: ignore[method-assign]
    program, *words = command
    sys.argv = ["train.py" if program == "train" else program, *words]
    try:
        train.main() if program == "train" else cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _report(target: str, number: int, pipe: int) -> None:
    """Makes a function write to the pipe when it begins and ends."""
    holder, name = _holder(target)
    function = getattr(holder, name)

    @functools.wraps(function)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        os.write(pipe, EVENT.pack(number, True, time.monotonic()))
        try:
            return function(*args, **kwargs)
        finally:
            os.write(pipe, EVENT.pack(number, False, time.monotonic()))

    setattr(holder, name, reporting)


def _holder(target: str) -> tuple[Any, str]:
    """The module or class that has the function."""
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            holder: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:-1]:
            holder = getattr(holder, part)
        getattr(holder, parts[-1])  # a renamed function must not pass unseen
        return holder, parts[-1]
    raise ModuleNotFoundError(target)


def _kill_before(change: int, workspace: Path) -> None:
    """Kills this process before it changes a file of the workspace for the n-th time."""
    count, place = 0, str(workspace)

    def counted() -> None:
        nonlocal count
        count += 1
        if count == change:
            os.kill(os.getpid(), signal.SIGKILL)

    def inside(path: Any) -> bool:
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        return os.path.abspath(text).startswith(place) and not text.endswith(".lock")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and inside(path):
                counted()
        elif event in CHANGES and inside(arguments[0]):
            counted()

    sys.addaudithook(hook)
    fsync = os.fsync

    def counted_fsync(descriptor: Any) -> None:
        counted()
        fsync(descriptor)

    os.fsync = counted_fsync  # type: ignore[assignment]
