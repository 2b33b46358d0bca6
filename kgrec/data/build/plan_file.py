"""Reader of build.yaml: every key is checked before a table is read."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from kgrec.data.build.plan import (
    DATES,
    ITEM,
    USER_PREFIX,
    WEIGHTS,
    Attribute,
    AttributeTable,
    Graph,
    GraphLinks,
    InteractionTable,
    Plan,
    TripleTable,
    UserLinkTable,
    shown_path,
)
from kgrec.data.yaml_files import read_yaml
from kgrec.errors import ConfigError, DataError, one_of

_KEYS = [f.name for f in fields(Plan) if f.name not in ("path", "content")]


def read_plan(path: Path) -> Plan:
    """Reads build.yaml; its tables are looked for in its own folder.

    Raises:
        ConfigError: an unknown key, a missing key, or a value of the wrong kind.
        DataError: the file is missing or no YAML.
    """
    top = _Section(path, "", _load(path), _KEYS)
    interactions = top.section("interactions", InteractionTable)
    if interactions is None:
        raise top.error("interactions", "nothing", "a table with its columns user and item")
    attributes = [f.name for f in fields(AttributeTable)]
    items = tuple(_attribute_table(s, "") for s in top.sections("items", attributes))
    users = top.sections("users", [name for name in attributes if name not in ("name", "text")])
    if len(users) > 1:
        raise top.error("users", "several tables", "one table")
    plan = Plan(
        path=path,
        content=dict(top.values),
        interactions=_interactions(interactions),
        items=items,
        users=_attribute_table(users[0], USER_PREFIX) if users else None,
        user_links=tuple(_user_links(s) for s in top.sections("user_links", UserLinkTable)),
        triples=tuple(_triple_table(s) for s in top.sections("triples", TripleTable)),
        graph=_graph(top.section("graph", Graph)),
        missing=top.texts("missing"),
    )
    _check(plan, top)
    return plan


def _load(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path}: found no such file, expected a YAML file (kgrec data build "
                        "--guess FOLDER --out build.yaml writes a first one)")  # fmt: skip
    try:
        return read_yaml(path)
    except UnicodeDecodeError:
        raise DataError(f"{path}: found a file that is not UTF-8, expected YAML") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: found no YAML that can be read ({error})") from None


class _Section:
    """A mapping of build.yaml, read key by key.

    Args:
        path: build.yaml, for messages.
        where: keys that lead to the mapping.
        values: the mapping.
        keys: the keys that it may have, or a dataclass with fields of these names.

    Raises:
        ConfigError: the values are no mapping, or have an unknown key.
    """

    def __init__(self, path: Path, where: str, values: Any, keys: Iterable[str] | type) -> None:
        self.path, self.where = path, where
        known = [f.name for f in fields(keys)] if isinstance(keys, type) else list(keys)
        if not isinstance(values, Mapping):
            given = "nothing" if values in (None, []) else repr(values)
            raise self.error("", given, f"keys, {one_of(known, '')}")
        self.values = {str(key): value for key, value in values.items()}
        for key in self.values:
            if key not in known:
                raise self.error(key, "an unknown key", one_of(known, key))

    def error(self, key: str, found: str, expected: str) -> ConfigError:
        """The error for a key of this section."""
        name = ".".join(part for part in (self.where, key) if part)
        place = f"{self.path}: {name}" if name else str(self.path)
        return ConfigError(f"{place}: found {found}, expected {expected}")

    def text(self, key: str) -> str | None:
        """A text, or None where the key has no value."""
        value = self.values.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise self.error(key, repr(value), "a text (in quotation marks, if it is a number)")
        return value

    def required(self, key: str, expected: str) -> str:
        """A text that must be there."""
        value = self.text(key)
        if value is None:
            raise self.error(key, "nothing", expected)
        return value

    def table(self, key: str = "table") -> Path:
        """The path of a table, from the folder of build.yaml."""
        text = self.required(key, "the name of a file, .csv, .tsv or .parquet")
        return self.path.parent / Path(text).expanduser()

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; one text is a list of one."""
        value = self.values.get(key)
        value = [value] if isinstance(value, str) else value or []
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise self.error(key, repr(value), "a list of texts, such as [n/a, unknown]")
        return tuple(value)

    def numbers(self, key: str) -> tuple[float, ...]:
        """A list of numbers that increase."""
        value = self.values.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not value or not all(map(_is_number, value)):
            raise self.error(key, repr(value), "a list of numbers, such as [10, 20, 50]")
        numbers = tuple(float(v) for v in value)
        if any(a >= b for a, b in pairwise(numbers)):
            raise self.error(key, repr(value), "numbers that increase")
        return numbers

    def section(self, key: str, keys: Iterable[str] | type) -> _Section | None:
        """A mapping below this one, or None where the key has no value."""
        if self.values.get(key) is None:
            return None
        return _Section(self.path, ".".join(filter(None, (self.where, key))), self.values[key],
                        keys)  # fmt: skip

    def sections(self, key: str, keys: Iterable[str] | type) -> list[_Section]:
        """One mapping or a list of mappings."""
        value = self.values.get(key)
        if not isinstance(value, list):
            only = self.section(key, keys)
            return [] if only is None else [only]
        return [_Section(self.path, f"{key}[{i}]", v, keys) for i, v in enumerate(value)]


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number; neither .nan nor a whole number beyond all floats."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _interactions(section: _Section) -> InteractionTable:
    min_count = section.values.get("min_count")
    if min_count is not None and not _is_number(min_count):
        raise section.error("min_count", repr(min_count), "a number, such as 2")
    quantity, weight = section.text("quantity"), section.text("weight")
    if weight is not None and weight not in WEIGHTS:
        raise section.error("weight", repr(weight), one_of(WEIGHTS, weight))
    if weight == "quantity" and quantity is None:
        raise section.error("quantity", "nothing", "the column of the quantities, because of "
                            "weight: quantity")  # fmt: skip
    return InteractionTable(
        table=section.table(),
        user=section.required("user", "the column of the user ids"),
        item=section.required("item", "the column of the item ids"),
        rating=section.text("rating"),
        timestamp=section.text("timestamp"),
        quantity=quantity,
        min_count=min_count,
        weight=weight,
    )


def _attribute_table(section: _Section, prefix: str) -> AttributeTable:
    columns = section.values.get("attributes")
    if isinstance(columns, list):
        columns = dict.fromkeys(section.texts("attributes"), None)
    if not isinstance(columns or {}, Mapping):
        raise section.error("attributes", repr(columns), "columns, each with its settings or none")
    attributes = []
    for column, settings in (columns or {}).items():
        keys = [f.name for f in fields(Attribute) if f.name != "column"]
        where = f"{section.where}.attributes.{column}"
        inner = _Section(section.path, where, {} if settings is None else settings, keys)
        attributes.append(_attribute(str(column), inner, prefix))
    return AttributeTable(
        table=section.table(),
        id=section.required("id", "the column of the ids"),
        name=section.text("name"),
        attributes=tuple(attributes),
        text=section.text("text"),
    )


def _attribute(column: str, section: _Section, prefix: str) -> Attribute:
    bins, date, edges = section.values.get("bins"), section.text("date"), section.numbers("edges")
    separator = section.text("separator")
    if bins is not None and (not isinstance(bins, int) or isinstance(bins, bool) or bins < 2):
        raise section.error("bins", repr(bins), "a whole number of at least 2")
    if date is not None and date not in DATES:
        raise section.error("date", repr(date), one_of(DATES, date))
    kinds = {"separator": separator, "bins": bins, "edges": edges or None, "date": date}
    given = [key for key, value in kinds.items() if value is not None]
    if len(given) > 1:
        raise section.error("", " and ".join(given), "at most one of them")
    plain = prefix + column.partition(":")[0]  # RecBole's columns have their type behind a colon
    relation = section.text("relation") or plain
    if not relation.strip():
        raise section.error("relation", "nothing", "a name, because the column has none")
    return Attribute(
        column=column,
        relation=relation,
        entities=section.text("entities") or plain,
        label=section.text("label") or relation.removeprefix(prefix).replace("_", " "),
        separator=separator,
        bins=bins,
        edges=edges,
        date=date,
    )


def _user_links(section: _Section) -> UserLinkTable:
    return UserLinkTable(
        table=section.table(),
        user=section.required("user", "the column of the user ids"),
        other=section.required("other", "the column of the users to which they are linked"),
        relation=section.text("relation") or UserLinkTable.relation,
    )


def _triple_table(section: _Section) -> TripleTable:
    relation, column = section.text("relation"), section.text("relation_column")
    if (relation is None) == (column is None):
        given = "neither" if relation is None else "both"
        raise section.error("relation", given, "either relation or relation_column")
    return TripleTable(
        table=section.table(),
        head=section.required("head", "the column of the heads"),
        tail=section.required("tail", "the column of the tails"),
        relation=relation,
        relation_column=column,
        head_is=section.text("head_is") or ITEM,
        tail_is=section.text("tail_is") or ITEM,
    )


def _graph(section: _Section | None) -> Graph | None:
    if section is None:
        return None
    if isinstance(section.values.get("links"), str):
        links = GraphLinks(section.table("links"))
    else:
        inner = section.section("links", GraphLinks)
        if inner is None:
            raise section.error("links", "nothing", "a file of item-entity pairs, or a join "
                                "{table: FILE, entity: COLUMN, by: [title, year]}")  # fmt: skip
        links = _graph_links(inner)
    names = section.table("names") if section.values.get("names") is not None else None
    return Graph(section.table("triples"), links, names)


def _graph_links(section: _Section) -> GraphLinks:
    by, columns = section.texts("by"), section.texts("columns")
    entity, item = section.text("entity"), section.text("item")
    if not by:
        if (entity is None) != (item is None):
            key, other = ("item", "entity") if item is None else ("entity", "item")
            raise section.error(key, "nothing", f"the column of the {key} ids beside {other}")
        return GraphLinks(section.table(), item, entity)
    if len(by) > 2:
        raise section.error("by", repr(list(by)), "a column of titles, and one of years if wanted")
    if columns and len(columns) != len(by):
        raise section.error("columns", repr(list(columns)), f"as many columns as by, {len(by)}")
    if item is not None:
        raise section.error("item", repr(item), "no such key beside by")
    entity = section.required("entity", "the column of the entities")
    return GraphLinks(section.table(), None, entity, by, columns or by)


def _check(plan: Plan, top: _Section) -> None:
    """Raises ConfigError where parts of the plan do not fit together."""
    tables = [*plan.items, *([plan.users] if plan.users else [])]
    seen: dict[str, str] = {}
    for table in tables:
        for attribute in table.attributes:
            where = f"column {attribute.column} of {shown_path(table.table, plan.path)}"
            other = seen.setdefault(attribute.relation, where)
            if other != where:
                raise top.error("", f"the relation {attribute.relation} for {other} and for "
                                f"{where}", "a name of its own (relation: NAME)")  # fmt: skip
            if attribute.relation == attribute.entities == ITEM:
                raise top.error("", f"the relation {ITEM} for {where}", "another name (relation: "
                                "NAME), and entities: item if its values are items")  # fmt: skip
    if not (plan.triples or plan.graph or any(table.attributes for table in plan.items)):
        raise top.error("", "no attribute, link or graph of the items", "at least one: the graph "
                        "would have no triples")  # fmt: skip
    if plan.graph and plan.graph.links.by and not plan.items:
        raise top.error("graph.links.by", "no table of items", "items with the columns "
                        f"{', '.join(plan.graph.links.by)}")  # fmt: skip
