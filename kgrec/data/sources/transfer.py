"""Transfer of one file over HTTP, bounded in size and in time."""

from __future__ import annotations

import logging
import shutil
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from kgrec.disk_errors import disk_error
from kgrec.errors import DataError, DiskError, KgrecError

log = logging.getLogger(__name__)

WINDOW = 60.0
"""Seconds over which the rate of a transfer is measured."""

LEAST_RATE = 1024
"""Bytes per second; a slower transfer is given up."""

_CHUNK = 1 << 13
_HTML = (b"<!doctype html", b"<html")


class DownloadError(DataError):
    """A file could not be fetched, or its content is wrong."""


class _DroppedError(DownloadError):
    """The connection broke or the server failed; a second try may help."""


def fetch(url: str, target: Path, max_bytes: int) -> None:
    """Fetches a file. After a broken connection it is fetched once more, from its beginning.

    Args:
        url: address, http or https.
        target: path of the new file; its folder exists.
        max_bytes: upper bound of the size.

    Raises:
        DownloadError: the server cannot be reached, refuses, sends less than it declares, more
            than ``max_bytes`` or a page instead of a file, or is too slow.
        DiskError: the file cannot be written.
    """
    log.info("downloading %s", url)
    try:
        _try(url, target, max_bytes)
    except _DroppedError as error:
        log.warning("%s; trying once more", error)
        _try(url, target, max_bytes)


def check_room(path: Path, needed: int) -> None:
    """Raises DiskError if the disk has no room for a new file of ``needed`` bytes."""
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise DiskError(f"{path}: found {free:,} bytes free, expected {needed:,} bytes")


def check_size(name: str, size: int, max_bytes: int) -> None:
    """Raises DownloadError if a size is above its bound."""
    if size > max_bytes:
        raise DownloadError(
            f"{name}: found {size:,} bytes or more, expected at most {max_bytes:,} (max_bytes of "
            "the file in dataset.sources)"
        )


def _try(url: str, target: Path, max_bytes: int) -> None:
    """One try, in a thread: no phase of a transfer, from the connection on, can block the caller.

    requests bounds the time between two bytes alone, so a server that sends one byte now and then
    would keep it for ever.
    """
    from tqdm import tqdm

    transfer = _Transfer(url, target, max_bytes)
    thread = threading.Thread(target=transfer.run, name=f"download {url}", daemon=True)
    begin, before = time.monotonic(), 0
    with tqdm(
        desc=target.name, unit="B", unit_scale=True, leave=False, disable=not sys.stderr.isatty()
    ) as bar:
        thread.start()
        try:
            while thread.is_alive():
                thread.join(min(0.2, WINDOW / 5))
                bar.total = transfer.declared
                bar.update(transfer.received - bar.n)
                if time.monotonic() - begin < WINDOW or not thread.is_alive():
                    continue
                if transfer.received - before < LEAST_RATE * WINDOW:
                    raise DownloadError(
                        f"{url}: found {transfer.received - before:,} bytes in {WINDOW:g} s, "
                        f"expected at least {LEAST_RATE:,} a second"
                    )
                begin, before = time.monotonic(), transfer.received
                log.info("%s: %s of %s", target.name, *transfer.progress())
        finally:  # of a rate too low and of Ctrl-C too
            transfer.stopped.set()
    if transfer.error is not None:
        raise transfer.error


class _Transfer:
    """One transfer.

    Attributes:
        received: bytes written up to now.
        declared: size that the server declares, or None.
        error: why the transfer failed, or None.
        stopped: whether the transfer shall end; it then writes nothing more.
    """

    def __init__(self, url: str, target: Path, max_bytes: int) -> None:
        self._url, self._target, self._max_bytes = url, target, max_bytes
        self.received, self._begun = 0, False
        self.declared: int | None = None
        self.error: KgrecError | None = None
        self.stopped = threading.Event()

    def progress(self) -> tuple[str, str]:
        """Bytes received and declared, for people."""
        declared = "?" if self.declared is None else f"{self.declared:,}"
        return f"{self.received:,}", f"{declared} bytes"

    def run(self) -> None:
        """Runs the transfer; keeps an error."""
        import requests

        try:
            self._run()
        except KgrecError as error:
            self.error = error
        except requests.RequestException as error:  # an OSError too
            reason = getattr(error.args[0], "reason", error) if error.args else error
            kind = _DroppedError if self._begun else DownloadError
            self.error = kind(f"{self._url}: {short(str(reason))}")
        except Exception as error:  # of many kinds, from the disk and from an odd address
            problem = DownloadError(f"{self._url}: {short(str(error))}")
            self.error = disk_error(self._target, error, self.declared) or problem

    def _run(self) -> None:
        import requests

        # Compressed transfer would hide the size; the content is not read twice.
        headers = {"Accept-Encoding": "identity"}
        with closing(requests.get(self._url, stream=True, timeout=WINDOW, headers=headers)) as got:
            if got.status_code != requests.codes.ok:
                kind = _DroppedError if got.status_code >= 500 else DownloadError
                raise kind(f"{self._url}: found status {got.status_code}, expected 200")
            length = got.headers.get("Content-Length", "")
            if length.isascii() and length.isdigit() and "Content-Encoding" not in got.headers:
                self.declared = int(length[:20])
                check_size(self._url, self.declared, self._max_bytes)
                check_room(self._target, self.declared)
            self._begun = True
            with self._target.open("wb") as out:
                for chunk in got.iter_content(_CHUNK):
                    if self.stopped.is_set():
                        return
                    if not self.received and chunk.lstrip().lower().startswith(_HTML):
                        raise DownloadError(
                            f"{self._url}: found an HTML page, expected {self._target.name}; the "
                            "address may have moved, or a proxy may answer"
                        )
                    self.received += len(chunk)
                    check_size(self._url, self.received, self._max_bytes)
                    out.write(chunk)
        if self.declared is not None and self.received != self.declared:
            raise _DroppedError(
                f"{self._url}: the connection broke after {self.received:,} of "
                f"{self.declared:,} bytes"
            )


def short(text: str) -> str:
    """The last line of an error text, cut to a readable length."""
    last = text.splitlines()[-1] if text else ""
    return last if len(last) <= 200 else last[:197] + "..."
