"""Inputs of one target, one after the other, in this process."""

from __future__ import annotations

import faulthandler
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import TextIO

from fuzzing.mutations import Files, mutate
from fuzzing.oracle import Verdict, judge, same
from fuzzing.target import Target, write_files

SECONDS = 5.0  # of the processor, for one input
WALL = 12 * SECONDS  # after which a process ends itself: it hangs, or waits
MEGABYTES = 64  # beyond what the process had before, for any input …
MULTIPLE = 100  # … and for each byte of the files
TWICE = 16  # every 16th accepted input is read again
_KILO = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss


def input_files(target: Target, seeds: Sequence[Files], seed: int, index: int) -> Files:
    """The files of an input; they depend on nothing else. The first inputs are the seeds."""
    if index < len(seeds):
        return dict(seeds[index])
    luck = Random(f"{seed}/{target.name}/{index}")
    return mutate(luck.choice(seeds), seeds, target.files, luck)


class Trier:
    """Makes, reads and judges inputs of one target.

    Args:
        target: the reader.
        materials: folder of materials, such as a trained run.
        scratch: folder for the input that is read; best in memory.
    """

    def __init__(self, target: Target, materials: Path, scratch: Path) -> None:
        self.target = target
        self.seeds: Sequence[Files] = target.seeds(materials)
        target.begin(materials)
        self.folder = scratch / "input"
        self._there: Files = {}
        self._clean()
        self._place(self.seeds[0])
        judge(target, self.folder)  # imports and caches count for no input
        self._clean()

    def files(self, seed: int, index: int) -> Files:
        """The files of an input."""
        return input_files(self.target, self.seeds, seed, index)

    def read(self, files: Files, twice: bool = False) -> Verdict:
        """Writes an input and judges what its reader does within the limits."""
        self._place(files)
        memory, begin = _peak(), time.process_time()
        verdict = judge(self.target, self.folder, twice)
        seconds, grown = time.process_time() - begin, _peak() - memory
        if self._grew():
            self._clean()
        limit = MEGABYTES * 1e6 + MULTIPLE * sum(map(len, files.values()))
        if verdict.finding:
            return verdict
        if seconds > SECONDS * (1 + twice):
            return Verdict("slow", f"{self.target.name}: slow", f"{seconds:.1f} s")
        if grown > limit:
            return Verdict("memory", f"{self.target.name}: memory", f"{grown / 1e6:.0f} MB")
        return verdict

    def _place(self, files: Files) -> None:
        for name in self._there.keys() - files.keys():
            (self.folder / name).unlink()
            del self._there[name]
        write_files(self.folder, {n: c for n, c in files.items() if self._there.get(n) is not c})
        self._there = dict(files)

    def _grew(self) -> bool:
        """Whether the reader has left something in the folder, or changed a file."""
        left = [p for p in self.folder.rglob("*") if p.is_file()]
        return len(left) != len(self._there) or any(
            len(content) != (self.folder / name).stat().st_size
            for name, content in self._there.items()
        )

    def _clean(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._there = {}


def attempts(
    trier: Trier, seed: int, indices: Iterable[int], before: Callable[[int], None], log: TextIO
) -> Iterator[tuple[int, Files, Verdict]]:
    """Index, files and verdict of each input.

    Args:
        trier: the target.
        seed: seed of all inputs.
        indices: numbers of the inputs.
        before: called with the number of the input before it is made.
        log: file for the stack of a process that hangs.
    """
    for index in indices:
        before(index)
        faulthandler.dump_traceback_later(WALL, exit=True, file=log)
        try:
            files = trier.files(seed, index)
            verdict = trier.read(files, twice=index % TWICE == 0)
        finally:
            faulthandler.cancel_dump_traceback_later()
        yield index, files, verdict


def smaller(trier: Trier, files: Files, verdict: Verdict, tries: int = 150) -> Files:
    """A simpler input with the same finding: seed files and few lines where these are enough."""

    def holds(candidate: Files) -> bool:
        return same(trier.read(candidate), verdict)

    for seed in trier.seeds:
        if seed.keys() == files.keys():
            for name, content in seed.items():
                if files[name] != content and holds(files | {name: content}):
                    files = files | {name: content}
    for name in [n for s in trier.seeds for n in s if files.get(n) != s[n] and n in files]:
        files, tries = _fewer_lines(files, name, holds, tries)
    return files


def _fewer_lines(
    files: Files, name: str, holds: Callable[[Files], bool], tries: int
) -> tuple[Files, int]:
    """Leaves out ever smaller pieces of lines while the finding stays."""
    lines = files[name].splitlines(keepends=True)
    size = len(lines) // 2
    while size and tries > 0:
        at = 0
        while at < len(lines) and tries > 0:
            fewer = lines[:at] + lines[at + size :]
            tries -= 1
            if holds(files | {name: b"".join(fewer)}):
                lines = fewer
            else:
                at += size
        size //= 2
    return files | {name: b"".join(lines)}, tries


def _peak() -> float:
    """Bytes that this process ever held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KILO
