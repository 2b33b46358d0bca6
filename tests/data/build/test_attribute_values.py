"""Cells of a column become values: categories, several values, bins, dates."""

import polars as pl
import pytest

from kgrec.data.build.columns import parse_numbers
from kgrec.data.build.plan import Attribute
from kgrec.data.build.report import Report
from kgrec.data.build.values import attribute_values
from kgrec.errors import DataError


def values(cells, report: Report | None = None, missing=(), **settings) -> list[list[str]]:
    """The values of each cell."""
    series = cells if isinstance(cells, pl.Series) else pl.Series(cells)
    owners = pl.Series([str(i) for i in range(len(series))])
    frame = attribute_values(
        owners, series, Attribute("c", "c", "c", "c", **settings), missing, "t.csv",
        report or Report(),
    )  # fmt: skip
    return [frame.filter(pl.col("owner") == owner)["value"].to_list() for owner in owners]


def test_categories_lose_outer_blanks_and_spellings_of_one_text_are_one():
    report = Report()
    cells = [" red", "red", "cafe\u0301", "café", "", None, "n/a", "a  b"]
    assert values(cells, report, missing=["n/a"]) == [
        ["red"], ["red"], ["café"], ["café"], [], [], [], ["a b"]
    ]  # fmt: skip
    assert report.counts == [
        ("t.csv: c: spellings that differ by blanks or Unicode form alone, merged", 1)
    ]


def test_several_values_by_a_separator_or_a_list():
    assert values(["a|b", "b| c|", "|"], separator="|") == [["a", "b"], ["b", "c"], []]
    assert values(pl.Series([["a", "b"], [], None])) == [["a", "b"], [], []]
    assert values(pl.Series([[1.0, 2.5], [3.0]])) == [["1", "2.5"], ["3"]]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (pl.Series([1.0, 2.5, None, float("nan")]), [["1"], ["2.5"], [], []]),
        (pl.Series([True, False]), [["true"], ["false"]]),
        (pl.Series(["x", "y"], dtype=pl.Categorical), [["x"], ["y"]]),
        (pl.Series(["007", "7"]), [["007"], ["7"]]),
    ],
)
def test_types_of_parquet_files(cells, expected):
    assert values(cells) == expected


def test_quantile_bins_have_ids_that_do_not_move_with_the_values():
    few, many = ["1", "2", "3", "4"], [str(n) for n in range(1, 101)]
    assert values(few, bins=2) == [["1/2"], ["1/2"], ["2/2"], ["2/2"]]
    assert {v for [v] in values(many, bins=2)} == {"1/2", "2/2"}
    # Equal values are in one bin.
    report = Report()
    assert values(["5"] * 9 + ["6"], report, bins=3) == [["1/3"]] * 9 + [["3/3"]]
    assert "quantile bins without a value" in report.warnings[0][0]


def test_bins_have_names_for_people():
    frame = attribute_values(
        pl.Series(["a", "b", "c"]), pl.Series(["€ 1.50", "3", "9.25"]),
        Attribute("c", "c", "c", "c", bins=2), (), "t.csv", Report(),
    )  # fmt: skip
    assert frame["name"].to_list() == ["1.5 to 3", "1.5 to 3", "9.25"]


def test_edges_give_bins_with_the_lower_limit():
    cells = ["9.9", "10", "19", "20", "500"]
    expected = [["below 10"], ["10 to 20"], ["10 to 20"], ["20 or more"], ["20 or more"]]
    assert values(cells, edges=(10.0, 20.0)) == expected


@pytest.mark.parametrize(
    "cell", ["1995", "1995-03-01", "01-Mar-1995", "1.3.1995", "1995-03-01T10:00:00Z", "March 1995"]
)
def test_dates_of_many_forms_have_a_year(cell):
    assert values([cell], date="year") == [["1995"]]
    assert values([cell], date="decade") == [["1990s"]]


def test_dates_of_parquet_files():
    cells = pl.Series(["1995-03-01", None]).str.to_date()
    assert values(cells, date="year") == [["1995"], []]


def test_few_cells_that_cannot_be_read_are_counted_and_many_refused():
    report = Report()
    assert values(["1", "2", "3", "call us"], report, bins=2)[3] == []
    assert report.warnings == [("t.csv: c: values that are no numbers, left out (call us)", 1)]
    with pytest.raises(DataError, match=r"found 2 of 3 values that are no numbers \(a, b\)"):
        values(["1", "a", "b"], bins=2)
    with pytest.raises(DataError, match="no dates with a year"):
        values(["99-01-01"], date="year")


def test_types_that_are_no_values_are_refused():
    with pytest.raises(DataError, match=r"found the type Struct.* in column c"):
        values(pl.Series([{"a": 1}]))
    with pytest.raises(DataError, match="expected no separator"):
        values(pl.Series([["a"]]), separator="|")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1,234.00", "99.50", "€ 12,345"], [1234, 99.5, 12345]),
        (["1,234,567", "call us, please"], [1234567, None]),
        (["1,234", "1,5"], [None, None]),  # decimal commas: the column is no list of thousands
        (["1,234", "0,500"], [None, None]),
        (["1234", "5"], [1234, 5]),
    ],
)
def test_commas_are_thousands_separators_if_they_are_in_the_whole_column(cells, expected):
    assert parse_numbers(pl.Series(cells)).to_list() == expected


def test_edges_with_many_digits_stay_apart():
    edges = (1234567.0, 1234568.0, 20000000.5)
    cells = ["1", "1234567", "1234568", "20000001"]
    assert values(cells, edges=edges) == [
        ["below 1234567"], ["1234567 to 1234568"], ["1234568 to 20000000.5"],
        ["20000000.5 or more"],
    ]  # fmt: skip
    frame = attribute_values(
        pl.Series(["a", "b"]), pl.Series(["1234567", "1234568"]),
        Attribute("c", "c", "c", "c", bins=2), (), "t.csv", Report(),
    )  # fmt: skip
    assert frame["name"].to_list() == ["1234567", "1234568"]


def test_values_that_are_items_are_cleaned_as_their_ids_are():
    attribute = Attribute("c", "c", "item", "c")
    cells = pl.Series([" a  b", "cafe\u0301", " "])
    owners = pl.Series(["1", "2", "3"])
    frame = attribute_values(owners, cells, attribute, (), "t.csv", Report())
    assert frame["value"].to_list() == ["a  b", "cafe\u0301"]
    frame = attribute_values(
        owners, pl.Series(["1.0", "2.0", None]), attribute, (), "t.csv", Report()
    )
    assert frame["value"].to_list() == ["1", "2"]
