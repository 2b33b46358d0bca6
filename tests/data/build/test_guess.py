"""``--guess``: what each column becomes, and what each table is."""

from datetime import time, timedelta

import polars as pl
import pytest
from omegaconf import OmegaConf

from kgrec.data.build.guess import guess_plan
from kgrec.data.build.plan_file import read_plan
from kgrec.data.build.profile import choose
from kgrec.data.build.roles import about
from kgrec.data.csv_files import read_csv
from kgrec.errors import DataError

N = 40


def column(name: str, cells, owners: str = "items"):
    choice = choose(name, cells if isinstance(cells, pl.Series) else pl.Series(cells), owners)
    return choice.settings, choice.comment


@pytest.mark.parametrize(
    ("name", "cells", "settings", "comment"),
    [
        ("brand", ["a", "b", "c", ""] * 10, {}, "category: 3 values, 75 % of items"),
        ("tags", ["a|b", "b|c", "c", "a|c"] * 10, {"separator": "|"}, "several values: 3 values"),
        ("tags", ["a, b", "b, c", "c", "a, c"] * 10, {"separator": ","}, "several values: 3"),
        ("tags", pl.Series([["a", "b"], ["b"]] * 20), {}, "lists: 2 values, 100 % of items"),
        ("price", [f"{i}.50" for i in range(N)], {"bins": 5}, "number from 0.5 to 39.5"),
        ("price", ["99.50"] * 9 + [f"{i},234.00" for i in range(1, 32)], {"bins": 5},
         "number from 99.5 to 3.123e+04"),
        ("price", [f"{i}.234,00" for i in range(1, N + 1)], None, "number with a decimal comma"),
        ("tags", ["1,2", "2,3", "3", "1,3"] * 10, {"separator": ","}, "several values: 3"),
        ("wait", pl.Series([timedelta(days=i) for i in range(N)]), None, "the type Duration"),
        ("waits", pl.Series([[timedelta(days=1)]] * N), None, "the type List(Duration"),
        ("opens", pl.Series([time(i % 3) for i in range(N)]), {}, "category: 3 values"),
        ("stars", ["1", "2", "3", "4"] * 10, {}, "number with 4 values"),
        ("date", ["2001-02-03", "2005-02-03"] * 20, {"date": "year"}, "date: 2 years"),
        ("day", pl.Series(["1901-02-03"] * 20 + ["2001-02-03"] * 20).str.to_date(),
         {"date": "year"}, "date: 2 years"),
        ("year", [str(1950 + i) for i in range(N)], {"date": "decade"}, "date: 40 years"),
        ("ean", [str(4000 + i) for i in range(N)], None, "looks like an id"),
        ("sku", [f"x{i}" for i in range(N)], None, "looks like an id"),
        ("in_stock", ["yes"] * 200 + ["no"], None, "one value (yes) on 99.5 % of items: left out"),
        ("nothing", ["", None] * 20, None, "no value: left out"),
        ("about", [f"some long words about thing number {i}" for i in range(N)], None,
         "text of 7 words on average: left out"),
        ("subtitle", [f"thing number {i}" for i in range(N)], None, "another value for most items"),
        ("genre", [f"g{i % 4} g{i // 4 % 5}" for i in range(60)], {}, 'separator: " "'),
        ("size", pl.Series([{"a": 1}] * N), None, "the type Struct"),
    ],
)  # fmt: skip
def test_the_choice_for_a_column(name, cells, settings, comment):
    found, said = column(name, cells)
    assert found == settings
    assert comment in said


def test_texts_that_look_like_missing_values_are_named():
    choice = choose("price", pl.Series([f"{i}.5" for i in range(N)] + ["n/a", "Unknown"]), "items")
    assert choice.missing == ("Unknown", "n/a")
    assert choice.settings == {"bins": 5}


def write(folder, **tables: str) -> None:
    for name, text in tables.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")


def guessed(folder) -> dict:
    text = guess_plan([folder], folder)
    (folder / "build.yaml").write_text(text, encoding="utf-8")
    read_plan(folder / "build.yaml")  # every guess is a plan that can be read
    plan = OmegaConf.to_container(OmegaConf.create(text))
    assert isinstance(plan, dict)
    return plan


RATINGS = "userId,movieId,rating,timestamp\n" + "".join(
    f"{u},{i},{(u + i) % 5 + 1},{880_000_000 + u}\n" for u in range(1, 9) for i in range(1, 21)
)
MOVIES = "movieId,title,genres\n" + "".join(f"{i},Film {i},a|g{i % 3}\n" for i in range(1, 31))


def test_tables_are_told_apart_by_names_where_numbers_coincide(tmp_path):
    # User 1 to 8 are numbers of movies too.
    people = "userId,age,town\n" + "".join(f"{u},{20 + u % 3},t{u % 2}\n" for u in range(1, 9))
    write(tmp_path, ratings=RATINGS, movies=MOVIES, people=people)
    plan = guessed(tmp_path)
    assert plan["interactions"] == {
        "table": "ratings.csv", "user": "userId", "item": "movieId", "rating": "rating",
        "timestamp": "timestamp",
    }  # fmt: skip
    assert plan["items"]["table"] == "movies.csv"
    assert plan["items"]["name"] == "title"
    assert plan["items"]["attributes"] == {"genres": {"separator": "|"}}
    assert plan["users"]["table"] == "people.csv"


def test_a_long_table_of_tags_and_a_table_of_pairs(tmp_path):
    tags = "movieId,tag\n" + "".join(f"{i},t{i % 4}\n{i},u{i % 2}\n" for i in range(1, 31))
    pairs = "movie_a,movie_b\n" + "".join(f"{i},{i + 1}\n" for i in range(1, 30))
    write(tmp_path, ratings=RATINGS, movies=MOVIES, atags=tags, sequels=pairs)
    plan = guessed(tmp_path)
    assert [items["table"] for items in plan["items"]] == ["movies.csv", "atags.csv"]
    assert plan["items"][1]["attributes"] == {"tag": {}}
    [links] = plan["triples"]
    assert (links["table"], links["head"], links["tail"]) == ("sequels.csv", "movie_a", "movie_b")


def test_attributes_in_the_table_of_interactions(tmp_path):
    orders = "customer,product,product_name,category,price_paid\n" + "".join(
        f"c{u},p{i},Name {i},k{i % 3},{u}.{i}\n" for u in range(6) for i in range(20)
    )
    write(tmp_path, orders=orders)
    plan = guessed(tmp_path)
    assert plan["items"]["table"] == "orders.csv"
    assert plan["items"]["name"] == "product_name"
    assert plan["items"]["attributes"] == {"category": {}}


def test_an_existing_graph_and_its_links(tmp_path):
    kg = "".join(f"m.{i},genre,m.{100 + i % 3}\n" for i in range(1, 31))
    write(tmp_path, ratings=RATINGS, kg=kg, map="".join(f"m.{i},{i}\n" for i in range(1, 31)))
    plan = guessed(tmp_path)
    assert plan["graph"] == {"triples": "kg.csv", "links": "map.csv"}


def test_every_table_is_read_once(tmp_path, monkeypatch):
    kg = "head,relation,tail\n" + "".join(f"m.{i},genre,m.{100 + i % 3}\n" for i in range(30))
    write(tmp_path, ratings=RATINGS, movies=MOVIES, kg=kg)
    read: list[str] = []

    def counted(path, *rest):
        read.append(path.name)
        return read_csv(path, *rest)

    monkeypatch.setattr("kgrec.data.build.columns.read_csv", counted)
    guess_plan([tmp_path], tmp_path)
    assert sorted(read) == ["movies.csv", "ratings.csv"]  # and of the graph its header alone


def test_tables_that_are_not_read_are_named_with_the_reason(tmp_path):
    write(tmp_path, ratings=RATINGS, movies=MOVIES)
    (tmp_path / "latin.csv").write_bytes(b"name,town\nJos\xe9,x\n")
    text = guess_plan([tmp_path], tmp_path)
    assert "latin.csv:2: found the byte 0xe9, expected UTF-8 text" in text


def test_no_interactions(tmp_path):
    write(tmp_path, movies=MOVIES)
    with pytest.raises(
        DataError, match=r"no table with a column of users and one of items \(movies"
    ):
        guess_plan([tmp_path], tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found no table"):
        guess_plan([tmp_path / "empty"], tmp_path)


def test_odd_names_of_columns_are_quoted(tmp_path):
    names = "user id:token,item: #1,no,Größe\n"
    rows = "".join(f"u{u},i{i},k{i % 3},g{i % 2}\n" for u in range(6) for i in range(20))
    write(tmp_path, orders=names + rows)
    plan = guessed(tmp_path)
    assert plan["interactions"]["item"] == "item: #1"
    assert plan["items"]["attributes"] == {"no": {}, "Größe": {}}


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        ("item|movie", "movieId", True),
        ("item|movie", "MOVIE_ID", True),
        ("item|movie", "item_id:token", True),
        ("item|movie", "movies", True),
        ("app", "happened", False),
        ("count", "country", False),
        ("count", "discount", False),
        ("time", "lifetime_value", False),
        ("at", "createdAt", True),
        ("date", "InvoiceDate", True),
    ],
)
def test_words_in_names_of_columns(words, name, expected):
    assert about(words, name) == expected


def test_names_that_only_contain_such_words_are_not_taken(tmp_path):
    names = "InvoiceNo,StockCode,Quantity,UnitPrice,CustomerID,Country,discount,lifetime_value\n"
    rows = "".join(
        f"{900 + u},S{i},{1 + i % 2},{i}.5,{u},UK,{u % 3},{u * 100}\n"
        for u in range(20, 28)
        for i in range(20)
    )
    write(tmp_path, retail=names + rows)
    plan = guessed(tmp_path)
    assert plan["interactions"] == {
        "table": "retail.csv", "user": "CustomerID", "item": "StockCode", "quantity": "Quantity"
    }  # fmt: skip
    assert plan["items"]["attributes"] == {"UnitPrice": {"bins": 5}}


def test_repeats_are_named_with_what_min_count_would_do(tmp_path):
    write(tmp_path, ratings=RATINGS + RATINGS.split("\n")[1] + "\n", movies=MOVIES)
    text = guess_plan([tmp_path], tmp_path)
    assert "# 1 rows repeat a pair" in text
    assert "# min_count: 2  # keeps only the pairs that occur 2 times or more" in text
    assert "# weight: repeats  # weight of a pair; used in training with dataset.weights" in text


def test_a_column_of_quantities_is_offered_as_a_weight(tmp_path):
    rows = RATINGS.replace("rating", "quantity")
    write(tmp_path, ratings=rows + rows.split("\n")[1] + "\n", movies=MOVIES)
    text = guess_plan([tmp_path], tmp_path)
    assert "  # weight: quantity  # weight of a pair, or repeats (rows of a pair); used in" in text
    chosen = text.replace("# weight: quantity", "weight: quantity")
    (tmp_path / "build.yaml").write_text(chosen, encoding="utf-8")
    assert read_plan(tmp_path / "build.yaml").interactions.weight == "quantity"


def test_cells_with_line_ends_do_not_break_the_comments(tmp_path):
    movies = "movieId,title,note,genres\n" + "".join(
        f'{i},Film {i},"two\nlines: x",g{i % 3}\n' for i in range(1, 31)
    )
    write(tmp_path, ratings=RATINGS, movies=movies)
    assert guessed(tmp_path)["items"]["attributes"] == {"genres": {}}


def test_a_repeated_item_does_not_cost_the_names(tmp_path):
    write(tmp_path, ratings=RATINGS, movies=MOVIES + "1,Film 1,b\n")
    assert guessed(tmp_path)["items"]["name"] == "title"


def test_interactions_alone_are_said_to_need_a_graph(tmp_path):
    write(tmp_path, ratings=RATINGS)
    text = guess_plan([tmp_path], tmp_path)
    assert "# Found no attribute, no link between items and no graph: add one of them." in text
