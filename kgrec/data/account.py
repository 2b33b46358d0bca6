"""The account: how many rows each step of the preparation read, dropped or merged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kgrec.errors import KgrecError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """One counted step.

    Attributes:
        step: stage of the preparation ("interactions", "graph", "split", …).
        what: name of the counted rows, and what was done with them.
        count: number of rows.
        changes: whether the rows were dropped, merged or otherwise changed, so that the count is
            worth the user's attention unless it is 0.
    """

    step: str
    what: str
    count: int
    changes: bool = False


@dataclass
class Account:
    """An ordered list of counted steps."""

    entries: list[Entry] = field(default_factory=list)

    def add(self, step: str, what: str, count: int, changes: bool = False) -> None:
        """Appends one step; a count of 0 is kept, because it says that nothing was lost."""
        self.entries.append(Entry(step, what, int(count), changes))

    @property
    def changes(self) -> list[Entry]:
        """The steps that dropped, merged or changed something."""
        return [entry for entry in self.entries if entry.changes and entry.count]

    def as_list(self) -> list[dict[str, Any]]:
        """The entries as plain data, for dataset.json."""
        return [{"step": e.step, "what": e.what, "count": e.count} for e in self.entries]

    def copy(self) -> Account:
        """A copy to which steps can be added without changing this account."""
        return Account(list(self.entries))

    @contextmanager
    def shown_on_failure(self) -> Iterator[None]:
        """Logs the account if the code inside fails: its counts may explain the failure."""
        try:
            yield
        except KgrecError:
            lines = [f"  {e.step}: {e.what}: {e.count:,}" for e in self.entries if e.count]
            if lines:
                log.info("%s", "\n".join(["counted before the error:", *lines]))
            raise
