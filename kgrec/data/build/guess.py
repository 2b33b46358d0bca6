"""``kgrec data build --guess``: a first build.yaml, with a comment on each choice."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain, count
from pathlib import Path

import polars as pl

from kgrec.data.build.columns import UserTable
from kgrec.data.build.plan import ITEM, USER_PREFIX
from kgrec.data.build.profile import choose
from kgrec.data.build.roles import Roles, about, find_roles, table_files
from kgrec.errors import DataError

_NAME = re.compile(r"^(?:name|title|label)$|(?:name|title|label)$", re.IGNORECASE)
_GRAPH_KEYS = ("attributes:", "triples:", "graph:")  # a plan needs one of them
_TIME = "timestamp|time|date|datetime|ts|when|at"
_RATING = "rating|stars|score"
_QUANTITY = "quantity|qty|unit|count|play|listen|weight"


def guess_plan(sources: Sequence[Path], base: Path) -> str:
    """The text of a build.yaml for tables.

    Args:
        sources: tables, or folders with tables.
        base: folder of the build.yaml, from which it names the tables.

    Raises:
        DataError: no table can be read, or none has users and items.
    """
    roles = find_roles(table_files(sources))
    missing: set[str] = set()
    taken: set[str] = {ITEM}
    lines = ["# Written by kgrec data build --guess: look at the choices, change what is wrong."]
    lines += [f"# {_one_line(note)}" for note in roles.notes]
    lines += _interactions(roles, base)
    own_table = not roles.items
    tables = roles.items or [(roles.interactions, roles.item)]
    sections = [
        _attributes(table, key, "items", base, missing, taken, roles if own_table else None)
        for table, key in tables
    ]
    if len(sections) == 1 and (not own_table or "attributes:" in sections[0]):
        lines += ["items:", *(f"  {line}" for line in sections[0])]
    elif len(sections) > 1:
        lines.append("items:")
        for section in sections:
            lines += [f"  {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(section)]
    if roles.users is not None:
        section = _attributes(*roles.users, "users", base, missing, taken, None)
        lines += ["users:  # user_attributes.csv; a graph of its own with dataset.user_graph=use"]
        lines += [f"  {line}" for line in section]
    if roles.user_links:
        lines.append("user_links:")
    for table, user, other in roles.user_links:
        lines += [
            f"  - table: {_path(table.path, base)}  # {table.frame.height:,} links between users",
            f"    user: {_value(user)}",
            f"    other: {_value(other)}",
            f"    relation: {_value(USER_PREFIX + table.path.stem)}  # its name",
        ]
    if roles.links:
        lines.append("triples:")
    for table, head, tail in roles.links:
        lines += [
            f"  - table: {_path(table.path, base)}  # {table.frame.height:,} links between items",
            f"    head: {_value(head)}",
            f"    tail: {_value(tail)}",
            f"    relation: {_value(table.path.stem)}  # its name",
        ]
    if roles.graph is not None:
        lines += ["graph:", f"  triples: {_path(roles.graph, base)}"]
        where = "FILE  # item and entity of each row; or {table, entity, by: [title, year]}"
        if roles.graph_links is not None:
            where = _path(roles.graph_links, base)
        lines.append(f"  links: {where}")
    if not any(line.lstrip() in _GRAPH_KEYS for line in lines):
        lines.append("# Found no attribute, no link between items and no graph: add one of them.")
    if missing:
        lines.append(f"missing: [{', '.join(map(_value, sorted(missing)))}]  # taken as no value")
    return "\n".join(lines) + "\n"


def _interactions(roles: Roles, base: Path) -> list[str]:
    table = roles.interactions
    lines = [
        "interactions:",
        f"  table: {_path(table.path, base)}  # {table.frame.height:,} rows",
        f"  user: {_value(roles.user)}  # {table.frame[roles.user].n_unique():,} users",
        f"  item: {_value(roles.item)}  # {table.frame[roles.item].n_unique():,} items",
    ]
    special = _special_columns(roles)
    lines += [f"  {key}: {_value(column)}" for key, column in special.items()]
    repeats = table.frame.height - table.frame.select(roles.user, roles.item).n_unique()
    if repeats:
        amount = "whose quantities add up to 2" if "quantity" in special else "that occur 2 times"
        lines.append(f"  # {repeats:,} rows repeat a pair, which is one positive all the same")
        lines.append(f"  # min_count: 2  # keeps only the pairs {amount} or more")
    if repeats or "quantity" in special:
        weight = "quantity" if "quantity" in special else "repeats"
        other = ", or repeats (rows of a pair)" if weight == "quantity" and repeats else ""
        lines.append(f"  # weight: {weight}  # weight of a pair{other}; used in training with "
                     "dataset.weights=use")  # fmt: skip
    return lines


def _special_columns(roles: Roles) -> dict[str, str]:
    """The columns of ratings, timestamps and quantities, by the keys of build.yaml."""
    taken = [roles.user, roles.item]
    columns: dict[str, str] = {}
    for key, words in (("rating", _RATING), ("timestamp", _TIME), ("quantity", _QUANTITY)):
        column = _readable(roles.interactions, words, key, taken)
        if column is not None:
            columns[key] = column
            taken.append(column)
    return columns


def _readable(table: UserTable, words: str, key: str, taken: Iterable[str]) -> str | None:
    """The first column of numbers or dates whose name fits."""
    for column in table.frame.columns:
        if column in taken or not about(words, column):
            continue
        try:
            values = table.numbers(column, key, times=key == "timestamp")
        except DataError:
            continue
        if values.null_count() < 0.05 * len(values):
            return column
    return None


def _attributes(
    table: UserTable, key: str, owners: str, base: Path, missing: set[str], taken: set[str],
    roles: Roles | None,
) -> list[str]:  # fmt: skip
    """The lines of a table of items or users.

    Args:
        table: the table.
        key: its column of ids.
        owners: "items" or "users".
        base: folder of build.yaml.
        missing: where texts that look like missing values are added.
        taken: names of relations that cannot be used again; those of the columns are added.
        roles: the roles, where the table is that of the interactions: then only columns that
            have one value for each item are attributes.
    """
    frame = table.frame
    columns = [c for c in frame.columns if c != key]
    if roles is not None:
        read = [roles.user, *_special_columns(roles).values()]
        columns = [c for c in columns if c not in read and _depends(frame, key, c)]
    one_per_id = frame.unique(key) if roles is not None else frame
    name = next((c for c in columns if owners == "items" and _NAME.search(c.split(":")[0])), None)
    if roles is None and frame[key].n_unique() < 0.9 * frame.height:
        name = None  # a table with several rows for an item, such as one of tags
    lines = [f"table: {_path(table.path, base)}", f"id: {_value(key)}"]
    if name is not None:
        lines.append(f"name: {_value(name)}")
    chosen: list[str] = []
    left: list[str] = []
    for column in columns:
        if column == name:
            continue
        choice = choose(column, one_per_id[column], owners)
        missing.update(choice.missing)
        if choice.settings is None:
            left.append(f"  # {_quoted(column)}: {_one_line(choice.comment)}")
            continue
        settings = _names(column, table, owners, taken) | choice.settings
        chosen.append(_line(column, settings, choice.comment))
    if chosen:
        lines += ["attributes:", *chosen]
    return lines + left


def _names(column: str, table: UserTable, owners: str, taken: set[str]) -> dict[str, object]:
    """Settings with the names of the relation and the values, if the column's own is taken."""
    prefix = USER_PREFIX if owners == "users" else ""
    plain = column.partition(":")[0]
    longer = f"{prefix}{table.path.stem}_{plain.strip() or 'column'}"
    names = chain([prefix + plain] if plain.strip() else [], [longer],
                  (f"{longer}_{number}" for number in count(2)))  # fmt: skip
    relation = next(name for name in names if name not in taken)
    taken.add(relation)
    return {} if relation == prefix + plain else {"relation": relation, "entities": relation}


def _line(column: str, settings: dict[str, object], comment: str) -> str:
    shown = ", ".join(f"{key}: {_value(value)}" for key, value in settings.items())
    return f"  {_quoted(column)}: {{{shown}}}  # {_one_line(comment)}"


def _one_line(text: str) -> str:
    """A comment, whatever is in the cells that it quotes."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _depends(frame: pl.DataFrame, key: str, column: str) -> bool:
    """Whether each item has one value of a column, blank or not."""
    if frame[column].dtype.is_nested():
        return False
    return frame.select(key, column).n_unique() == frame[key].n_unique()


def _path(path: Path, base: Path) -> str:
    return _value(os.path.relpath(path, base))


def _value(value: object) -> str:
    """A value as YAML for OmegaConf, which would replace ${NAME} by the value of a key."""
    if not isinstance(value, str):
        return str(value)
    return _quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", value))


def _quoted(text: str) -> str:
    """A text as YAML: in quotation marks unless it is plain, without line ends of any kind."""
    plain = re.fullmatch(r"[^\W\d][\w./-]*(?: [\w./-]+)*", text)
    words = ("yes", "no", "on", "off", "true", "false", "null", "nan", "y", "n")
    if plain and text.isprintable() and text.lower() not in words and "..." not in text:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
