"""Raw ids and titles as numbers."""

import numpy as np
import polars as pl
import pytest

from kgrec.errors import DataError
from kgrec.inference.raw_ids import RawIds, as_list

IDS = RawIds(
    "item",
    pl.Series(["00123", "7", "Heat", "b"]),
    pl.Series(["Heat", "Twins", None, "twins"]),
)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [("00123", [0]), (7, [1]), (["b", "7", "b"], [3, 1, 3]), (pl.Series(["7"]), [1]), ([], [])],
)
def test_ids_are_found_in_order(wanted, numbers):
    assert IDS.numbers(wanted).tolist() == numbers


def test_an_id_wins_over_a_title_and_case_does_not_matter():
    assert IDS.numbers("Heat").tolist() == [2]
    assert IDS.numbers(" heat ").tolist() == [0]


def test_a_title_of_several_items_is_refused():
    with pytest.raises(DataError, match=r"found the name 'Twins' of 2 items.*such as 7, b"):
        IDS.numbers("TWINS")


def test_unknown_ids_are_counted_and_the_closest_is_suggested():
    with pytest.raises(DataError) as error:
        IDS.numbers(["7", "0123", "x", "y"])
    assert "found item '0123' and 2 more unknown ids, expected one of the 4 items" in str(error)
    assert "did you mean 00123?" in str(error)
    numbers, unknown = IDS.find(["7", "x"])
    assert numbers.tolist() == [1]
    assert unknown == ["x"]


def test_one_id_is_a_list_of_one():
    assert as_list("abc") == ["abc"]
    assert as_list(5) == ["5"]
    assert as_list(("a", 1)) == ["a", "1"]
    assert as_list(np.int64(5)) == ["5"]
    assert as_list(np.array([5, 7])) == ["5", "7"]
    with pytest.raises(DataError, match=r"found 1\.5 as an id, expected a text"):
        as_list(1.5)
