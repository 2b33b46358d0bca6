"""What each table is: interactions, items, users, links or an existing graph; for ``--guess``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from kgrec.data.build.columns import SUFFIXES, UserTable
from kgrec.data.formats.headers import all_fields, headless, matches
from kgrec.data.raw_tables import TRIPLE
from kgrec.errors import DataError, several

_USER = "user|friend|customer|client|member|buyer|reader|visitor|account|person|patron|cust|uid"
_ITEM = ("item|product|movie|film|book|article|track|song|artist|sku|asin|isbn|restaurant|business"
         "|recipe|game|course|hotel|app|show|anime|stock_code|iid")  # fmt: skip
_ID = "id$|no$|nr$|number$|code$|key$|sku|asin|isbn"
_GRAPH = re.compile("kg|triple|graph", re.IGNORECASE)
COVER = 0.5  # share of ids that two columns must share to be ids of one kind


def about(words: str, name: str) -> bool:
    """Whether one of some words, as in ``a|b``, is a word of a name: userId, user_id, users."""
    snake = re.sub("(?<=[a-z0-9])(?=[A-Z])", "_", name.partition(":")[0])
    plain = re.sub(r"[^\w]+", "_", snake).lower()
    return bool(re.search(f"(?:^|_)(?:{words})s?(?:id|no|nr|key|code)?(?:_|$)", plain))


@dataclass
class Roles:
    """The tables, by what they are.

    Attributes:
        interactions: the table of interactions.
        user: its column of users.
        item: its column of items.
        items: tables of items, the one that lists them first, each with its column of ids.
        users: table of users with its column of ids, or None.
        user_links: tables of links between users, with the columns of both.
        links: tables of links between items, with the columns of heads and tails.
        graph: file of triples, or None.
        graph_links: file of links to the graph, or None.
        notes: remarks on tables that have no role.
    """

    interactions: UserTable
    user: str
    item: str
    items: list[tuple[UserTable, str]] = field(default_factory=list)
    users: tuple[UserTable, str] | None = None
    user_links: list[tuple[UserTable, str, str]] = field(default_factory=list)
    links: list[tuple[UserTable, str, str]] = field(default_factory=list)
    graph: Path | None = None
    graph_links: Path | None = None
    notes: list[str] = field(default_factory=list)


def table_files(sources: Sequence[Path]) -> list[Path]:
    """The files of folders and files, in order.

    Raises:
        DataError: a source is missing, or there is no table.
    """
    files: list[Path] = []
    for source in sources:
        if source.is_dir():
            files += sorted(p for p in source.iterdir() if p.suffix in SUFFIXES and p.is_file())
        elif source.is_file():
            files.append(source)
        else:
            raise DataError(f"{source}: found no such file or folder, expected tables")
    if not files:
        places = several(sources)
        raise DataError(f"{places}: found no table, expected files that end in "
                        f"{', '.join(SUFFIXES)}")  # fmt: skip
    return files


MOST_COLUMNS = 1_000  # of a table, so that a guess takes seconds and its file can be read


def _table(path: Path) -> UserTable:
    table = UserTable(path)
    if table.frame.width > MOST_COLUMNS:
        raise DataError(f"{path}: found {table.frame.width:,} columns, expected at most "
                        f"{MOST_COLUMNS:,}; write build.yaml by hand")  # fmt: skip
    return table


def find_roles(files: Sequence[Path]) -> Roles:
    """Finds out what each table is, by the names of columns and the ids that tables share.

    Raises:
        DataError: no table has a column of users and one of items.
    """
    tables, notes = [], []
    graph = None
    for path in files:
        if graph is None and _is_graph(path):
            graph = path
            continue
        try:
            tables.append(_table(path))
        except DataError as error:
            notes.append(f"not read: {error}")
    roles = _interactions(tables, notes)
    roles.graph, roles.notes = graph, notes
    items = _distinct(roles.interactions, roles.item)
    users = _distinct(roles.interactions, roles.user)
    rest = {
        table: (
            _same_ids(table, roles.item, items, _ITEM, _USER),
            _same_ids(table, roles.user, users, _USER, _ITEM),
        )
        for table in tables
        if table is not roles.interactions
    }
    for table, (item, user) in rest.items():
        two_columns = graph is not None and len(table.frame.columns) == 2
        if item is not None and user is not None:
            notes.append(f"{table.path.name}: has users and items too; not used")
        elif item is not None:
            lists = [_distinct(t, c) for t, (c, _) in rest.items() if c is not None and t != table]
            other = _second_ids(table, item, pl.concat([items, *lists]), _ITEM)
            if other is not None:
                roles.links.append((table, item, other))
            elif two_columns and not about(_ITEM, table.path.stem):
                roles.graph_links = table.path
            else:
                roles.items.append((table, item))
        elif user is not None and _is_of_users(table, user, users, roles):
            pass
        elif two_columns and roles.graph_links is None:
            roles.graph_links = table.path
        else:
            notes.append(f"{table.path.name}: shares no ids with the interactions; not used")
    # The table that lists the items comes first: it has each item once.
    roles.items.sort(key=lambda pair: _distinct(*pair).len() != pair[0].frame.height)
    return roles


def _is_of_users(table: UserTable, user: str, users: pl.Series, roles: Roles) -> bool:
    """Adds a table with ids of users to the roles; False if there is a table of users already."""
    other = _second_ids(table, user, users, _USER)
    if other is not None:
        roles.user_links.append((table, user, other))
    elif roles.users is None:
        roles.users = table, user
    return other is not None or roles.users == (table, user)


def _is_graph(path: Path) -> bool:
    """Whether a file is one of triples: by its header, or by its name and three fields."""
    try:
        if headless(path, TRIPLE):
            return bool(_GRAPH.search(path.name))
        columns = all_fields(path)
    except DataError:
        return False
    return all(matches(columns, name, {}) for name in TRIPLE)


def _interactions(tables: Sequence[UserTable], notes: Sequence[str]) -> Roles:
    candidates = []
    for table in tables:
        user = _id_column(table, _USER, None)
        item = _id_column(table, _ITEM, user)
        if user is not None and item is not None:
            candidates.append((table, user, item))
    if not candidates:
        columns = "; ".join(f"{t.path.name}: {several(t.frame.columns[:12])}" for t in tables)
        raise DataError(
            "--guess: found no table with a column of users and one of items "
            f"({columns or 'no tables'}), expected columns such as user_id and item_id; rename "
            "them, or write build.yaml by hand (docs/data.md)",
            *(f"  {note}" for note in notes),
        )
    best = max(candidates, key=lambda c: c[0].frame.height)
    return Roles(*best)


def _id_column(table: UserTable, words: str, taken: str | None) -> str | None:
    """The column whose name says that it has ids of users or items; ids before names."""
    columns = [c for c in table.frame.columns if c != taken and about(words, c)]
    columns = [c for c in columns if not table.frame[c].dtype.is_nested()]
    whole = [c for c in columns if re.search(_ID, c.lower().split(":")[0])]
    exact = [c for c in columns if re.fullmatch(words, c.lower())]
    return next(iter([*whole, *exact, *columns]), None)


def _ids(table: UserTable, column: str) -> pl.Series | None:
    try:
        return table.ids(column, "id").drop_nulls()
    except DataError:
        return None


def _distinct(table: UserTable, column: str) -> pl.Series:
    ids = _ids(table, column)
    return pl.Series(dtype=pl.String) if ids is None else ids.unique()


def _same_ids(
    table: UserTable, name: str, known: pl.Series, words: str, other_words: str
) -> str | None:
    """The column with the ids that another table calls ``name``; None if there is none.

    Columns of texts need not have a telling name, but numbers do: they coincide by chance.
    """
    texts = not known.str.contains(r"^[0-9]+$").all()
    best, column_of_best = COVER, None
    for column in table.frame.columns:
        small = column.lower()
        by_name = column == name or (about(words, column) and not about(other_words, column))
        plain_id = small in ("id", "key", "code") and bool(about(words, table.path.stem))
        if not (by_name or plain_id or texts):
            continue
        ids = _distinct(table, column)
        if ids.is_empty():
            continue
        shared = int(ids.is_in(known.implode()).sum())
        share = max(shared / len(ids), shared / len(known)) + (0.01 if column == name else 0)
        if share > best:
            best, column_of_best = share, column
    return column_of_best


def _second_ids(table: UserTable, first: str, known: pl.Series, words: str) -> str | None:
    """A second column of ids of items or users, in a table of links.

    Args:
        table: the table.
        first: the first column of ids.
        known: the ids.
        words: words that a name of such a column has.
    """
    for column in table.frame.columns:
        if column == first:
            continue
        ids = _distinct(table, column)
        if len(ids) and float(ids.is_in(known.implode()).sum()) >= 0.8 * len(ids) and (
            about(words, column) or not ids.str.contains(r"^[0-9]{1,3}$").all()
        ):  # fmt: skip
            return column
    return None
