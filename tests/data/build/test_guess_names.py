"""``--guess`` with odd names of columns, texts and tables: the plan can always be read."""

import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgrec.data.build.building import build
from kgrec.data.build.guess import guess_plan
from kgrec.data.build.plan import Plan
from kgrec.data.build.plan_file import read_plan

N = 30


def guessed(folder: Path, name: str, text: str = "red") -> Plan:
    """The guess for two tables of items and one of users with a column of this name."""
    cells = pl.Series(name, [f"{text}{i % 3} b" for i in range(N)])
    users, items = (pl.Series([f"{kind}{i}" for i in range(N)]) for kind in "cs")
    tables = {
        "orders": {"customer": pl.concat([users, users]), "sku": pl.concat([items, items])},
        "products": {"sku": items, name: cells},
        "skus": {"sku": items, name: cells},
        "customers": {"customer": users, name: cells},
    }
    for stem, columns in tables.items():
        pl.DataFrame(columns).write_parquet(folder / f"{stem}.parquet")
    (folder / "build.yaml").write_text(guess_plan([folder], folder), encoding="utf-8")
    return read_plan(folder / "build.yaml")


ODD = [
    "item", "item:token", "relation", "color", "", ":token", " ", "a\u2028b", "a\x85b", "a\nb",
    "a\x00b", "\ufeffx", "\U0001f600", "\ud7ff", "${x}", "\\${x}", "${", "a: b # c", "'", '"',
    "- x", "~", "null", "yes", "???", "<<", "nan", "NaN", "5", "[a]", "{a", "user.item",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_every_column_of_a_guess_has_a_relation_of_its_own(tmp_path, name):
    plan = guessed(tmp_path, name, name)
    assert plan.users is not None
    for table in (*plan.items, plan.users):
        assert [a.column for a in table.attributes] == [name]
    relations = {a.relation for t in (*plan.items, plan.users) for a in t.attributes}
    assert len(relations) == 3


def test_a_column_named_item_is_built(tmp_path):
    build(guessed(tmp_path, "item"), tmp_path / "out")
    tails = set(pl.read_csv(tmp_path / "out" / "triples.csv")["tail"])
    assert {"products_item=red0 b", "skus_item=red0 b"} <= tails


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.text(max_size=12), st.text(max_size=12))
def test_every_guess_is_a_plan_that_can_be_read(name, text):
    if name in ("sku", "customer"):
        return
    with tempfile.TemporaryDirectory() as folder:
        guessed(Path(folder), name, text)


@pytest.mark.parametrize("role", ["user", "item", "name", "missing"])
@pytest.mark.parametrize("odd", ["${x}", "\\${x}", "a\u2028b", "a\x85b", "a\nb", "a # b"])
def test_odd_texts_in_other_places_of_a_guess(tmp_path, role, odd):
    user, item, name = (f"{odd} {r}" if role == r else r for r in ("user", "item", "name"))
    cells = [[f"{kind}{i}" for i in range(N)] for kind in "uin"]
    colors = ["red", "blue", "n/a" if role == "missing" else "green"] * (N // 3)
    pl.DataFrame({user: cells[0], item: cells[1]}).write_parquet(tmp_path / "orders.parquet")
    items = {item: cells[1], name: cells[2], "color": colors, f"{odd} color": colors}
    pl.DataFrame(items).write_parquet(tmp_path / "items.parquet")
    (tmp_path / "build.yaml").write_text(guess_plan([tmp_path], tmp_path), encoding="utf-8")
    plan = read_plan(tmp_path / "build.yaml")
    assert (plan.interactions.user, plan.interactions.item) == (user, item)
    assert plan.items[0].name == name
    assert [a.column for a in plan.items[0].attributes] == ["color", f"{odd} color"]
