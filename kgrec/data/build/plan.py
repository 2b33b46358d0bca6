"""The plan: which tables and columns become interactions, items and triples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

ITEM = "item"  # kind of the entities that items are: item 00123 is the entity item=00123
USER_PREFIX = "user."  # of relations and kinds of the attributes of users
DATES = ("year", "decade")
WEIGHTS = ("quantity", "repeats")


@dataclass(frozen=True)
class Attribute:
    """A column whose values become entities.

    Attributes:
        column: column of the table.
        relation: relation from the item (or user) to a value.
        entities: kind of the values; a value of two columns is one entity if both name one kind.
        label: name of the relation for people.
        separator: text between the values of a cell; None: a cell is one value, or a list.
        bins: number of quantile bins of a numeric column, or None.
        edges: limits of the bins of a numeric column, or empty.
        date: "year" or "decade" of a column of dates, or None.
    """

    column: str
    relation: str
    entities: str
    label: str
    separator: str | None = None
    bins: int | None = None
    edges: tuple[float, ...] = ()
    date: str | None = None


@dataclass(frozen=True)
class AttributeTable:
    """A table of items or users, with one row or several for each.

    Attributes:
        table: the file.
        id: column of the ids.
        name: column of the items' names, or None.
        text: column of a text on each item, kept for ``model.text``, or None.
        attributes: the columns that become relations.
    """

    table: Path
    id: str
    name: str | None
    attributes: tuple[Attribute, ...]
    text: str | None = None


@dataclass(frozen=True)
class InteractionTable:
    """The table of interactions.

    Attributes:
        table: the file.
        user: column of the user ids.
        item: column of the item ids.
        rating: column of the ratings, or None.
        timestamp: column of dates or seconds since 1970, or None.
        quantity: column of the quantities, or None: every row counts 1.
        min_count: lowest sum of the quantities of a user-item pair that is kept.
        weight: "quantity" or "repeats": weight of a pair, the sum of its quantities or the number
            of its rows; None: pairs have no weight.
    """

    table: Path
    user: str
    item: str
    rating: str | None = None
    timestamp: str | None = None
    quantity: str | None = None
    min_count: float | None = None
    weight: str | None = None


@dataclass(frozen=True)
class TripleTable:
    """A table of links between items or values of attributes.

    Attributes:
        table: the file.
        head: column of the heads.
        tail: column of the tails.
        relation: name of the relation, or None.
        relation_column: column of the relations, or None; one of the two is given.
        head_is: kind of the heads: "item", or the kind of an attribute's values.
        tail_is: kind of the tails.
    """

    table: Path
    head: str
    tail: str
    relation: str | None
    relation_column: str | None
    head_is: str = ITEM
    tail_is: str = ITEM


@dataclass(frozen=True)
class UserLinkTable:
    """A table of links between users.

    Attributes:
        table: the file.
        user: column of the user ids.
        other: column of the ids of the users to which they are linked.
        relation: name of the relation.
    """

    table: Path
    user: str
    other: str
    relation: str = f"{USER_PREFIX}link"


@dataclass(frozen=True)
class GraphLinks:
    """How the items are linked to the entities of an existing graph.

    Attributes:
        table: a file of item-entity pairs, or a file that describes the entities.
        item: column of the item ids, or None.
        entity: column of the entities, or None.
        by: columns of the items table (title, and year if wanted) to join by, or empty.
        columns: the same columns in ``table``.
    """

    table: Path
    item: str | None = None
    entity: str | None = None
    by: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """An existing knowledge graph.

    Attributes:
        triples: file of three columns: head, relation, tail.
        links: links of the items to its entities.
        names: file of two columns: entity, name; or None.
    """

    triples: Path
    links: GraphLinks
    names: Path | None = None


@dataclass(frozen=True)
class Plan:
    """What build.yaml says.

    Attributes:
        path: build.yaml.
        content: its content as plain data.
        interactions: the table of interactions.
        items: tables of items.
        users: table of users, or None.
        user_links: tables of links between users.
        triples: tables of links.
        graph: an existing graph, or None.
        missing: texts that stand for a missing value of an attribute.
    """

    path: Path
    content: dict[str, Any]
    interactions: InteractionTable
    items: tuple[AttributeTable, ...] = ()
    users: AttributeTable | None = None
    user_links: tuple[UserLinkTable, ...] = ()
    triples: tuple[TripleTable, ...] = ()
    graph: Graph | None = None
    missing: tuple[str, ...] = ()


def shown_path(table: Path, plan: Path) -> str:
    """The path of a table as the plan writes it: from the folder of the plan, if it is there."""
    inside = table.is_relative_to(plan.parent)
    return (table.relative_to(plan.parent) if inside else table).as_posix()
