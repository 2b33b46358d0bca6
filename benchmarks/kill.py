"""Kills commands with SIGKILL, and starts them again: nothing is lost, and nothing is done twice.

Each command runs once without a kill. Then it runs in fresh folders, is killed at random moments of
all its phases, perhaps several times in a row, and is started again until it ends. Its weights,
optimiser states, metrics, curves, rows and prepared data must equal, bit for bit, those of the run
without a kill; times aside. A finished job or epoch must not run again, and no temporary file may
stay. A single run is also killed before every change of a file, one after the other.

python benchmarks/kill.py
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

from common import machine, markdown, write
from kill_attempt import MODULES, OUTPUT, Attempt, Moment, attempt
from kill_state import content, differences, done, leftovers, repeated

SMALL = (
    "dataset=custom", "dataset.root=raw", "protocol=paper", "logger=csv", "threads=1",
    "trainer.accelerator=cpu", "ranking.ks=[5,10]", "model.d=4", "model.K=2", "batch_size=128",
)  # fmt: skip
RUN = (*SMALL, "epochs=4", "hydra.run.dir=run", "resume=auto")
OTHER_SETTINGS = (
    "optimizer=lazy_adam", "averaging=ema", "negatives=popularity", "loss=softmax",
    "model.neighbors=resampled", "monitor=val/ndcg@10",
)  # fmt: skip
SWEEP = ("-m", *SMALL, "epochs=2", "sweep=s")
SEARCH = (
    "hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=null",
    "hydra.sweeper.sampler.n_startup_trials=2", "model.d=4", "model.H=1", "model.aggregator=sum",
)  # fmt: skip
# One process: the harness kills a command as a whole. Its checkpoints are folders as those of more.
SHARDED = ("trainer=sharded", "trainer.devices=1", "trainer.strategy.min_rows=1")
KEY_MODULES = ("kgrec.data.formats", "kgrec.data.prepare", "kgrec.data.prepared_files")
MAX_ROW = 4  # kills in a row before a command may end


@dataclass(frozen=True)
class Command:
    """A command to kill.

    Attributes:
        name: for the table.
        words: the program and its arguments.
        share: share of the kills.
    """

    name: str
    words: tuple[str, ...]
    share: float


COMMANDS = (
    Command("a run", ("train", *RUN), 0.45),
    Command("a run with other settings", ("train", *RUN, *OTHER_SETTINGS), 0.15),
    Command("a serial sweep", ("train", *SWEEP, "seed=1,2,3"), 0.2),
    Command("a search", ("train", *SWEEP, *SEARCH), 0.2),
    Command("a sharded run", ("train", *RUN, *SHARDED), 0.05),
)  # fmt: skip
JOBLIB = Command(
    "a joblib sweep",
    ("train", *SWEEP, "seed=1,2,3", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"), 0.0,
)  # fmt: skip


@dataclass
class Findings:
    """What the kills of one command showed.

    Attributes:
        kills: kills by the phase that they hit.
        runs: number of times that the command was started afresh.
        faults: what was lost, repeated or left over.
    """

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    faults: list[str] = field(default_factory=list)


def raw_data(folder: Path, seed: int = 1) -> None:
    """A small data set in CSV."""
    draw = random.Random(seed)
    folder.mkdir(parents=True)
    pairs = [(u, i) for u in range(60) for i in draw.sample(range(40), 12)]
    rows = "".join(f"u{u},i{i}\n" for u, i in pairs)
    (folder / "interactions.csv").write_text(f"user,item\n{rows}")
    facts = "".join(f"i{i},r{r},e{draw.randrange(8)}\n" for i in range(40) for r in range(3))
    (folder / "triples.csv").write_text(f"head,relation,tail\n{facts}")


class Killer:
    """Kills one command again and again.

    Args:
        command: the command.
        place: folder for workspaces.
        draw: source of all random choices.
    """

    def __init__(self, command: Command, place: Path, draw: random.Random) -> None:
        self.command, self.place, self.draw = command, place, draw
        self.findings = Findings()
        workspace = self.fresh()
        self.whole = attempt(command.words, workspace)
        if self.whole.code != 0:
            raise SystemExit(f"{command.name}: {(workspace / OUTPUT).read_text()[-2000:]}")
        import_what_it_imports(workspace / MODULES)
        self.expected = content(workspace)
        self.length = max(b + 0.05 for begins in self.whole.begins.values() for b in begins)

    def fresh(self) -> Path:
        """A new workspace with raw data."""
        self.findings.runs += 1
        workspace = self.place / f"{self.findings.runs}"
        shutil.rmtree(workspace, ignore_errors=True)
        raw_data(workspace / "raw")
        return workspace

    def moments(self) -> list[Moment]:
        """Moments of all phases, in a random order: every occurrence of a phase is one."""
        by_phase = [
            [
                Moment(phase, number, self.draw.uniform(0, length))
                for number, length in enumerate(self.whole.lengths[phase], start=1)
            ]
            for phase in self.whole.lengths
        ]
        by_phase.append([Moment("", 0, self.draw.uniform(0, self.length)) for _ in range(3)])
        chosen = []
        for moments in by_phase:  # phases alike, however often one occurs
            chosen += self.draw.sample(moments, min(3, len(moments)))
        self.draw.shuffle(chosen)
        return chosen

    def at_random(self, kills: int) -> None:
        """Kills at random moments, until there were so many kills."""
        moments: list[Moment] = []
        while self.findings.kills.total() < kills:
            row = self.draw.randint(1, MAX_ROW)
            plan: list[Moment | None] = []
            for _ in range(row):
                moments = moments or self.moments()
                plan.append(moments.pop())
            self.until_it_ends([{"moment": moment} for moment in plan])

    def at_changes(self, every: int) -> int:
        """Kills before the first change of a file and every n-th after it; returns the kills."""
        for number, change in enumerate(range(1, 10_000, every)):
            if not self.until_it_ends([{"change": change}]):
                return number
        raise AssertionError

    def until_it_ends(self, plan: Sequence[dict[str, Any]]) -> int:
        """Starts the command in a fresh folder, and again after each kill; returns the kills."""
        workspace, kills = self.fresh(), 0
        before = done(workspace)
        for arguments in [*plan, {}]:
            result = attempt(self.command.words, workspace, **arguments)
            after = done(workspace)
            self.fault(workspace, plan, repeated(before, after))
            before = after
            if not result.killed:
                break
            kills += 1
            self.findings.kills[result.phase] += 1
        self.judge(workspace, plan, result)
        return kills

    def judge(self, workspace: Path, plan: Sequence[dict[str, Any]], result: Attempt) -> None:
        """Compares the workspace of a command that has ended with the one without a kill."""
        if result.code != 0:
            text = (workspace / OUTPUT).read_text()[-500:]
            self.fault(workspace, plan, [f"exit code {result.code}: {text}"])
            return
        faults = differences(self.expected, content(workspace))
        faults += [f"left over: {name}" for name in leftovers(workspace)]
        self.fault(workspace, plan, faults)
        if not faults:
            shutil.rmtree(workspace)

    def fault(self, workspace: Path, plan: Sequence[dict[str, Any]], faults: list[str]) -> None:
        """Notes faults, with where to look at them."""
        if faults:
            more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
            text = f"{workspace}, {_words(plan)}: {'; '.join(faults[:3])}{more}"
            self.findings.faults.append(text)
            print(f"{self.command.name}: {text}", flush=True)


def _words(plan: Sequence[dict[str, Any]]) -> str:
    """The kills of a plan in words."""
    parts = []
    for each in plan:
        if (moment := each.get("moment")) is not None:
            parts.append(f"{moment.delay:.3f} s in {moment.phase or 'all'} {moment.number}")
        else:
            parts.append(f"before change {each['change']}")
    return "killed " + ", ".join(parts)


def kill(command: Command, place: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Kills one command, and returns what that showed."""
    start, number = time.perf_counter(), [*COMMANDS, JOBLIB].index(command)
    killer = Killer(command, place / str(number), random.Random(arguments.seed + number))
    kills = round(arguments.kills * command.share) if command.share else arguments.joblib
    killer.at_random(kills)
    random_kills, changes = killer.findings.kills.total(), 0
    if arguments.every and (command == COMMANDS[0] or command.name == arguments.only):
        changes = killer.at_changes(arguments.every)
    found, seconds = killer.findings, time.perf_counter() - start
    print(f"{command.name}: {random_kills} + {changes} kills, {len(found.faults)} faults, "
          f"{seconds:.0f} s", flush=True)  # fmt: skip
    return {
        "random": random_kills, "changes": changes, "phases": dict(found.kills),
        "runs": found.runs, "faults": found.faults, "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    """Kills, prints the table and ends with 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills at random moments")
    parser.add_argument("--joblib", type=int, default=4, help="more kills, of a joblib sweep")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="part of the name of a command")
    parser.add_argument(
        "--every", type=int, default=1,
        help="kill a run, or the command of --only, before every n-th change of a file; 0: at "
        "random moments alone",
    )  # fmt: skip
    parser.add_argument("--place", type=Path, help="folder for workspaces; those with faults stay")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    arguments = parser.parse_args()
    import_all()
    memory = Path("/dev/shm")  # a flush to the disk costs nothing there, and a kill is the same
    inside = memory if os.access(memory, os.W_OK) else None
    place = arguments.place or Path(tempfile.mkdtemp(prefix="kgrec-kill-", dir=inside))
    chosen = [c for c in (*COMMANDS, JOBLIB) if arguments.only in c.name]
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:  # two cores
        records = list(pool.map(kill, chosen, repeat(place), repeat(arguments)))
    rows = []
    for command, record in zip(chosen, records, strict=True):
        by_count = sorted(record["phases"].items(), key=lambda item: -item[1])
        hit = ", ".join(f"{phase} {count}" for phase, count in by_count)
        values = (record["random"], record["changes"], hit, record["runs"], len(record["faults"]))
        rows.append([command.name, *map(str, values), f"{record['seconds']:.0f}"])
    header = ["command", "kills at random moments", "kills at changes of files",
              "kills by phase", "fresh folders", "faults", "seconds"]  # fmt: skip
    table = markdown(header, rows)
    print(f"\n{table}")
    named = {command.name: record for command, record in zip(chosen, records, strict=True)}
    write(arguments.out, "kill", {"machine": machine(), "commands": named}, table)
    if any(record["faults"] for record in records):
        sys.exit(1)
    if arguments.place is None:
        shutil.rmtree(place)


def import_all() -> None:
    """Imports what the commands use, so that no attempt has to; nothing may start a thread."""
    import optuna  # noqa: F401
    import torch
    from hydra.core.plugins import Plugins

    import kgrec.cli
    import kgrec.pipeline.refit
    import kgrec.pipeline.run
    import kgrec.sweeps.search
    import kgrec.sweeps.sweeper  # noqa: F401
    from kgrec.data.cache import code_digest

    torch.set_num_threads(1)
    Plugins.instance()
    code_digest(*KEY_MODULES)


def import_what_it_imports(file: Path) -> None:
    """Imports modules that a command has imported; the later attempts find them in memory."""
    for name in sorted(file.read_text().split()):
        with contextlib.suppress(Exception):  # some can only be imported by their own packages
            importlib.import_module(name)


if __name__ == "__main__":
    main()
