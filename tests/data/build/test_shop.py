"""``kgrec data build`` as a user calls it: the shop, from tables to training; and bad input."""

import json
import runpy
from pathlib import Path

import polars as pl
import pytest
from conftest import ROOT
from user_tables import write

from kgrec.data.sources.locate import locate
from kgrec.errors import DataError


def shop(folder: Path) -> None:
    """Writes the tables of the example."""
    runpy.run_path(str(ROOT / "docs" / "examples" / "shop.py"))["main"](folder)


def test_the_shop_from_tables_to_training(kgrec, train, tmp_path):
    shop(tmp_path / "tables")
    orders = pl.read_csv(tmp_path / "tables" / "orders.csv", infer_schema=False)
    assert orders.height == 3_005
    assert orders.select("customer_id", "product_id").n_unique() == 3_005 - 744
    code, out, err = kgrec("data", "build", "--guess", "tables", "--out", "build.yaml")
    assert (code, err) == (0, "")
    assert "kgrec data build build.yaml --out FOLDER" in out
    plan = Path("build.yaml").read_text(encoding="utf-8")
    assert 'tags: {separator: "|"}  # several values: 16 values' in plan
    assert "# ean: looks like an id" in plan
    assert "# in_stock: one value (yes) on 99.5 % of items: left out" in plan

    code, out, err = kgrec("data", "build", "build.yaml", "--out", "my/shop")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "dataset.root=my/shop" in out
    record = json.loads(Path("my/shop/build.json").read_text(encoding="utf-8"))
    assert record["sizes"]["items"] == 200
    assert record["tables"]["tables/products.csv"]["columns_not_used"] == [
        "ean",
        "in_stock",
        "description",
    ]
    triples = pl.read_csv("my/shop/triples.csv", infer_schema=False)
    tails = set(triples["tail"])
    assert {"color=red", "mood=red", "brand=花屋", "price=1/5"} <= tails
    assert "price=n/a" not in tails
    assert "item=00123" in set(triples["head"])

    code, out, err = kgrec("data", "describe", "my/shop", "--json", "-")
    assert code == 0, err
    described = json.loads(out)
    assert described["counts"]["items"] == 200
    assert described["counts"]["relations"] == 8
    assert described["facts"]["duplicate_positives"] == 744
    files = [line for line in described["account"] if line["step"] == "files"]
    assert not [line for line in files if "not read" in line["what"]]

    run = train("dataset=custom", "dataset.root=my/shop", "model=kgcn", "epochs=2", small=False)
    assert run.code == 0, run.err
    relations = pl.read_parquet(run.folder / "ids" / "relations.parquet")
    assert relations["name"].null_count() == 0


BASE = "interactions: {table: orders.csv, user: customer, item: sku}\n"
ITEMS = "items: {table: products.csv, id: sku, attributes: {color: {}}}\n"


@pytest.mark.parametrize(
    ("plan", "tables", "message"),
    [
        (BASE + ITEMS, {"orders": ""}, "orders.csv: found an empty file"),
        (BASE + ITEMS, {"orders": "customer,sku\n"}, "orders.csv: found a header and no rows"),
        (BASE + ITEMS, {"orders": "customer sku\na b\n"}, "orders.csv: found one column"),
        (BASE + ITEMS, {"orders": "customer,sku\na,b,c\n"}, "orders.csv:2: found 'a,b,c'"),
        (BASE + ITEMS, {"orders": "customer,sku\na,001\ncustomer,sku\n"}, "csv:3: found the heade"),
        (BASE + ITEMS, {"orders": "customer,sku\n,\n"}, "found no row with a user and an item"),
        (BASE + ITEMS, {"orders": "customer,sku,sku\na,b,c\n"}, "'sku' occurs twice"),
        (BASE + ITEMS, {"products": "sku,colour\n001,red\n"}, "(did you mean colour?)"),
        (BASE + ITEMS, {"products": "sku,color\n,red\n"}, "found no id in column sku"),
        (BASE + ITEMS, {"products": "sku,color\n001,\n"}, "found no value of an attribute"),
        (BASE + ITEMS.replace("products", "product"), {}, "(did you mean products.csv?)"),
        (BASE + ITEMS.replace("products.csv", "products.xlsx"), {}, "found no such file"),
        (BASE.replace("}", ", rating: when}") + ITEMS, {}, "csv:2: found '2024-01-01' as when"),
        (BASE.replace("}", ", timestamp: sku}") + ITEMS, {"orders": "customer,sku\na,x1\n"},
         "expected a date such as 2024-01-31, or seconds"),
        (BASE.replace("}", ", min_count: 9}") + ITEMS, {}, "the largest is 1"),
    ],
)  # fmt: skip
def test_bad_tables_give_one_error_and_no_folder(kgrec, tmp_path, plan, tables, message):
    write(tmp_path, plan, **tables)
    code, out, err = kgrec("data", "build", "build.yaml", "--out", "out")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert message in err
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "build.yaml",
        "orders.csv",
        "products.csv",
    ]


def test_text_that_is_not_utf8_is_refused_by_line(kgrec, tmp_path):
    write(tmp_path, BASE + ITEMS)
    (tmp_path / "products.csv").write_bytes("sku,color\n001,crème\n".encode("latin-1"))
    code, _, err = kgrec("data", "build", "build.yaml", "--out", "out")
    assert code == 1
    assert "products.csv:2: found the byte 0xe8, expected UTF-8 text" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build.yaml"], "--out: found nothing"),
        (["orders.csv", "--out", "x"], "or --guess before tables"),
        (["build.yaml", "orders.csv", "--out", "x"], "expected one YAML file"),
        (["nowhere.yaml", "--out", "x"], "kgrec data build --guess FOLDER"),
        (["--guess", "nowhere"], "found no such file or folder"),
        (["--guess", ".", "--out", "build.yaml"], "expected a new file"),
        (["--guess", ".", "--out", "no/build.yaml"], "found no folder no"),
        (["build.yaml", "--out", "orders.csv"], "orders.csv: found a file"),
    ],
)
def test_wrong_arguments(kgrec, tmp_path, arguments, message):
    write(tmp_path)
    code, out, err = kgrec("data", "build", *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1, err


def test_a_folder_of_other_tables_is_refused_with_the_command_that_helps(tmp_path):
    write(tmp_path)
    with pytest.raises(DataError, match=r"kgrec data build --guess .* --out build.yaml"):
        locate("custom", [], tmp_path, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as error:
        locate("custom", [], tmp_path / "empty", tmp_path)
    assert "data build" not in str(error.value)


def test_impossible_dates_of_parquet_files_are_refused(kgrec, tmp_path):
    write(tmp_path, BASE.replace(".csv", ".parquet").replace("}", ", timestamp: when}") + ITEMS)
    orders = pl.DataFrame({"customer": ["a"], "sku": ["001"], "when": [2**53]})
    orders = orders.with_columns(pl.col("when").cast(pl.Datetime("ms")))
    orders.write_parquet(tmp_path / "orders.parquet")
    code, out, err = kgrec("data", "build", "build.yaml", "--out", "out")
    assert (code, out) == (1, "")
    place = "error: orders.parquet: row 1: found a date 9,007,199,254,741 seconds from 1970 in "
    assert err.startswith(f"{place}column when, expected one of the years 1 to 9999")
    plan = (
        "interactions: {table: orders.csv, user: customer, item: sku}\n"
        "items: {table: orders.parquet, id: sku, attributes: {when: {date: year}}}\n"
    )
    write(tmp_path, plan)
    code, out, err = kgrec("data", "build", "build.yaml", "--out", "out")
    assert (code, out) == (1, "")
    assert err.startswith(place)
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_parquet_file_is_named(kgrec, tmp_path):
    write(tmp_path, BASE + ITEMS.replace(".csv", ".parquet"))
    (tmp_path / "products.parquet").write_bytes(b"PAR1 nothing")
    code, _, err = kgrec("data", "build", "build.yaml", "--out", "out")
    assert code == 1
    assert "products.parquet: " in err
    assert "expected a whole Parquet file" in err
