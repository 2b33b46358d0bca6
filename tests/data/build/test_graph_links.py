"""An existing graph: triples, links in any direction, a join by title, names."""

import itertools

import polars as pl
import pytest
from user_tables import built, write

from kgrec.data.build.building import build
from kgrec.data.build.plan_file import read_plan
from kgrec.data.formats import recognise
from kgrec.data.prepare import prepare
from kgrec.errors import DataError

BASE = "interactions: {table: orders.csv, user: customer, item: sku}\n"
ITEMS = "items: {table: products.csv, id: sku, name: title, attributes: [color]}\n"
GRAPH = BASE + "graph: {triples: kg.csv, links: map.csv}\n"
KG = "m.1,directed_by,m.9\nm.2,directed_by,m.9\nm.3,genre,m.8\n"
PAIRS = [("001", "m.1"), ("002", "m.2"), ("777", "m.3"), ("003", "m.77")]


@pytest.mark.parametrize(
    ("header", "swap", "triples_header"), list(itertools.product((True, False), repeat=3))
)
def test_links_in_any_direction_with_a_header_or_without(tmp_path, header, swap, triples_header):
    rows = [("sku", "mid")] * header + PAIRS
    pairs = "".join(f"{b},{a}\n" if swap else f"{a},{b}\n" for a, b in rows)
    kg = ("head,relation,tail\n" if triples_header else "") + KG
    out = built(tmp_path, GRAPH, kg=kg, map=pairs)
    assert out.rows("links") == {("001", "m.1"), ("002", "m.2")}
    assert out["triples"].height == 3
    assert out.counts["map.csv: links of items or entities that occur nowhere else, left out"] == 2


def test_an_item_has_attributes_of_its_own_and_those_of_the_graph(tmp_path):
    out = built(tmp_path, GRAPH + ITEMS, kg=KG, map="001,m.1\n003,m.3\n")
    assert out.rows("links") == {
        ("001", "item=001"), ("002", "item=002"), ("001", "m.1"), ("003", "m.3")
    }  # fmt: skip
    data = prepare(recognise(out.folder).read(out.folder), "shop")
    items = data.ids.items["item"].to_list()
    degrees = dict(zip(items, data.graph.neighborhood().degrees.tolist(), strict=False))
    assert degrees == {"001": 2, "002": 1, "003": 1}


def test_names_of_entities_come_from_a_file(tmp_path):
    plan = GRAPH.replace("map.csv}", "map.csv, names: names.csv}")
    out = built(tmp_path, plan, kg=KG, map="001,m.1\n", names="m.9,Lana W.\nm.404,Nobody\n")
    assert out.rows("entities", "entity", "name") == {("m.9", "Lana W.")}
    data = prepare(recognise(out.folder).read(out.folder), "shop")
    assert dict(data.ids.entities.iter_rows())["m.9"] == "Lana W."


def test_a_join_by_title_reports_every_item(tmp_path):
    plan = BASE + ITEMS + (
        "graph:\n  triples: kg.csv\n"
        "  links: {table: films.csv, entity: mid, by: [title, year], columns: [label, date]}\n"
    )  # fmt: skip
    out = built(
        tmp_path, plan, kg=KG,
        products="sku,title,color,year\n001,Bowl,red,2001\n002,Cup,red,2002\n003,Jug,red,2003\n",
        films="mid,label,date\nm.1,BOWL,2001-01-01\nm.2,Cup,2002\nm.3,Cup,2002\nm.404,Jug,2003\n",
    )  # fmt: skip
    assert ("001", "m.1") in out.rows("links")
    assert out.rows("title_links", "item", "outcome", "entities") == {
        ("001", "exact", "m.1"), ("002", "ambiguous", "m.2|m.3"), ("003", "missing", None)
    }  # fmt: skip
    assert out.counts["films.csv: items joined by title and year, exact"] == 1
    assert [n for what, n in out.warnings.items() if "ambiguous" in what] == [1]
    assert ("m.1", "BOWL") in out.rows("entities", "entity", "name")


@pytest.mark.parametrize(
    ("kg", "pairs", "message"),
    [
        (KG, "a,b\nc,d\n", r"map.csv: found no row with an item and an entity of the graph"),
        ("a,b\nc,d\n", "001,a\n", r"kg.csv: found the columns a, b, expected head, relation and"),
        ("head,relation,tail\n", "001,a\n", r"kg.csv: found a header and no rows"),
        ("head,relation,tail\n,r,\n", "001,a\n", r"kg.csv: found no triple"),
        (KG, "", r"map.csv: found an empty file"),
    ],
)
def test_graphs_that_do_not_fit_are_refused(tmp_path, kg, pairs, message):
    with pytest.raises(DataError, match=message):
        built(tmp_path, GRAPH, kg=kg, map=pairs)


def test_a_join_that_finds_nothing_is_refused(tmp_path):
    plan = BASE + ITEMS + "graph: {triples: kg.csv, links: {table: f.csv, entity: m, by: title}}\n"
    with pytest.raises(DataError, match="found no entity with the title of an item"):
        built(tmp_path, plan, kg=KG, f="m,title\nm.1,Ladle\n")
    with pytest.raises(DataError, match="found no column title"):
        built(tmp_path, plan, kg=KG, f="m,name\nm.1,Bowl\n")


@pytest.mark.parametrize("first", ["e1,r0,e2", "h1,likes,t1", "h1,r1,t1"])
def test_the_first_triple_of_a_file_without_a_header_counts(tmp_path, first):
    head = first.split(",")[0]
    out = built(tmp_path, GRAPH, kg=f"{first}\nx,r1,y\ny,r1,x\n", map=f"001,{head}\n002,x\n")
    assert out.rows("triples") == {tuple(first.split(",")), ("x", "r1", "y"), ("y", "r1", "x")}
    shown = first.replace(",", ", ")
    assert out.counts[f"kg.csv: no header, the first line read as the triple ({shown})"] == 1


def test_the_first_name_of_a_file_without_a_header_counts(tmp_path):
    plan = GRAPH.replace("map.csv}", "map.csv, names: names.csv}")
    out = built(tmp_path, plan, kg=KG, map="001,m.1\n", names="m.9,Title\nm.8,Name\n")
    assert out.rows("entities", "entity", "name") == {("m.9", "Title"), ("m.8", "Name")}


def test_columns_that_have_no_ids_are_no_links(tmp_path):
    write(tmp_path, GRAPH.replace("map.csv", "map.parquet"), kg=KG)
    links = pl.DataFrame({"confidence": [0.9, 0.8], "sku": ["001", "002"], "mid": ["m.1", "m.2"]})
    links.write_parquet(tmp_path / "map.parquet")
    report = build(read_plan(tmp_path / "build.yaml"), tmp_path / "out")
    assert pl.read_csv(tmp_path / "out" / "links.csv")["entity"].to_list() == ["m.1", "m.2"]
    assert report.tables["map.parquet"]["columns_not_used"] == ["confidence"]
    links.select("confidence", "sku").write_parquet(tmp_path / "map.parquet")
    with pytest.raises(DataError, match="found the columns confidence, sku, expected one of items"):
        build(read_plan(tmp_path / "build.yaml"), tmp_path / "out")


def test_a_relation_of_two_tables_is_named(tmp_path):
    kg = KG.replace("genre", "color").replace("directed_by", "goes_with")
    plan = GRAPH + ITEMS + "triples: {table: p.csv, head: a, tail: b, relation: goes_with}\n"
    out = built(tmp_path, plan, kg=kg, map="001,m.1\n", p="a,b\n001,002\n")
    what = "kg.csv: relations that are taken as those of the same name in another table"
    assert out.warnings[f"{what} (goes_with of p.csv, color of products.csv: color)"] == 2
