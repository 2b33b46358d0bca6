"""What happened to every row on its way in: nothing is dropped without a line here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One counted step.

    Attributes:
        step: where it happened ("interactions", "graph", "split", …).
        what: what was counted, and what became of it.
        count: how many.
    """

    step: str
    what: str
    count: int


@dataclass
class Account:
    """An ordered list of counted steps."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, step: str, what: str, count: int) -> None:
        """Appends one step; zero counts stay, because "none" is an answer too."""
        self.entries.append(Entry(step, what, int(count)))

    def as_list(self) -> list[dict[str, Any]]:
        """The entries as plain data, for dataset.json."""
        return [{"step": e.step, "what": e.what, "count": e.count} for e in self.entries]

    def copy(self) -> Account:
        """An account that goes on from here on its own."""
        return Account(list(self.entries))
