"""The log file of a run: nothing is written before the process has the run folder.

Hydra sets up ``train.log`` before a run starts. The error of a run that is refused, because another
run is or was at work in the folder, belongs to the console and not into the log of that run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator


def hold_back() -> None:
    """Keeps all messages out of the log files until :func:`let_through`."""
    for handler in _file_handlers():
        handler.addFilter(_nothing)


def let_through() -> None:
    """Writes messages into the log files from now on."""
    for handler in _file_handlers():
        handler.removeFilter(_nothing)


def _file_handlers() -> Iterator[logging.Handler]:
    return (h for h in logging.getLogger().handlers if isinstance(h, logging.FileHandler))


def _nothing(record: logging.LogRecord) -> bool:
    return False
