"""Tables in Parquet: a column of any type in any role is read, left out or refused in words."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal

import polars as pl
import pytest
from user_tables import write

from kgrec.data.build.building import build
from kgrec.data.build.guess import guess_plan
from kgrec.data.build.plan_file import read_plan
from kgrec.errors import DataError

N = 30
COLUMNS = {
    "duration": pl.Series([timedelta(days=i % 3) for i in range(N)]),
    "time": pl.Series([time(i % 3) for i in range(N)]),
    "date": pl.Series([date(2000 + i % 3, 1, 1) for i in range(N)]),
    "datetime": pl.Series([datetime(2000 + i % 3, 1, 1) for i in range(N)]),
    "decimal": pl.Series([Decimal(i % 15) for i in range(N)], dtype=pl.Decimal(9, 2)),
    "categorical": pl.Series([f"c{i % 3}" for i in range(N)], dtype=pl.Categorical),
    "enum": pl.Series([f"c{i % 3}" for i in range(N)], dtype=pl.Enum(["c0", "c1", "c2"])),
    "boolean": pl.Series([i % 2 == 0 for i in range(N)]),
    "float": pl.Series([0.5 * (i % 20) for i in range(N)]),
    "integer": pl.Series([i % 20 for i in range(N)], dtype=pl.UInt8),
    "binary": pl.Series([b"x", b"y"] * (N // 2)),
    "null": pl.Series([None] * N),
    "struct": pl.Series([{"a": i % 3} for i in range(N)]),
    "list": pl.Series([["a"], ["b"]] * (N // 2)),
    "array": pl.Series([[1, 2], [2, 3]] * (N // 2), dtype=pl.Array(pl.Int64, 2)),
    "list of durations": pl.Series([[timedelta(days=1)]] * N),
    "array of bytes": pl.Series([[b"x"]] * N, dtype=pl.Array(pl.Binary, 1)),
    "list of structs": pl.Series([[{"a": 1}]] * N),
    "list of lists": pl.Series([[["a"]]] * N),
    "list of nulls": pl.Series([[None]] * N),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_guess_for_any_type_is_a_plan_that_builds(tmp_path, kind):
    orders = pl.DataFrame({"customer": [f"c{i % 5}" for i in range(N)],
                           "sku": [f"s{i}" for i in range(N)]})  # fmt: skip
    products = orders.select("sku", color=pl.lit("red") + (pl.int_range(N) % 3).cast(pl.String))
    orders.with_columns(COLUMNS[kind].alias("extra")).write_parquet(tmp_path / "orders.parquet")
    products.with_columns(COLUMNS[kind].alias("extra")).write_parquet(tmp_path / "products.parquet")
    text = guess_plan([tmp_path], tmp_path)
    (tmp_path / "build.yaml").write_text(text, encoding="utf-8")
    build(read_plan(tmp_path / "build.yaml"), tmp_path / "out")


ROLES = {
    "attribute": "attributes: {color: {}, extra: {}}}",
    "bins": "attributes: {color: {}, extra: {bins: 2}}}",
    "date": "attributes: {color: {}, extra: {date: year}}}",
    "separator": "attributes: {color: {}, extra: {separator: x}}}",
    "items": "attributes: {color: {}, extra: {entities: item, relation: like}}}",
    "name": "attributes: {color: {}}, name: extra}",
    "id": "attributes: {color: {}}}",
    "rating": "attributes: {color: {}}}",
    "timestamp": "attributes: {color: {}}}",
    "quantity": "attributes: {color: {}}}",
    "title": "attributes: {color: {}}}",
}


@pytest.mark.parametrize("role", ROLES)
def test_any_type_in_any_role_is_built_or_refused(tmp_path, role):
    reading = {k: "extra" for k in ("rating", "timestamp", "quantity") if k == role}
    interactions = {"table": "orders.parquet", "user": "customer", "item": "sku"} | reading
    plan = f"interactions: {interactions}\nitems: {{table: orders.parquet, id: "
    plan += f"{'extra' if role == 'id' else 'sku'}, {ROLES[role]}\n"
    if role == "title":
        plan += "graph: {triples: kg.csv, links: {table: products.csv, entity: sku, by: extra"
        plan += ", columns: title}}\n"
    write(tmp_path, plan, kg="001,r,002\n", products="sku,title\n001,c1\n")
    frame = pl.DataFrame({"customer": [f"c{i % 5}" for i in range(N)],
                          "sku": [f"s{i}" for i in range(N)],
                          "color": ["red", "blue"] * (N // 2)})  # fmt: skip
    refused = set()
    for kind, column in COLUMNS.items():
        frame.with_columns(column.alias("extra")).write_parquet(tmp_path / "orders.parquet")
        try:
            build(read_plan(tmp_path / "build.yaml"), tmp_path / "out")
        except DataError:
            refused.add(kind)
    assert {"duration", "binary", "struct", "list of durations"} <= refused
    assert role in ("date", "items", "id", "title", "separator") or len(refused) < len(COLUMNS)


def test_a_duration_is_no_time_of_an_interaction(tmp_path):
    plan = (
        "interactions: {table: o.parquet, user: u, item: i, timestamp: t}\n"
        "items: {table: o.parquet, id: i, attributes: [c]}\n"
    )
    write(tmp_path, plan)
    frame = pl.DataFrame({"u": ["a", "b"], "i": ["x", "y"], "c": ["k", "k"],
                          "t": [timedelta(days=1), timedelta(days=2)]})  # fmt: skip
    frame.write_parquet(tmp_path / "o.parquet")
    with pytest.raises(DataError, match=r"found the type Duration.* in column t"):
        build(read_plan(tmp_path / "build.yaml"), tmp_path / "out")


def test_ids_of_a_decimal_type_are_whole_numbers(tmp_path):
    plan = "interactions: {table: o.parquet, user: u, item: i}\n"
    plan += "items: {table: products.csv, id: sku, attributes: [color]}\n"
    write(tmp_path, plan, products="sku,color\n1,red\n2,red\n")
    ids = pl.Series([Decimal(1), Decimal(2)], dtype=pl.Decimal(9, 2))
    pl.DataFrame({"u": ["a", "b"], "i": ids}).write_parquet(tmp_path / "o.parquet")
    report = build(read_plan(tmp_path / "build.yaml"), tmp_path / "out")
    assert report.sizes["items"] == 2
    assert report.warnings == [
        ("products.csv: color: one value on 100.0 % of the items, so that it tells little", 2)
    ]
