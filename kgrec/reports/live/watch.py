"""Keeps the page of a sweep up to date while its jobs run."""

from __future__ import annotations

import time
from pathlib import Path

from kgrec.errors import DataError
from kgrec.files import make_folder, write_text
from kgrec.reports.live.page import render
from kgrec.reports.live.snapshot import Known, Snapshot, fingerprint
from kgrec.sweeps.folder import FILE, SweepFolder
from kgrec.sweeps.progress import say

PAGE = "sweep.html"
MOST_WORK = 9  # seconds of rest per second of work


def watch(place: Path, out: Path | None = None, every: float = 2.0, once: bool = False) -> Path:
    """Writes sweep.html, and writes it again at every change, until the sweep is over.

    Args:
        place: folder of a sweep, or its sweep.json.
        out: folder to write into; None: the folder of the sweep.
        every: seconds between two readings of the sweep.
        once: whether to write the page once and end.

    Raises:
        DataError: the place is not the folder of a sweep.
    """
    place = _sweep_at(place)
    page = (place if out is None else out) / PAGE
    make_folder(page.parent)
    runs: Known = {}
    shown: object = None
    idle = False
    try:
        while True:
            begin = time.perf_counter()
            now = fingerprint(place)
            if now != shown and (snapshot := _snapshot(place, runs)) is not None:
                live = not (once or snapshot.over)
                write_text(page, render(snapshot, every if live else None))
                if shown is None:
                    say(str(page))
                if not live:
                    return page
                if not snapshot.live and not idle:
                    say("no process runs this sweep; waiting until one does (Ctrl-C ends)")
                shown, idle = now, not snapshot.live
            # Jobs need the processor more than this page.
            time.sleep(max(every, MOST_WORK * (time.perf_counter() - begin)))
    except KeyboardInterrupt:
        write_text(page, render(Snapshot.take(place, runs), None))
    return page


def _sweep_at(place: Path) -> Path:
    """The folder of the sweep at a path."""
    folder = place.parent if place.name == FILE else place
    expected = "expected the folder of a sweep, such as logs/sweeps/NAME"
    if not folder.is_dir():
        raise DataError(f"{folder}: found no such folder, {expected}")
    if not (folder / FILE).is_file():
        raise DataError(f"{folder}: found no {FILE} in it, {expected}")
    SweepFolder.read(folder)
    return folder


def _snapshot(place: Path, runs: Known) -> Snapshot | None:
    """A snapshot; None while sweep.json is being written, as on a shared disk."""
    try:
        return Snapshot.take(place, runs)
    except DataError:
        if not place.is_dir():
            raise
        return None
