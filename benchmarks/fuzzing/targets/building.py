"""Readers of a user's own tables: a plan of ``kgrec data build``, its guess, single tables."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fuzzing.mutations import Files
from fuzzing.target import Target
from fuzzing.targets.small_files import encoded, parquet_folders
from kgrec.commands.run_choice import read_histories, read_items
from kgrec.data.build.building import build
from kgrec.data.build.columns import UserTable
from kgrec.data.build.guess import guess_plan
from kgrec.data.build.plan_file import read_plan
from kgrec.data.formats import recognise
from kgrec.data.frames import as_frame
from kgrec.errors import DataError
from kgrec.files import write_parquet
from kgrec.inference.new_items import read_triples

TABLES = {
    "orders.csv": "customer,product,date,qty,stars\n7,p1,2024-01-02,2,4\n8,p2,2024-01-03,1,5\n"
    "7,p2,2024-02-01,1,3\n9,p3,2024-03-01,1,4\n",
    "products.csv": "product,title,brand,price,tags,made\np1,Lamp,acme,9.50,red|big,2001-05-06\n"
    'p2,"Big, Lamp",acme,1200,red,1999\np3,Chair,other,n/a,,2010\n',
    "customers.csv": "customer,city,age\n7,Rome,30\n8,Oslo,41\n9,,22\n",
    "friends.csv": "customer,other\n7,8\n8,9\n",
    "related.csv": "product,also\np1,p2\np2,p3\n",
    "graph.tsv": "head\trelation\ttail\nm.1\tkind\tm.9\nm.2\tkind\tm.9\n",
    "graph_links.tsv": "p1\tm.1\np2\tm.2\n",
    "graph_names.tsv": "m.1\tLamp of Rome\nm.9\tLamps\n",
}
PLAN = """\
interactions: {table: orders.csv, user: customer, item: product, rating: stars, timestamp: date,
               quantity: qty, min_count: 1, weight: quantity}
items:
  table: products.csv
  id: product
  name: title
  attributes:
  - brand
  - {column: price, bins: 2}
  - {column: tags, separator: '|', label: tagged, entities: tag}
  - {column: made, date: decade}
users: {table: customers.csv, id: customer, attributes: [city, {column: age, edges: [20, 40]}]}
user_links: {table: friends.csv, user: customer, other: other, relation: user.friend}
triples: [{table: related.csv, head: product, tail: also, relation: also}]
graph: {triples: graph.tsv, links: graph_links.tsv, names: graph_names.tsv}
missing: [n/a]
"""
JOINED = """\
interactions: {table: orders.csv, user: customer, item: product}
items: {table: products.csv, id: product, name: title, attributes: []}
graph:
  triples: graph.tsv
  links: {table: named.csv, entity: entity, by: [title, made], columns: [title, year]}
"""
NAMED = "entity,title,year\nm.1,lamp,2001\nm.2,The Lamp,1999\nm.9,Chair,2010\n"
SINGLE = {
    "a.csv": "user,item,n,when\n1,a,1.5,2020-01-01\n2,b,2,2021-01-01\n",
    "b.tsv": "user\titem\tn\twhen\n1\ta\t1,000\t99\n2\tb\t€2\t3\n",
    "c.txt": "user|item|n|when\n01|a|1|2020-01-01T10:00:00\n2||x|\n",
}
EXTRA = "head,relation,tail,name\nnew,r,m.1,New one\nnew,r,m.2,\nother,r,m.1,\n"
LISTED = {"items.txt": "item\na\nb\nc d\n", "items.csv": "item,x\na,1\nb,2\n"}


@cache
def _plans(_: Path) -> list[Files]:
    joined = TABLES | {"build.yaml": JOINED, "named.csv": NAMED}
    return encoded(TABLES | {"build.yaml": PLAN}, joined)


def read_build(folder: Path) -> Any:
    """Builds a folder by its plan and reads what was built."""
    target = folder / "built"
    shutil.rmtree(target, ignore_errors=True)
    try:
        report = build(read_plan(folder / "build.yaml"), target)
        raw = recognise(target).read(target)
    finally:
        assert not [p for p in folder.glob(".*") if p.is_dir()], "a half-written folder"
        shutil.rmtree(target, ignore_errors=True)
    assert raw.interactions.height, "no interaction"
    return report.as_dict()


def read_guess(folder: Path) -> Any:
    """Guesses a plan; the plan that was guessed can be read."""
    tables = sorted(path for path in folder.iterdir() if path.name != "build.yaml")
    text = guess_plan(tables, folder)
    (folder / "build.yaml").write_text(text, encoding="utf-8")
    unfinished = "# Found no attribute" in text or "FILE  #" in text
    with contextlib.suppress(*([Exception] if unfinished else [])):
        read_plan(folder / "build.yaml")
    (folder / "build.yaml").unlink()
    return text


def read_table(folder: Path) -> Any:
    """Reads every column of every table as ids, numbers, times and texts, where it can be."""
    results, errors, tables = [], 0, 0
    for path in sorted(folder.iterdir()):
        table = UserTable(path)
        tables += 1
        for name in table.frame.columns:
            for reader in (table.ids, table.numbers, _times(table), table.texts):
                try:
                    values = reader(name, "key")
                except DataError as error:
                    errors += 1
                    if str(path) not in str(error):
                        raise
                    continue
                assert len(values) == table.frame.height, "rows"
                if values.dtype.is_float():
                    assert values.drop_nulls().is_finite().all(), "numbers that are not finite"
                results.append((name, str(values.dtype), values.null_count()))
    return results, errors, tables


def _times(table: UserTable) -> Callable[[str, str], Any]:
    return lambda name, key: table.numbers(name, key, times=True)


def read_choices(folder: Path) -> Any:
    """Reads candidates, histories of new users and extra triples."""
    items = [read_items(path) for path in sorted(folder.glob("items.*"))]
    assert all(item.strip() for chosen in items for item in chosen), "blank ids"
    histories = [read_histories(path).rows() for path in sorted(folder.glob("history.*"))]
    triples = [read_triples(path).rows() for path in sorted(folder.glob("extra.*"))]
    return items, histories, triples


@cache
def _choices(_: Path) -> list[Files]:
    history = "user,item\nann,a\nann,b\nbob,c d\n"
    texts = {"extra.csv": EXTRA, "history.csv": history}
    return encoded(LISTED | texts, LISTED | {"history.tsv": history.replace(",", "\t")})


def read_frames(folder: Path) -> Any:
    """Reads frames in memory as ``kgrec.fit`` does, up to the built folder."""
    try:
        given = json.loads((folder / "frames.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None  # no frames
    if not isinstance(given, dict):
        return None
    names = [name for name in FRAMES if name in given]
    place = folder.parent / "fit"
    shutil.rmtree(place, ignore_errors=True)
    try:
        for name in names:
            write_parquet(place / "tables" / f"{name}.parquet", as_frame(name, given[name]))
        (place / "build.yaml").write_text(guess_plan([place / "tables"], place), encoding="utf-8")
        report = build(read_plan(place / "build.yaml"), place / "data")
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return report.as_dict()


FRAMES: dict[str, dict[str, list[Any]]] = {
    "interactions": {"user": [1, 2, 1, 3], "item": ["a", "b", "c", "a"],
                     "rating": [5, 4.5, 3, None], "date": ["2020-01-01"] * 4},
    "items": {"item": ["a", "b", "c"], "title": ["A", None, "C"], "kind": ["x", "y", "x"],
              "tags": [["p", "q"], [], ["p"]], "price": [1.5, 2.5, None]},
    "users": {"user": [1, 2, 3], "city": ["Rome", "Oslo", "Rome"]},
    "links": {"item": ["a", "b"], "also": ["b", "c"]},
}  # fmt: skip

TARGETS = [
    Target("plan", _plans, read_build, files=("build.yaml",), share=2),
    Target("plan_tables", _plans, read_build, share=2),
    Target("guess", lambda _: encoded(TABLES), read_guess, share=0.5, names_folder=False),
    Target("tables", lambda _: encoded(*({k: v} for k, v in SINGLE.items())), read_table, share=3),
    Target("parquet_tables",
           lambda _: [{k: v} for files in parquet_folders() for k, v in files.items()], read_table,
           share=2),
    Target("frames", lambda _: [{"frames.json": json.dumps(FRAMES).encode()}], read_frames,
           share=0.5, names_folder=False),
    Target("choices", _choices, read_choices, share=2),
]  # fmt: skip
