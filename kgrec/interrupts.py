"""Ctrl-C and SIGTERM: a command ends with one line and exit code 128 + number of the signal.

The first signal raises KeyboardInterrupt, so that all parts of kgrec close what they have opened.
Where Python cannot be relied on to pass the exception on, the process leaves at once: while a
module is imported, in a finalizer, and at the second signal. Both ways call the functions of
:func:`on_interrupt`, which write the state of the work, and both print the same line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Seconds in which a second signal is the same Ctrl-C: some launchers send it on to their children.
SAME = 0.5
LEAVE_SECONDS = 10  # time for the functions of `on_interrupt` in a process that leaves at once
GRACE = 20.0  # seconds that an interrupted child has to end
MASKS = hasattr(signal, "pthread_sigmask")  # not on Windows

Act = Callable[[], str | None]


class _Command:
    """What is known about the command that this process runs.

    Attributes:
        active: whether signals are handled, see :func:`ends_in_one_line`.
        process: number of the process; a forked child is not the command.
        signal: number of the first signal.
        at: time of the first signal, in seconds.
        acts: functions to call when the command is interrupted, the innermost last.
        hint: how to resume.
    """

    def __init__(self, active: bool = False) -> None:
        self.active = active
        self.process = os.getpid()
        self.signal: int | None = None
        self.at = 0.0
        self.acts: list[Act] = []
        self.hint: str | None = None

    @property
    def code(self) -> int:
        """Exit code of the interrupted command."""
        return 128 + (self.signal or signal.SIGINT)


_command = _Command()


@contextlib.contextmanager
def ends_in_one_line(whole_process: bool = False) -> Iterator[None]:
    """Ends an interrupted command with one line; a second signal ends it at once.

    Inside another such context this one does nothing.

    Args:
        whole_process: whether the process ends after the context. A signal then ends it without
            a word; the handlers from before the context would print a stack trace.
    """
    global _command  # noqa: PLW0603 - a process has one command
    if _command.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _command = _command, _Command(active=True)
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = _no_interrupt_lost
    handlers = {number: signal.signal(number, _handle) for number in SIGNALS}
    try:
        if MASKS:  # a parent may have held signals back until now
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        yield
    except BaseException as error:
        if not interrupted(error):
            raise
        threading.excepthook = lambda _: None  # threads that lose their work have nothing to say
        end_children()
        print(_line(), end="", file=sys.stderr, flush=True)  # noqa: T201
        sys.exit(_command.code)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, _end_quietly if whole_process else handler)
        if not whole_process:
            sys.unraisablehook, threading.excepthook = hooks
        _command = before


def interrupted(error: BaseException | None = None) -> bool:
    """Whether the command was interrupted.

    Args:
        error: error that ended the work. After a signal it may be of any kind, because libraries
            turn KeyboardInterrupt into errors of their own.
    """
    return _command.signal is not None or isinstance(error, KeyboardInterrupt)


@contextlib.contextmanager
def on_interrupt(act: Act) -> Iterator[None]:
    """Calls a function if the command is interrupted in this context.

    Args:
        act: quick function that waits for nothing. It returns how to resume, or None; of nested
            contexts the outermost answer is printed.
    """
    command = _command
    command.acts.append(act)
    try:
        yield
    except BaseException as error:
        if interrupted(error):
            _call(command, act)
        raise
    finally:
        command.acts.remove(act)


@contextlib.contextmanager
def kept_by_lightning() -> Iterator[None]:
    """Keeps KeyboardInterrupt, which Lightning's Trainer turns into SystemExit with code 1."""
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


# ------------------------------------------------------------------ children


@contextlib.contextmanager
def held_back(number: int = signal.SIGINT) -> Iterator[None]:
    """Holds a signal back, by default Ctrl-C, also from processes that start in this context.

    A process of kgrec lets Ctrl-C through as soon as it can answer. Any other process never sees
    it, and is ended by its parent.

    Args:
        number: number of the signal.
    """
    if not MASKS:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def call(command: Sequence[str], seconds: float | None = None, **options: Any) -> int:
    """Runs a program and returns its exit code; it ends before this process does.

    Args:
        command: program and arguments.
        seconds: time after which the program is ended; None: no limit.
        options: options of subprocess.Popen.

    Raises:
        TimeoutExpired: the time is over.
    """
    with held_back():
        process = subprocess.Popen(command, **options)
    try:
        return process.wait(seconds)
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE)


def end_children() -> None:
    """Terminates all processes that this one has started and that still run."""
    with contextlib.suppress(Exception):  # psutil may be half-imported
        import psutil

        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                child.terminate()


# ------------------------------------------------------------------ signals


def _handle(number: int, frame: FrameType | None) -> None:
    """Handles a signal; Python calls it in the main thread."""
    command, now = _command, time.monotonic()
    if os.getpid() != command.process:
        os._exit(128 + number)
    first = command.signal is None
    if first:
        command.signal, command.at = number, now
    elif now - command.at < SAME:
        return
    if not first or _importing(frame):
        _leave()
    raise KeyboardInterrupt


def _end_quietly(number: int, frame: FrameType | None) -> None:
    """Handles a signal after the end of the command, while Python closes the process."""
    end_children()
    os._exit(128 + number)


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported; imports turn KeyboardInterrupt into any other error."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _no_interrupt_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Leaves where Python drops KeyboardInterrupt: in finalizers and callbacks of C code."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _leave()
    if not interrupted():
        sys.__unraisablehook__(unraisable)


def _leave() -> NoReturn:
    """Ends the process at once."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(LEAVE_SECONDS)
    for act in reversed(_command.acts):
        _call(_command, act)
    end_children()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, _line().encode())  # sys.stderr may be in the middle of a line
    os._exit(_command.code)


def _call(command: _Command, act: Act) -> None:
    """Calls a function of :func:`on_interrupt`; nothing that fails in it is worth a trace."""
    with contextlib.suppress(Exception):
        command.hint = act() or command.hint


def _line() -> str:
    """What the command says at its end; of several processes of one run, the first speaks."""
    if any(os.environ.get(name, "0") != "0" for name in ("RANK", "LOCAL_RANK")):
        return ""
    # A line of a terminal may hold ^C or a bar, and its cursor may be hidden.
    start = "\r\x1b[K\x1b[?25h" if sys.stderr.isatty() else ""
    hint = f"; {_command.hint}" if _command.hint else ""
    return f"{start}interrupted{hint}\n"
