"""From a plan and tables to a folder that kgrec reads."""

import random
import runpy
import shutil

import polars as pl
import pytest
from conftest import ROOT
from user_tables import ORDERS, PLAN, PRODUCTS, built, write

from kgrec.data.build.building import build
from kgrec.data.build.plan_file import read_plan
from kgrec.data.convert import convert
from kgrec.data.formats import recognise
from kgrec.data.prepare import prepare
from kgrec.errors import DataError, KgrecError


def test_the_folder_is_in_csv_format_with_names(tmp_path):
    out = built(tmp_path)
    assert out.rows("triples") == {
        ("item=001", "color", "color=red"), ("item=002", "color", "color=red"),
        ("item=001", "mood", "mood=red"), ("item=002", "mood", "mood=calm"),
        ("item=003", "mood", "mood=calm"),
    }  # fmt: skip
    assert out.rows("links") == {(f"00{i}", f"item=00{i}") for i in (1, 2, 3)}
    assert out.rows("items") == {("001", "Bowl"), ("002", "Cup"), ("003", "Jug")}
    assert out["interactions"]["timestamp"].to_list() == ["1704067200", "1704153600", "1706745600"]
    assert recognise(out.folder).name == "csv"
    data = prepare(recognise(out.folder).read(out.folder), "shop")
    assert data.ids.items.rows() == [
        ("001", "item=001", "Bowl"), ("002", "item=002", "Cup"), ("003", "item=003", "Jug")
    ]  # fmt: skip
    entities = dict(data.ids.entities.iter_rows())
    assert entities["item=001"] == "Bowl"
    assert entities["color=red"] == entities["mood=red"] == "red"
    assert dict(data.ids.relations.iter_rows()) == {"color": "color", "mood": "mood"}
    assert data.counts()["items"] == 3  # the jug that nobody bought too
    assert not [entry for entry in data.account.changes if entry.step == "files"]


def test_a_column_of_texts_is_kept_and_becomes_no_relation(tmp_path):
    products = PRODUCTS.replace("mood\n", "mood,about\n").replace(
        "calm\n", 'calm,"Blue, of tin"\n', 1
    )
    products = products.replace("red,red\n", "red,red, \n").replace("calm\n", "calm,\n")
    plan = PLAN.replace("  name: title\n", "  name: title\n  text: about\n")
    out = built(tmp_path, plan, products=products)
    assert out.rows("items") == {
        ("001", "Bowl", None), ("002", "Cup", "Blue, of tin"), ("003", "Jug", None)
    }  # fmt: skip
    assert out.rows("triples") == built(tmp_path, out="without").rows("triples")
    data = prepare(recognise(out.folder).read(out.folder), "shop")
    assert data.ids.items["text"].to_list() == [None, "Blue, of tin", None]


def test_ids_depend_on_neither_the_order_of_rows_nor_on_further_rows(tmp_path):
    plan = PLAN.replace("mood: {}", "mood: {}, price: {bins: 2}")
    header, *rows = [f"{line},{i}" for i, line in enumerate(PRODUCTS.splitlines())]
    header = header.replace(",0", ",price")
    first = built(tmp_path, plan, products="\n".join([header, *rows]) + "\n")
    random.Random(1).shuffle(rows)
    shuffled = built(tmp_path, plan, "shuffled", products="\n".join([header, *rows]) + "\n")
    assert shuffled.rows("triples") == first.rows("triples")
    assert shuffled.rows("entities") == first.rows("entities")
    grown = built(
        tmp_path, plan, "grown", orders=ORDERS + "C9,004,2024-03-01\n",
        products="\n".join([header, "004,Pot,blue,wild,8", *rows]) + "\n",
    )  # fmt: skip
    for file, column in (("triples", "head"), ("entities", "entity"), ("links", "entity")):
        assert set(first[file][column]) <= set(grown[file][column])


def test_repeats_stay_and_are_counted(tmp_path):
    out = built(tmp_path, orders=ORDERS + "C1,001,2024-05-01\nC1,001,2024-06-01\n")
    assert out["interactions"].height == 5
    [(what, count)] = [pair for pair in out.counts.items() if "repeats" in pair[0]]
    assert count == 2
    assert "min_count" in what
    assert out.record["sizes"]["user-item pairs"] == 3


def test_min_count_keeps_repeated_pairs_alone(tmp_path):
    plan = PLAN.replace("timestamp: when", "min_count: 2")
    out = built(tmp_path, plan, orders=ORDERS + "C1,001,2024-05-01\n")
    assert out.rows("interactions") == {("C1", "001")}
    assert out.counts["orders.csv: user-item pairs with a count below 2, left out (min_count)"] == 2


def test_quantities_are_summed_and_kept(tmp_path):
    orders = "customer,sku,n\nC1,001,2\nC1,001,-2\nC2,001,1\nC2,002,\nC2,003,5\n"
    plan = PLAN.replace("timestamp: when", "quantity: n")
    out = built(tmp_path, plan, orders=orders)
    assert out["interactions"].height == 5
    assert "quantity" in out["interactions"].columns
    assert out.warnings["orders.csv: rows without n, taken as 1"] == 1
    assert [n for what, n in out.warnings.items() if "0 or less" in what] == [1]
    plan = plan.replace("quantity: n", "quantity: n, min_count: 2")
    assert built(tmp_path, plan, orders=orders).rows("interactions") == {("C2", "003", "5")}


ORDERED = (
    "customer,sku,when,n\nC1,001,2024-03-01,2\nC2,002,2024-01-02,\nC1,001,2024-01-01,1.5\n"
    "C2,001,2024-02-01,1\nC2,001,2024-02-02,-1\nC2,003,2024-02-03,1\n"
)


def test_the_weight_of_a_pair_is_the_sum_of_its_quantities(tmp_path):
    plan = PLAN.replace("timestamp: when", "timestamp: when, quantity: n, weight: quantity")
    out = built(tmp_path, plan, orders=ORDERED)
    assert out["interactions"].rows() == [
        ("C1", "001", "1704067200", "3.5"), ("C2", "002", "1704153600", "1.0"),
        ("C2", "003", "1706918400", "1.0"),
    ]  # fmt: skip
    assert out.warnings["orders.csv: rows without n, taken as 1"] == 1
    assert [n for what, n in out.warnings.items() if "0 or less, left out" in what] == [1]
    assert out.counts["orders.csv: repeats of a user-item pair, merged"] == 2
    assert [n for what, n in out.counts.items() if "other than 1 (1 to 3.5)" in what] == [1]
    data = prepare(recognise(out.folder).read(out.folder), "shop", weights="use")
    assert data.weights.tolist() == [3.5, 1, 1]
    with pytest.raises(DataError, match="no user-item pair with a sum of n above 0"):
        built(tmp_path, plan, orders="customer,sku,when,n\nC1,001,2024-03-01,0\n")


def test_the_weight_of_a_pair_is_the_number_of_its_rows(tmp_path):
    plan = PLAN.replace("timestamp: when", "rating: n, weight: repeats")
    out = built(tmp_path, plan, orders=ORDERED.replace("02,\n", "02,4\n"))
    assert out["interactions"].rows() == [
        ("C1", "001", "2", "2"), ("C2", "002", "4", "1"), ("C2", "001", "1", "2"),
        ("C2", "003", "1", "1"),
    ]  # fmt: skip
    assert [n for what, n in out.warnings.items() if "several ratings" in what] == [2]


@pytest.mark.parametrize("bad", ["inf", "two"])
def test_a_quantity_that_is_no_number_is_named_by_line(tmp_path, bad):
    plan = PLAN.replace("timestamp: when", "quantity: n, weight: quantity")
    with pytest.raises(DataError, match=rf"orders.csv:4: found '{bad}' as n"):
        built(tmp_path, plan, orders=ORDERED.replace("1.5", bad))


def test_rows_without_ids_are_left_out_and_counted(tmp_path):
    out = built(
        tmp_path, orders=ORDERS + ",001,2024-01-01\nC1, ,2024-01-01\n",
        products=PRODUCTS + ",Lost,red,calm\n",
    )  # fmt: skip
    assert out["interactions"].height == 3
    assert out.warnings["orders.csv: rows without customer, left out"] == 1
    assert out.warnings["orders.csv: rows without sku, left out"] == 1
    assert out.warnings["products.csv: rows without sku, left out"] == 1


def test_items_that_no_table_lists_are_counted(tmp_path):
    out = built(tmp_path, orders=ORDERS + "C1,999,2024-01-01\nC2,999,2024-01-01\n")
    [(what, count)] = [p for p in out.warnings.items() if "without attributes or links" in p[0]]
    assert count == 1
    assert "(2 interactions)" in what
    data = prepare(recognise(out.folder).read(out.folder), "shop", unlinked="keep")
    assert "999" in data.ids.items["item"].to_list()


def test_ids_that_never_meet_are_refused(tmp_path):
    orders = ORDERS.replace(",00", ",")  # as a spreadsheet writes them
    with pytest.raises(
        DataError, match=r"'1', of the others '001'\); they differ by leading zeros"
    ):
        built(tmp_path, orders=orders)


def test_a_table_may_be_both_interactions_and_items(tmp_path):
    plan = PLAN.replace("products.csv", "orders.csv").replace("  name: title\n", "").replace(
        "{color: {}, mood: {}}", "[kind]")  # fmt: skip
    out = built(tmp_path, plan, orders=ORDERS.replace("when\n", "when,kind\n").replace("-01\n",
                "-01,a\n").replace("-02\n", "-02,b\n"))  # fmt: skip
    assert out.rows("triples") == {("item=001", "kind", "kind=a"), ("item=002", "kind", "kind=b")}
    assert not any("earlier row" in what for what in out.warnings)


def test_tsv_and_parquet(tmp_path):
    write(tmp_path)
    pl.DataFrame({"sku": [1, 2, None], "tags": [["x", "y"], ["x"], ["z"]]}).write_parquet(
        tmp_path / "products.parquet"
    )
    plan = (
        "interactions: {table: orders.tsv, user: customer, item: sku}\n"
        "items: {table: products.parquet, id: sku, attributes: [tags]}\n"
    )
    (tmp_path / "orders.tsv").write_text("customer\tsku\n7\t1\n8\t2\n", encoding="utf-8")
    out = built(tmp_path, plan)
    assert out.rows("triples") == {
        ("item=1", "tags", "tags=x"), ("item=1", "tags", "tags=y"), ("item=2", "tags", "tags=x")
    }  # fmt: skip


def test_the_record_says_what_was_read_and_left_out(tmp_path):
    record = built(tmp_path, products=PRODUCTS).record
    assert record["tables"]["products.csv"] == {"rows": 3, "columns_not_used": []}
    assert set(record["sha256"]) == {"orders.csv", "products.csv"}
    assert record["plan"]["interactions"]["user"] == "customer"
    assert record["relations"][0] == {
        "relation": "color", "source": "products.csv: color", "items": 2, "values": 1, "triples": 2
    }  # fmt: skip
    again = built(tmp_path, out="again").record
    assert again == record  # no date, no path: the same tables give the same folder


def test_files_of_one_name_in_two_folders_are_two_files(tmp_path):
    plan = PLAN.replace("table: products.csv", "table: x/t.csv").replace("orders.csv", "y/t.csv")
    for folder, text in (("x", PRODUCTS), ("y", ORDERS + "C1,001,2024-05-01\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(text)
    out = built(tmp_path, plan)
    assert set(out.record["sha256"]) == {"x/t.csv", "y/t.csv"}
    assert {name: t["rows"] for name, t in out.record["tables"].items()} == {
        "x/t.csv": 3, "y/t.csv": 4
    }  # fmt: skip
    assert any(what.startswith("y/t.csv: repeats") for what in out.counts)


def test_a_failed_build_leaves_nothing_and_an_earlier_folder_as_it_was(tmp_path):
    with pytest.raises(KgrecError):
        built(tmp_path, PLAN.replace("color: {}", "color: {bins: 3}"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "build.yaml",
        "orders.csv",
        "products.csv",
    ]
    out = built(tmp_path)
    before = {path.name: path.read_bytes() for path in out.folder.iterdir()}
    with pytest.raises(KgrecError):
        built(tmp_path, PLAN.replace("mood: {}", "mud: {}"))
    assert {path.name: path.read_bytes() for path in out.folder.iterdir()} == before


@pytest.mark.parametrize("error", [PermissionError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("done", [False, True])
def test_an_earlier_folder_comes_back_if_the_new_one_cannot_take_its_place(
    tmp_path, monkeypatch, error, done
):
    """``done``: interrupted after the first of the two renames, else instead of the second."""
    out = built(tmp_path)
    rename = type(tmp_path).rename

    def refuse(path, target):
        if done and path == out.folder:
            rename(path, target)
            raise error("no")
        if path.name == "out" and "incoming" in str(path.parent):
            raise error("no")
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with pytest.raises(error):
        built(tmp_path)
    assert out["items"].height == 3


def test_a_build_replaces_its_own_folder_alone(tmp_path):
    out = built(tmp_path)
    plan = read_plan(write(tmp_path, orders=ORDERS + "C3,003,2024-01-01\n"))
    build(plan, out.folder)
    assert out["interactions"].height == 4
    (out.folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"found notes.txt, expected a new folder"):
        build(plan, out.folder)
    shutil.rmtree(out.folder)
    out.folder.mkdir()
    (out.folder / "items.csv").write_text("mine")
    with pytest.raises(DataError, match=r"found items.csv, expected a new folder"):
        build(plan, out.folder)
    assert (out.folder / "items.csv").read_text() == "mine"


def test_names_go_with_the_data_to_formats_that_hold_them(tmp_path):
    raw = recognise(built(tmp_path).folder).read(tmp_path / "out")
    convert(raw, tmp_path / "parquet", "parquet")
    again = recognise(tmp_path / "parquet").read(tmp_path / "parquet")
    assert again.entity_names is not None
    assert raw.entity_names is not None
    assert again.entity_names.equals(raw.entity_names)
    assert dict(again.relation_names.iter_rows()) == {"color": "color", "mood": "mood"}
    with pytest.raises(DataError, match=r"cannot hold\n.*entity names\n.*relation names"):
        convert(raw, tmp_path / "recbole", "recbole")
    notes = convert(raw, tmp_path / "recbole", "recbole", lossy=True)
    assert "5 names of entities and relations, left out" in notes


def test_files_of_other_contents_with_these_names_do_no_harm(tmp_path):
    folder = built(tmp_path).folder
    (folder / "entities.csv").write_text("id,about\nx,y\n")
    raw = recognise(folder).read(folder)
    assert raw.entity_names is None
    assert ("entities.csv has no columns entity and name, not read", 1) in raw.counts


def test_the_plan_of_the_documentation_builds_the_shop(tmp_path):
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    plan = text.split("```yaml\n")[1].split("```")[0]
    runpy.run_path(str(ROOT / "docs" / "examples" / "shop.py"))["main"](tmp_path / "tables")
    out = built(tmp_path, plan)
    assert {"feeling=red", "color=red"} <= set(out["triples"]["tail"])
    assert ("brand", "made by") in out.rows("relations")
    assert 10 <= len(plan.splitlines()) <= 25


def test_seconds_among_dates_are_refused_in_words_that_they_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"csv:5: found '880000000' as when .*a date as in other"):
        built(tmp_path, orders=ORDERS + "C3,001,880000000\n")
