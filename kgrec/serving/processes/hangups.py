"""SIGHUP while a server starts: it is held back, and delivered when the runs are loaded."""

from __future__ import annotations

import signal
from contextlib import AbstractContextManager, nullcontext

from kgrec.interrupts import held_back


def held_hangups() -> AbstractContextManager[None]:
    """Holds SIGHUP back, which would end a process that still starts; new processes inherit it."""
    return held_back(signal.SIGHUP) if hasattr(signal, "SIGHUP") else nullcontext()  # Windows


def release_hangups() -> None:
    """Delivers a SIGHUP that was held back, and further ones."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def take_hangup() -> bool:
    """Whether a SIGHUP was held back; it is gone then."""
    if not hasattr(signal, "SIGHUP") or signal.SIGHUP not in signal.sigpending():
        return False
    signal.sigwait({signal.SIGHUP})
    return True
