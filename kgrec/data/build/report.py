"""The report of a build: what was read, counted and left out."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class RelationSize:
    """How much a relation tells.

    Attributes:
        relation: the relation.
        source: table and column that it comes from.
        items: items (users, for an attribute of users) with a value; heads, for other triples.
        values: distinct values or tails.
        triples: its triples.
    """

    relation: str
    source: str
    items: int
    values: int
    triples: int


@dataclass
class Report:
    """What a build counted.

    Attributes:
        sizes: sizes of the folder, by name.
        tables: for each table, its rows, and the columns that were not used.
        relations: sizes of the relations.
        counts: further lines, as (description, number).
        warnings: the lines that want the user's attention.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    relations: list[RelationSize] = field(default_factory=list)
    counts: list[tuple[str, int]] = field(default_factory=list)
    warnings: list[tuple[str, int]] = field(default_factory=list)

    def add(self, what: str, count: int) -> None:
        """Adds a line, unless the number is 0."""
        if count:
            self.counts.append((what, int(count)))

    def warn(self, what: str, count: int) -> None:
        """Adds a line that wants the user's attention, unless the number is 0."""
        if count:
            self.warnings.append((what, int(count)))

    def as_dict(self) -> dict[str, Any]:
        """Plain data for build.json."""

        def lines(pairs: list[tuple[str, int]]) -> list[dict[str, Any]]:
            return [{"what": what, "count": count} for what, count in pairs]

        return {
            "sizes": self.sizes,
            "tables": self.tables,
            "relations": [asdict(relation) for relation in self.relations],
            "counts": lines(self.counts),
            "warnings": lines(self.warnings),
        }

    def text(self, folder: str) -> str:
        """The report as lines that fit the terminal."""
        width = max(shutil.get_terminal_size((80, 24)).columns, 40)

        def listed(pairs: list[tuple[str, int]]) -> list[str]:
            return [
                textwrap.fill(f"{what}: {count:,}", width, initial_indent="  ",
                              subsequent_indent="    ", break_long_words=False,
                              break_on_hyphens=False)
                for what, count in pairs
            ]  # fmt: skip

        sizes = ", ".join(f"{count:,} {name}" for name, count in self.sizes.items())
        lines = [textwrap.fill(f"{folder}: {sizes}", width, subsequent_indent="  "), ""]
        lines += _table(self.relations, width)
        if self.counts:
            lines += ["", "counted", *listed(self.counts)]
        if self.warnings:
            lines += ["", "worth a look", *listed(self.warnings)]
        return "\n".join(lines)


def _table(relations: list[RelationSize], width: int) -> list[str]:
    """One line for each relation; long names are cut."""
    room = max(10, min(28, width - 30))
    shown = [("relation", "owners", "values", "triples")] + [
        (_cut(r.relation, room), f"{r.items:,}", f"{r.values:,}", f"{r.triples:,}")
        for r in relations[:40]
    ]
    first = max(len(row[0]) for row in shown)
    lines = [f"{a:<{first}} {b:>8} {c:>8} {d:>9}" for a, b, c, d in shown]
    if len(relations) > 40:
        lines.append(f"and {len(relations) - 40} more, see build.json")
    return lines


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: room - 1] + "…"
