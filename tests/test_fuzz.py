"""The fuzzer finds planted faults, and none in the readers; a night tries 10⁶ inputs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from conftest import ROOT

from kgrec.errors import DataError

QUICK = ("released_final", "released_raw", "recbole", "kgat", "csv", "lines", "plan", "choices",
         "sources", "wording")  # fmt: skip
INPUTS = 12  # of each of them


@pytest.fixture
def fuzzing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports modules of benchmarks/fuzzing."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return lambda name: importlib.import_module(f"fuzzing.{name}")


def trier(fuzzing, tmp_path: Path, read: Callable[[Path], Any], **settings: Any) -> Any:
    target = fuzzing("target").Target("planted", lambda _: [{"x.txt": b"a\n"}], read, **settings)
    return fuzzing("trying").Trier(target, tmp_path, tmp_path / "scratch")


@pytest.mark.parametrize("name", QUICK)
def test_a_few_inputs_of_each_format(name: str, fuzzing, tmp_path: Path):
    target = fuzzing("targets.registry").TARGETS[name]
    trying = fuzzing("trying")
    inputs = trying.Trier(target, tmp_path, tmp_path / "scratch")
    verdicts = [
        verdict
        for _, _, verdict in trying.attempts(inputs, 7, range(INPUTS), lambda _: None, sys.stderr)
    ]
    assert [v for v in verdicts if v.finding] == []
    assert "accepted" in {verdict.outcome for verdict in verdicts}


def _raise(error: BaseException) -> Any:
    raise error


PLANTED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a fault": (lambda f: {}[1], "trace"),
    "no Exception": (lambda f: _raise(BaseException("panic")), "trace"),
    "no memory": (lambda f: _raise(MemoryError()), "memory"),
    "no file named": (lambda f: _raise(DataError("found x, expected y")), "message"),
    "long": (lambda f: _raise(OSError(f"{f}: {'x' * 20_000}")), "message"),
    "lines": (lambda f: _raise(OSError(f"{f}: found x\nexpected y")), "message"),
    "control characters": (lambda f: _raise(OSError(f"{f}: found \x1b[31m")), "message"),
    "two results": (lambda f: object(), "two results"),
    "refused": (lambda f: _raise(DataError(f"{f}: found x, expected y")), "refused"),
    "accepted": (lambda f: (f / "x.txt").read_bytes(), "accepted"),
}


@pytest.mark.parametrize(("read", "outcome"), PLANTED.values(), ids=PLANTED)
def test_what_a_reader_may_do(read, outcome: str, fuzzing, tmp_path: Path):
    inputs = trier(fuzzing, tmp_path, read)
    assert inputs.read({"x.txt": b"a\n"}, twice=True).outcome == outcome


def test_limits_of_time_and_memory(fuzzing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    trying = fuzzing("trying")
    inputs = trier(fuzzing, tmp_path, lambda f: sum(range(300_000)))
    monkeypatch.setattr(trying, "SECONDS", 1e-4)
    assert inputs.read({"x.txt": b""}).outcome == "slow"
    monkeypatch.undo()
    peaks = iter((1e9, 1.2e9))
    monkeypatch.setattr(trying, "_peak", lambda: next(peaks))
    assert inputs.read({"x.txt": b""}).outcome == "memory"


def test_inputs_depend_on_seed_and_number_alone(fuzzing):
    trying, targets = fuzzing("trying"), fuzzing("targets.registry").TARGETS
    for name in ("csv", "plan", "parquet"):
        target = targets[name]
        seeds = target.seeds(Path())
        first = [trying.input_files(target, seeds, 3, i) for i in range(25)]
        assert first == [trying.input_files(target, seeds, 3, i) for i in range(25)]
        others = [trying.input_files(target, seeds, 4, i) for i in range(25)]
        assert first[: len(seeds)] == others[: len(seeds)] == list(seeds)
        assert first[len(seeds) :] != others[len(seeds) :]


def test_every_mutation_changes_some_file(fuzzing):
    mutations, files = fuzzing("mutations"), fuzzing("targets.small_files")
    content = {
        ".csv": files.CSV["interactions.csv"].encode(), ".json": b'{"a": [1, {"b": "x"}]}',
        ".yaml": b"a: [1, {b: x}]\n", ".parquet": files.parquet_folders()[0]["links.parquet"],
        ".jsonl": b'{"a": 1}\n{"a": 2}\n',
    }  # fmt: skip
    for kind, data in content.items():
        for mutation in set(mutations.mutations_of(f"x{kind}")):
            changed = {mutations.mutated(data, mutation, Random(seed)) for seed in range(12)}
            assert changed - {data}, f"{mutation.__name__} of {kind}"


def test_a_finding_is_made_smaller_and_kept(fuzzing, tmp_path: Path):
    def read(folder: Path) -> int:
        return 1 // (b"\xff" not in (folder / "x.txt").read_bytes())

    inputs = trier(fuzzing, tmp_path, read)
    files = {"x.txt": b"a\nb\n" * 50 + b"\xff\n" + b"c\n" * 50}
    verdict = inputs.read(files)
    small = fuzzing("trying").smaller(inputs, files, verdict)
    assert small == {"x.txt": b"\xff\n"}
    findings = fuzzing("findings")
    finding = findings.Finding("planted", 0, 5, verdict.outcome, verdict.signature, "", small)
    finding.save(folder := tmp_path / finding.name, small)
    assert findings.saved(folder) == ("planted", small)
    assert json.loads((folder / "finding.json").read_text())["repeat"].endswith(str(folder))


@pytest.mark.parametrize("again", [0, -6], ids=["once", "always"])
def test_a_session_goes_on_after_the_death_of_a_worker(
    again: int, fuzzing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    session, worker = fuzzing("session"), fuzzing("worker")
    tasks: list[Any] = []

    def work(self, task, again_=False, **_: Any) -> tuple[int, str]:
        tasks.append(task)
        if len(tasks) == 1:
            Path(task.place).write_bytes(worker.PLACE.pack(1, 7))
            return -6, 'File "/x/kgrec/data/a.py", line 1 in f'
        return (again if len(tasks) == 2 else 0), ""

    monkeypatch.setattr(session.Session, "_work", work)
    own = session.Session(0, tmp_path, lambda *_: None)
    pieces = tuple(worker.Piece(name, 0, 10) for name in ("a", "b", "c"))
    results = own.run([pieces])
    assert tasks[1].pieces == (worker.Piece("b", 7, 8),)  # once more, alone
    assert tasks[2].pieces == (worker.Piece("b", 8, 10), worker.Piece("c", 0, 10))
    assert dict(results.outcomes["b"]) == ({"abort": 1} if again else {"not repeated": 1})
    assert [f.index for f in results.findings] == ([7] if again else [])


def test_a_plan_covers_all_inputs_once(fuzzing):
    session, targets = fuzzing("session"), list(fuzzing("targets.registry").TARGETS.values())
    jobs = session.plan(targets, 20_000, jobs=2, first=100)
    pieces = [piece for job in jobs for piece in job]
    for target in targets:
        numbers = [i for p in pieces if p.target == target.name for i in range(p.start, p.stop)]
        assert sorted(numbers) == list(range(100, 100 + len(numbers)))
    assert 0.9 < sum(p.stop - p.start for p in pieces) / 20_000 < 1.1
    assert {p.target for p in jobs[0]} == {p.target for p in jobs[1]} == {t.name for t in targets}


def fuzz(out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/fuzz.py", *arguments, "--out", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_ten_thousand_inputs(tmp_path: Path):
    done = fuzz(tmp_path, "--inputs", "10000", "--jobs", "2")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    facts = json.loads((tmp_path / "fuzz.json").read_text())
    assert facts["findings"] == []
    numbers = {row[0]: int(row[1].replace(",", "")) for row in facts["rows"]}
    assert numbers["all"] > 9_000
    assert min(numbers.values()) >= 20


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="needs kgrec[fuzz]")
def test_guided_inputs_reach_more_code(tmp_path: Path):
    done = fuzz(tmp_path, "--inputs", "400", "--guided", "--targets", "lines", "wording")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    rows = {row[0]: row for row in json.loads((tmp_path / "fuzz.json").read_text())["rows"]}
    assert int(rows["lines"][5].replace(",", "")) > 50
    assert len(list((tmp_path / "corpus" / "lines").iterdir())) > 3  # more than the seeds
