"""A process that tries inputs until it has tried all, or dies of one.

It reads a :class:`Task` as JSON. It prints one JSON object per line: counts, and findings.
Before each input it notes the input in a file that is mapped into memory, so that the process that
started it knows what a worker died of.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import mmap
import os
import resource
import struct
import sys
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from fuzzing.mutations import Files
    from fuzzing.oracle import Verdict
    from fuzzing.trying import Trier

ADDRESS_SPACE = 16 << 30  # bytes beyond which nothing is allocated
PLACE = struct.Struct("<qq")  # piece of the plan, input
REPORT_EVERY = 2.0  # seconds between counts
SENT = 3  # findings of one kind that are sent; the first is made smaller
LAST = "last"  # file with the latest input, where its number does not say it


@dataclass(frozen=True)
class Piece:
    """Inputs of one target: numbers from start to below stop."""

    target: str
    start: int
    stop: int


@dataclass(frozen=True)
class Task:
    """What a worker tries.

    Attributes:
        pieces: the inputs, in order.
        seed: seed of all inputs.
        materials: folder of materials.
        scratch: folder for inputs.
        place: file that says at which input the worker is.
        corpus: folder of corpora for coverage-guided fuzzing; empty: seeded mutation.
    """

    pieces: tuple[Piece, ...]
    seed: int
    materials: str
    scratch: str
    place: str
    corpus: str = ""

    def to_json(self) -> str:
        """The task as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """The task from :meth:`to_json`."""
        values: dict[str, Any] = json.loads(text)
        values["pieces"] = tuple(Piece(**piece) for piece in values["pieces"])
        return cls(**values)


def main() -> None:
    """Tries all inputs of the task."""
    task = Task.from_json(sys.stdin.read())
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what kgrec prints is not read
    faulthandler.enable()
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    if task.corpus:
        from fuzzing.guided import instrument

        instrument()
    prepare_process()
    from fuzzing.targets.registry import TARGETS
    from fuzzing.trying import Trier

    with Path(task.place).open("r+b") as file:
        place = mmap.mmap(file.fileno(), PLACE.size)
        triers: dict[str, Trier] = {}
        for number, piece in enumerate(task.pieces):
            PLACE.pack_into(place, 0, number, -1)
            target = TARGETS[piece.target]
            if piece.target not in triers:
                triers[piece.target] = Trier(target, Path(task.materials), Path(task.scratch))
            trying = _guided if task.corpus else _try
            trying(triers[piece.target], piece, number, task, place, out)


def prepare_process() -> None:
    """Silences logs and warnings; one thread, because inputs are small."""
    logging.disable()
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)


class _Reports:
    """Sends counts now and then, and the first findings of each kind at once."""

    def __init__(self, trier: Trier, out: TextIO) -> None:
        self.trier, self.out = trier, out
        self.counts: Counter[str] = Counter()
        self._sent: Counter[str] = Counter()
        self._begin = time.perf_counter()

    def add(self, index: int, files: Files, verdict: Verdict) -> None:
        """Counts an input; sends it if it is a finding of a new kind."""
        from fuzzing.trying import smaller

        self.counts[verdict.outcome] += 1
        if verdict.finding:
            self._sent[verdict.signature] += 1
            if self._sent[verdict.signature] == 1:
                files = smaller(self.trier, files, verdict)
            if self._sent[verdict.signature] <= SENT:
                _send(self.out, kind="finding", target=self.trier.target.name, index=index,
                      outcome=verdict.outcome, signature=verdict.signature, detail=verdict.detail,
                      files={name: content.hex() for name, content in files.items()})  # fmt: skip
        if time.perf_counter() - self._begin > REPORT_EVERY:
            self.send()

    def send(self) -> None:
        """Sends the counts since the last time."""
        now = time.perf_counter()
        _send(self.out, kind="counts", target=self.trier.target.name, outcomes=self.counts,
              seconds=now - self._begin)  # fmt: skip
        self.counts.clear()
        self._begin = now


def _try(
    trier: Trier, piece: Piece, number: int, task: Task, place: mmap.mmap, out: TextIO
) -> None:  # fmt: skip
    """Inputs by their numbers."""
    from fuzzing.trying import attempts

    def note(index: int) -> None:
        PLACE.pack_into(place, 0, number, index)

    reports = _Reports(trier, out)
    indices = range(piece.start, piece.stop)
    for index, files, verdict in attempts(trier, task.seed, indices, note, sys.stderr):
        reports.add(index, files, verdict)
    reports.send()


def _guided(
    trier: Trier, piece: Piece, number: int, task: Task, place: mmap.mmap, out: TextIO
) -> None:  # fmt: skip
    """Inputs that libFuzzer chooses; the process ends with them."""
    from fuzzing.guided import fuzz, pack
    from fuzzing.trying import WALL

    reports = _Reports(trier, out)
    last = Path(task.scratch) / LAST
    index = piece.start

    def read(files: Files) -> Verdict:
        nonlocal index
        PLACE.pack_into(place, 0, number, index)
        last.write_bytes(pack(files))
        faulthandler.dump_traceback_later(WALL, exit=True)
        verdict = trier.read(files)
        faulthandler.cancel_dump_traceback_later()
        reports.add(index, files, verdict)
        index += 1
        if index >= piece.stop:  # libFuzzer does not return
            reports.send()
        return verdict

    runs = piece.stop - piece.start
    fuzz(read, list(trier.seeds), trier.target.files, runs, task.seed + 1,
         Path(task.corpus) / piece.target)  # fmt: skip


def _send(out: TextIO, **message: Any) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
