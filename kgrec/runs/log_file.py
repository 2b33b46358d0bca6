"""The log file of a run: nothing is written before the process has the run folder.

Hydra sets up ``train.log`` before a run starts. The error of a run that is refused, because another
run is or was at work in the folder, belongs to the console and not into the log of that run.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from kgrec.disk_errors import disk_error


class LogFile(logging.FileHandler):
    """Writes the log file; an error of the disk is one line on the error output, said once.

    Python's own handler prints a stack trace for every line that a full disk does not take, and
    raises where the file cannot be opened. A run does not fail for its log.
    """

    _failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Writes a line."""
        try:
            super().emit(record)
        except OSError as error:  # the file cannot be opened
            self._say(error)

    def flush(self) -> None:
        """Writes what is in memory; an error must not keep Python from closing the file."""
        try:
            super().flush()
        except OSError as error:
            self._say(error)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Says an error of the disk once; other errors are printed by Python."""
        error = sys.exception()
        if isinstance(error, OSError):
            self._say(error)
        else:
            super().handleError(record)

    def close(self) -> None:
        """Closes the file; lines that the disk did not take are lost."""
        with contextlib.suppress(OSError):
            super().close()

    def _say(self, error: OSError) -> None:
        if not self._failed:
            self._failed = True
            message = disk_error(Path(self.baseFilename), error)
            print(f"warning: {message}; the log is not complete", file=sys.stderr)  # noqa: T201


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
