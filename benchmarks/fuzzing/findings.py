"""Findings: an input at which kgrec does what it must not, kept with a command that repeats it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from fuzzing.mutations import Files
from fuzzing.target import folder_files, write_files

FILE, INPUT = "finding.json", "input"


@dataclass(frozen=True)
class Finding:
    """One input and what it did.

    Attributes:
        target: name of the target.
        seed: seed of the session.
        index: number of the input.
        outcome: kind of the finding.
        signature: text that equal findings share.
        detail: message or stack trace.
        files: the input, made smaller; None where it is only known by its number.
    """

    target: str
    seed: int
    index: int
    outcome: str
    signature: str
    detail: str
    files: Files | None

    @property
    def name(self) -> str:
        """Name of its folder; findings of one kind have the same."""
        digest = hashlib.sha256(f"{self.outcome} {self.signature}".encode()).hexdigest()[:8]
        return f"{self.target}-{self.outcome.replace(' ', '-')}-{digest}"

    def save(self, folder: Path, files: Files) -> None:
        """Writes the input and the facts into a new folder."""
        write_files(folder / INPUT, files)
        facts = {
            "target": self.target, "seed": self.seed, "index": self.index, "outcome": self.outcome,
            "signature": self.signature, "detail": self.detail,
            "repeat": f"python benchmarks/fuzz.py --repeat {folder}",
        }  # fmt: skip
        (folder / FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def saved(folder: Path) -> tuple[str, Files]:
    """Target and input of a saved finding."""
    facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
    return facts["target"], folder_files(folder / INPUT)
