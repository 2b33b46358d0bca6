"""A session of fuzzing: workers, their results, and a table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fuzzing.findings import Finding
from fuzzing.guided import unpack
from fuzzing.oracle import ACCEPTED, REFUSED
from fuzzing.target import Target
from fuzzing.worker import LAST, PLACE, Piece, Task

HERE = Path(__file__).parent.parent
ROUNDS = 200  # every target gets its share in each, so that a session can be stopped
FEWEST = 20  # inputs of a target, its seeds among them
MEMORY = Path("/dev/shm")  # where inputs are written, if there is such a place
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1"
)


@dataclass
class Results:
    """Results of a session so far.

    Attributes:
        outcomes: for each target, number of inputs by outcome.
        seconds: for each target, time of its inputs.
        findings: first findings of each kind.
        covered: for each target, number of branches that guided fuzzing reached.
    """

    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    findings: list[Finding] = field(default_factory=list)
    covered: dict[str, int] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        """Number of inputs that were read."""
        return sum(sum(counts.values()) for counts in self.outcomes.values())

    def kinds(self) -> dict[tuple[str, str], list[Finding]]:
        """Findings by target and signature."""
        kinds: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in self.findings:
            kinds[finding.target, finding.signature].append(finding)
        return kinds

    def rows(self) -> Iterator[list[str]]:
        """Rows of the table: target, inputs, accepted, refused, inputs a second, findings."""
        kinds = Counter(target for target, _ in self.kinds())
        for target, counts in self.outcomes.items():
            inputs = sum(counts.values())
            rate = inputs / self.seconds[target] if self.seconds[target] else 0.0
            numbers = (inputs, counts[ACCEPTED], counts[REFUSED])
            covered = f"{self.covered[target]:,}" if target in self.covered else ""
            yield [target, *(f"{n:,}" for n in numbers), f"{rate:,.0f}", covered,
                   str(kinds[target])]  # fmt: skip
        accepted, refused = (
            sum(counts[outcome] for counts in self.outcomes.values())
            for outcome in (ACCEPTED, REFUSED)
        )
        seconds = sum(self.seconds.values())
        rate = self.inputs / seconds if seconds else 0.0
        numbers = (self.inputs, accepted, refused)
        yield ["all", *(f"{n:,}" for n in numbers), f"{rate:,.0f}", "", str(len(self.kinds()))]


def plan(
    targets: Sequence[Target], inputs: int, jobs: int = 1, first: int = 0, rounds: int = ROUNDS
) -> list[tuple[Piece, ...]]:
    """The pieces of each job: in every round, each target's share of the inputs.

    Args:
        targets: the readers.
        inputs: number of inputs in all.
        jobs: number of workers at once.
        first: number of the first input of each target.
        rounds: number of rounds at most.
    """
    total = sum(target.share for target in targets)
    rounds = max(1, min(rounds, inputs // (2 * FEWEST * len(targets))))
    pieces: list[list[Piece]] = [[] for _ in range(jobs)]
    for number in range(rounds):
        for place, target in enumerate(targets):
            share = max(FEWEST, round(inputs * target.share / total))
            start, stop = (first + share * n // rounds for n in (number, number + 1))
            pieces[(place + number) % jobs].append(Piece(target.name, start, stop))
    return [tuple(own) for own in pieces]


class Session:
    """Runs workers until their inputs have been tried, or the time is over.

    Args:
        seed: seed of all inputs.
        materials: folder of materials, such as a trained run; made once.
        report: called with every finding and, now and then, without one.
        deadline: time of ``time.monotonic`` at which the session ends, or None.
        corpus: folder of corpora for coverage-guided fuzzing, or None.
    """

    def __init__(
        self,
        seed: int,
        materials: Path,
        report: Callable[[Results, Finding | None], None],
        deadline: float | None = None,
        corpus: Path | None = None,
    ) -> None:
        self.seed, self.materials, self.deadline = seed, materials, deadline
        self.corpus = corpus
        self.results, self._report = Results(), report
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, jobs: Sequence[tuple[Piece, ...]]) -> Results:
        """Tries the pieces of each job; a KeyboardInterrupt ends the session with what it has."""
        pool = ThreadPoolExecutor(max_workers=len(jobs))
        running = [pool.submit(self._job, pieces) for pieces in jobs]
        try:
            while not all(job.done() for job in running):
                time.sleep(0.2)
                if self.deadline is not None and time.monotonic() > self.deadline:
                    break
        except KeyboardInterrupt:
            pass
        self._stopped = True
        for process in list(self._running):
            process.kill()
        for job in running:
            job.result()  # raises the faults of this program
        return self.results

    def _job(self, pieces: tuple[Piece, ...]) -> None:
        base = MEMORY if MEMORY.is_dir() else None
        with tempfile.TemporaryDirectory(prefix="kgrec-fuzz-", dir=base) as scratch:
            place = Path(scratch) / "place"
            while pieces and not self._stopped:
                place.write_bytes(PLACE.pack(0, -1))
                now = pieces if self.corpus is None else pieces[:1]  # libFuzzer ends its process
                task = Task(now, self.seed, str(self.materials), scratch, str(place),
                            corpus=str(self.corpus or ""))  # fmt: skip
                code, log = self._work(task)
                if self.corpus is not None:
                    self._covered(now[0], log)
                if code == 0 or self._stopped:
                    pieces = pieces[len(now) :]
                    continue
                number, index = PLACE.unpack(place.read_bytes())
                if index < 0:  # its seeds kill it, before any input
                    piece = now[number]
                    self._add(Finding(piece.target, self.seed, 0, "no start", log[-300:], log, {}))
                    pieces = tuple(p for p in pieces if p.target != piece.target)
                    continue
                self._died(replace(task, place=f"{place}-again"), now[number], index, log)
                rest = replace(now[number], start=index + 1)
                pieces = (rest, *pieces[number + 1 :])

    def _work(self, task: Task, again: bool = False) -> tuple[int, str]:
        """Exit code of a worker, and what it wrote on standard error."""
        with tempfile.TemporaryFile("w+") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "fuzzing.worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, cwd=HERE,
                env=os.environ | _ONE_THREAD | {"RUST_BACKTRACE": "0"},
            )  # fmt: skip
            self._running.add(process)
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(task.to_json())
            process.stdin.close()
            for line in process.stdout:
                self._received(json.loads(line), again)
            code = process.wait()
            self._running.discard(process)
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - 20_000))
            return code, log.read()

    def _received(self, message: Mapping[str, Any], again: bool) -> None:
        with self._lock:
            if message["kind"] == "counts":
                if not again:
                    self.results.outcomes[message["target"]].update(message["outcomes"])
                    self.results.seconds[message["target"]] += message["seconds"]
                self._report(self.results, None)
                return
            content = {name: bytes.fromhex(text) for name, text in message["files"].items()}
            finding = Finding(message["target"], self.seed, message["index"], message["outcome"],
                              message["signature"], message["detail"], content)  # fmt: skip
            self.results.findings.append(finding)
            self._report(self.results, finding)

    def _died(self, task: Task, piece: Piece, index: int, log: str) -> None:
        """Tries the input of which a worker died once more, alone."""
        if task.corpus:
            files = unpack((Path(task.scratch) / LAST).read_bytes())
            with self._lock:
                self._add(Finding(piece.target, self.seed, index, _kind(log), _signature(log),
                                  log[-5000:], files))  # fmt: skip
            return
        alone = replace(piece, start=index, stop=index + 1)
        Path(task.place).write_bytes(PLACE.pack(0, -1))
        again, second_log = self._work(replace(task, pieces=(alone,)), again=True)
        with self._lock:
            counts = self.results.outcomes[piece.target]
            if again == 0:  # such as a machine that had no processor left for the worker
                counts["not repeated"] += 1
                return
            self._add(Finding(piece.target, self.seed, index, _kind(second_log),
                              _signature(second_log), log[-5000:], None))  # fmt: skip

    def _add(self, finding: Finding) -> None:
        """Notes an input of which a worker died."""
        self.results.outcomes[finding.target][finding.outcome] += 1
        self.results.findings.append(finding)
        self._report(self.results, finding)

    def _covered(self, piece: Piece, log: str) -> None:
        """Notes how many branches of kgrec a target has reached."""
        reached = re.findall(r"cov: (\d+)", log)
        if reached:
            self.results.covered[piece.target] = int(reached[-1])


def _kind(log: str) -> str:
    return "hang" if "Timeout (" in log else "abort"


def _signature(log: str) -> str:
    """The innermost function of kgrec in a dump of faulthandler."""
    own = [line.strip() for line in log.splitlines() if "/kgrec/" in line and "File" in line]
    return own[0].rpartition("/kgrec/")[2] if own else "outside kgrec"
