"""Attributes and links of a build: which triples and entities they become."""

import pytest
from user_tables import PLAN, PRODUCTS, built

from kgrec.errors import DataError


def test_values_are_shared_between_columns_if_the_plan_says_so(tmp_path):
    plan = PLAN.replace(
        "{color: {}, mood: {}}", "{color: {entities: word}, mood: {entities: word}}"
    )
    tails = set(built(tmp_path, plan)["triples"]["tail"])
    assert tails == {"word=red", "word=calm"}


def test_several_rows_of_an_item_are_joined(tmp_path):
    out = built(tmp_path, products=PRODUCTS + "001,Bowl again,blue,\n")
    assert out["items"].height == 3
    assert {t for h, r, t in out.rows("triples") if (h, r) == ("item=001", "color")} == {
        "color=red", "color=blue"
    }  # fmt: skip
    assert dict(out.rows("items"))["001"] == "Bowl"
    assert [n for what, n in out.warnings.items() if "of an earlier row" in what] == [1]


def test_useless_attributes_are_named(tmp_path):
    products = "sku,title,color,mood\n" + "".join(f"00{i},T{i},same,m{i}\n" for i in range(1, 10))
    warnings = built(tmp_path, products=products).warnings
    assert any("mood: another value for each of the items" in what for what in warnings)
    assert any("color: one value on 100.0 % of the items" in what for what in warnings)
    warnings = built(tmp_path, products=PRODUCTS + "004,Pot,Red,calm\n").warnings
    assert any("by case alone, kept apart (Red, red)" in what for what in warnings)


def test_attributes_of_users_are_kept_beside_the_graph(tmp_path):
    plan = PLAN + "users: {table: people.csv, id: who, attributes: {color: {}}}\n"
    out = built(tmp_path, plan, people="who,color\nC1,red\nC7,blue\n")
    assert out.rows("user_attributes") == {
        ("C1", "user.color", "user.color=red"), ("C7", "user.color", "user.color=blue")
    }  # fmt: skip
    assert "user.color" not in set(out["triples"]["relation"])
    assert ("user.color", "color") in out.rows("relations")
    assert out.warnings["people.csv: users with interactions that it lacks"] == 1


def test_links_between_items_and_between_values(tmp_path):
    plan = PLAN + (
        "triples:\n- {table: pairs.csv, head: a, tail: b, relation: goes_with}\n"
        "- {table: hues.csv, head: color, head_is: color, tail: hue, tail_is: hue,"
        " relation_column: kind}\n"
    )
    out = built(
        tmp_path, plan, pairs="a,b\n001,002\n001,777\n",
        hues="color,hue,kind\nred,warm,is\nblue,cold,is\n",
    )  # fmt: skip
    triples = out.rows("triples")
    assert ("item=001", "goes_with", "item=002") in triples
    assert ("color=red", "is", "hue=warm") in triples
    assert not any("777" in tail for _, _, tail in triples)
    assert out.warnings["pairs.csv: links of unknown items, left out"] == 1
    assert ("goes_with", "goes with") in out.rows("relations")
    assert ("hue=warm", "warm", "hue") in out.rows("entities")


def test_values_that_are_unknown_items_are_counted_and_no_items(tmp_path):
    plan = PLAN.replace("color: {}", "color: {entities: item, relation: like}")
    products = PRODUCTS.replace(",red,", ",002,", 1).replace(",red,", ",999,")
    out = built(tmp_path, plan, products=products)
    assert {row for row in out.rows("triples") if row[1] == "like"} == {
        ("item=001", "like", "item=002")
    }
    assert "999" not in set(out["links"]["item"])
    assert out.warnings["products.csv: color: values that are unknown items, left out"] == 1
    with pytest.raises(DataError, match=r"no known item in column color.*first value is 'red'"):
        built(tmp_path, plan)


def test_items_of_a_later_table_are_known_items(tmp_path):
    plan = PLAN.replace("items:\n  table", "items:\n- table").replace("color: {}",
        "color: {entities: item, relation: like}") + "- {table: more.csv, id: sku}\n"  # fmt: skip
    out = built(tmp_path, plan, products=PRODUCTS.replace("red,red", "777,red"),
                more="sku,about\n777,x\n")  # fmt: skip
    assert ("item=001", "like", "item=777") in out.rows("triples")


def test_values_of_links_are_those_of_attributes(tmp_path):
    plan = PLAN + (
        "triples: {table: hues.csv, head: color, head_is: color, tail: hue, tail_is: hue,"
        " relation: is}\n"
    )
    out = built(tmp_path, plan, products=PRODUCTS.replace("red", "caf\u00e9 au lait"),
                hues="color,hue\ncafe\u0301  au lait,warm\n")  # fmt: skip
    assert ("color=caf\u00e9 au lait", "is", "hue=warm") in out.rows("triples")


def test_names_and_ids_that_are_words_of_a_header_are_data(tmp_path):
    plan = PLAN.replace("color: {}", "relation: {}")
    out = built(tmp_path, plan, products="sku,title,relation,mood\nitem,T,red,x\n001,U,red,y\n")
    assert ("relation", "relation") in out.rows("relations")
    assert ("item", "T") in out.rows("items")


def test_links_between_users_are_a_table_of_their_own(tmp_path):
    plan = PLAN + "user_links: {table: friends.csv, user: who, other: friend}\n"
    friends = "who,friend\nC1,C2\nC1,C2\nC1,C1\nC2,C9\nC2,\n"
    out = built(tmp_path, plan, friends=friends)
    assert out.rows("user_links") == {("C1", "user.link", "C2")}
    assert ("user.link", "link") in out.rows("relations")
    warnings = out.warnings
    assert warnings["friends.csv: rows with a blank, left out"] == 1
    assert warnings["friends.csv: links of users without an interaction, left out"] == 1
    assert warnings["friends.csv: links of a user to the same user, left out"] == 1
    with pytest.raises(DataError, match="no link between users with interactions"):
        built(tmp_path, plan, friends="who,friend\nC1,C1\n")
