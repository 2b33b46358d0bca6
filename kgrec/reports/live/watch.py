"""Keeps the page of a sweep up to date while its jobs run."""

from __future__ import annotations

import time
from pathlib import Path

from kgrec.errors import DataError
from kgrec.files import write_text
from kgrec.reports.live.page import render
from kgrec.reports.live.snapshot import Known, Snapshot, fingerprint
from kgrec.sweeps.folder import FILE, SweepFolder
from kgrec.sweeps.progress import say

PAGE = "sweep.html"
MOST_WORK = 9  # seconds of rest for each of work


def watch(place: Path, out: Path | None = None, every: float = 2.0, once: bool = False) -> Path:
    """Writes sweep.html, and anew whenever something changes, until the sweep is over.

    Args:
        place: the sweep's folder, or the sweep.json in it.
        out: the folder to write into; None: the sweep's own.
        every: seconds between looks.
        once: write the page as things stand, and end.

    Raises:
        DataError: the place is no sweep's folder.
    """
    place = _sweep_at(place)
    page = (place if out is None else out) / PAGE
    page.parent.mkdir(parents=True, exist_ok=True)
    known: Known = {}
    shown: object = None
    idle = False
    try:
        while True:
            begin = time.perf_counter()
            now = fingerprint(place)
            if now != shown and (snapshot := _taken(place, known)) is not None:
                kept = not (once or snapshot.over)
                write_text(page, render(snapshot, every if kept else None))
                if shown is None:
                    say(str(page))
                if not kept:
                    return page
                if not snapshot.live and not idle:
                    say("no process is at work on the sweep; waiting for one (Ctrl-C ends)")
                shown, idle = now, not snapshot.live
            # The jobs need the processor more.
            time.sleep(max(every, MOST_WORK * (time.perf_counter() - begin)))
    except KeyboardInterrupt:
        write_text(page, render(Snapshot.take(place, known), None))
    return page


def _sweep_at(place: Path) -> Path:
    """The sweep's folder that a path points to."""
    folder = place.parent if place.name == FILE else place
    expected = "expected a sweep's folder, such as logs/sweeps/NAME"
    if not folder.is_dir():
        raise DataError(f"{folder}: found no such folder, {expected}")
    if not (folder / FILE).is_file():
        raise DataError(f"{folder}: found no {FILE} in it, {expected}")
    SweepFolder.read(folder)
    return folder


def _taken(place: Path, known: Known) -> Snapshot | None:
    """None where sweep.json is being written, as over a shared disk."""
    try:
        return Snapshot.take(place, known)
    except DataError:
        if not place.is_dir():
            raise
        return None
