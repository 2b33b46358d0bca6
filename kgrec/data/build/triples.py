"""Triples of the graph under way: entities, relations and their names."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from kgrec.data.build.report import RelationSize, Report
from kgrec.data.raw_tables import TRIPLE
from kgrec.errors import several

NAMES = {"entity": pl.String, "name": pl.String, "kind": pl.String}
_TRIPLE = dict.fromkeys(TRIPLE, pl.String)


def entity(kind: str, value: str) -> pl.Expr:
    """Id of an entity, ``kind=value``: it depends on nothing else, so it stays when tables grow."""
    return pl.lit(f"{kind}=") + pl.col(value)


@dataclass
class Triples:
    """Collects the triples of all tables.

    Attributes:
        report: where each relation's size is added.
        frames: triples, ``head, relation, tail``.
        names: ``entity, name, kind`` of entities that are not items.
        relation_names: relation to its name for people.
        sources: relation to the first table, or column of a table, that has it.
    """

    report: Report
    frames: list[pl.DataFrame] = field(default_factory=list)
    names: list[pl.DataFrame] = field(default_factory=list)
    relation_names: dict[str, str] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    def add(self, triples: pl.DataFrame, source: str, labels: dict[str, str] | None = None) -> None:
        """Adds triples; one that is there twice counts once."""
        triples = triples.select(TRIPLE).unique(maintain_order=True)
        sizes = triples.group_by("relation", maintain_order=True).agg(
            pl.col("head").n_unique(), pl.col("tail").n_unique(), pl.len()
        )
        for relation, heads, tails, count in sizes.iter_rows():
            self.report.relations.append(RelationSize(relation, source, heads, tails, count))
            self.relation_names.setdefault(relation, (labels or {}).get(relation, relation))
        shared = [r for r in sizes["relation"] if self.sources.setdefault(r, source) != source]
        shown = several(f"{r} of {self.sources[r]}" for r in shared[:3])
        self.report.warn(f"{source}: relations that are taken as those of the same name in another "
                         f"table ({shown})", len(shared))  # fmt: skip
        self.frames.append(triples)

    def name(self, names: pl.DataFrame) -> None:
        """Adds names of entities, ``entity, name, kind``; the first name of an entity counts."""
        self.names.append(names.select(list(NAMES)).unique("entity", keep="first",
                                                           maintain_order=True))  # fmt: skip

    def table(self) -> pl.DataFrame:
        """All triples, each once."""
        return pl.concat([pl.DataFrame(schema=_TRIPLE), *self.frames]).unique(maintain_order=True)

    def entity_names(self) -> pl.DataFrame:
        """The names of all entities, each entity once."""
        names = pl.concat([pl.DataFrame(schema=NAMES), *self.names])
        return names.unique("entity", keep="first", maintain_order=True)
