"""Fuzzing of every reader of kgrec, and a table of what was tried and found.

    python benchmarks/fuzz.py                            # 10,000 inputs, a minute or two
    python benchmarks/fuzz.py --inputs 1000000 --jobs 2  # a night
    python benchmarks/fuzz.py --targets csv plan --seconds 60
    python benchmarks/fuzz.py --guided --targets lines --inputs 100000  # needs kgrec[fuzz]
    python benchmarks/fuzz.py --repeat fuzz-out/findings/NAME

Each input is a small folder that a reader knows, with one to three changes. The reader must accept
it, or refuse it in one line that names the file. It may not raise anything else, take more than
5 seconds of the processor, more memory than 64 MB and 100 bytes for each byte of the files, or end
the process. The inputs depend on the seed alone. Ctrl-C, or SIGTERM, ends with what there is.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from common import machine, markdown, write
from fuzzing.findings import Finding, saved
from fuzzing.session import ROUNDS, Results, Session, plan
from fuzzing.target import Target

HEADER = ("target", "inputs", "accepted", "refused", "inputs/s", "branches", "kinds of findings")


def main() -> None:
    """Fuzzes, prints the table and exits with 1 if there are findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs in all")
    parser.add_argument("--seconds", type=float, help="end after so many seconds")
    parser.add_argument("--targets", nargs="+", metavar="NAME", help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--guided", action="store_true", help="keep inputs that reach new code")
    parser.add_argument("--repeat", type=Path, metavar="FOLDER", help="try a saved finding again")
    parser.add_argument("--list", action="store_true", help="list the targets")
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="findings and table")
    arguments = parser.parse_args()
    from fuzzing.targets.registry import TARGETS

    if arguments.list:
        for target in TARGETS.values():
            doc = (target.read.__doc__ or "").partition("\n")[0]
            print(f"{target.name:16} {doc}")
        return
    if arguments.repeat is not None:
        _repeat(arguments.repeat, arguments.out)
        return
    unknown = [name for name in arguments.targets or () if name not in TARGETS]
    if unknown:
        raise SystemExit(f"--targets: found {unknown[0]}, expected some of {', '.join(TARGETS)}")
    targets = [TARGETS[name] for name in arguments.targets or TARGETS]
    out = arguments.out.resolve()
    materials = _materials(out, targets)
    for number in (signal.SIGINT, signal.SIGTERM):  # in the background Python ignores the first
        signal.signal(number, signal.default_int_handler)
    begin = time.monotonic()
    deadline = None if arguments.seconds is None else begin + arguments.seconds
    reporter = _Reporter(out, materials)
    corpus = out / "corpus" if arguments.guided else None
    session = Session(arguments.seed, materials, reporter, deadline, corpus)
    rounds = 1 if arguments.guided else ROUNDS
    results = session.run(plan(targets, arguments.inputs, arguments.jobs, arguments.first, rounds))
    seconds = time.monotonic() - begin
    _finish(results, out, seconds, arguments.seed)


def _materials(out: Path, targets: Sequence[Target]) -> Path:
    """Folder of materials, in which the workers of these targets find runs that are trained."""
    from fuzzing.worker import prepare_process

    prepare_process()
    materials = out / "materials"
    materials.mkdir(parents=True, exist_ok=True)
    for target in targets:
        target.seeds(materials)
    return materials


class _Reporter:
    """Prints progress, and saves the first finding of each kind."""

    def __init__(self, out: Path, materials: Path) -> None:
        self.out, self.materials, self._shown = out, materials, 0.0

    def __call__(self, results: Results, finding: Finding | None) -> None:
        if finding is not None and finding.signature:
            folder = self.out / "findings" / finding.name
            if not folder.exists():
                finding.save(folder, self._files(finding))
                print(f"{finding.outcome}: {finding.target}: {finding.signature} ({folder})")
        elif time.monotonic() - self._shown > 30:
            self._shown = time.monotonic()
            print(f"{results.inputs:,} inputs, {len(results.kinds())} kinds of findings")
        sys.stdout.flush()

    def _files(self, finding: Finding) -> dict[str, bytes]:
        from fuzzing.targets.registry import TARGETS
        from fuzzing.trying import input_files

        if finding.files is not None:
            return finding.files
        target = TARGETS[finding.target]
        return input_files(target, target.seeds(self.materials), finding.seed, finding.index)


def _repeat(folder: Path, out: Path) -> None:
    """Tries the input of a saved finding once more in this process."""
    import tempfile

    from fuzzing.targets.registry import TARGETS
    from fuzzing.trying import Trier

    name, files = saved(folder)
    with tempfile.TemporaryDirectory() as scratch:
        target = TARGETS[name]
        trier = Trier(target, _materials(out.resolve(), [target]), Path(scratch))
        verdict = trier.read(files, twice=True)
    print(f"{verdict.outcome}: {verdict.signature}\n{verdict.detail}")
    raise SystemExit(int(verdict.finding))


def _finish(results: Results, out: Path, seconds: float, seed: int) -> None:
    rows = list(results.rows())
    table = markdown(HEADER, rows)
    print(f"\n{table}\n\n{results.inputs:,} inputs in {seconds:,.0f} s, seed {seed}")
    for (target, signature), findings in sorted(results.kinds().items()):
        print(f"  {findings[0].outcome}: {target}: {signature}")
    record = {"rows": rows, "seconds": seconds, "seed": seed, "machine": machine(),
             "findings": [f"{t}: {s}" for t, s in sorted(results.kinds())]}  # fmt: skip
    write(out, "fuzz", record, table)
    raise SystemExit(int(bool(results.findings)))


if __name__ == "__main__":
    main()
