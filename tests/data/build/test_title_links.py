"""Links by title and year: exact, ambiguous, missing."""

import polars as pl
import pytest

from kgrec.data.build.titles import link_by_title


def link(items, entities, with_year=True):
    """The links, and the outcome of each item."""
    schema = {"title": pl.String, "year": pl.String}
    left = pl.DataFrame(items, schema={"item": pl.String, **schema}, orient="row")
    right = pl.DataFrame(entities, schema={"entity": pl.String, **schema}, orient="row")
    links, outcomes = link_by_title(left, right, with_year)
    return dict(links.iter_rows()), dict(outcomes.select("item", "outcome").iter_rows())


@pytest.mark.parametrize(
    ("title", "other"),
    [
        ("Matrix, The", "The Matrix"),
        ("AMÉLIE", "Amelie"),
        ("Amélie", "Ame\u0301lie"),
        ("Matrix (1999)", "matrix"),
        ("Thelma & Louise", "Thelma and Louise"),
        ("Spider-Man: Home", "Spider Man  Home!"),
        ("Гранит", "ГРАНИТ"),
    ],
)
def test_spellings_of_one_title(title, other):
    assert link([("i", title, "1999")], [("e", other, "1999-03-31")]) == (
        {"i": "e"},
        {"i": "exact"},
    )


@pytest.mark.parametrize(("title", "other"), [("Alien", "Aliens"), ("It", "It Follows"), ("", "")])
def test_other_titles_are_missing(title, other):
    assert link([("i", title, "1999")], [("e", other, "1999")]) == ({}, {"i": "missing"})


def test_the_year_decides():
    entities = [("old", "King Kong", "1933"), ("new", "King Kong", "2005")]
    items = [("a", "King Kong", "2005"), ("b", "King Kong (1933)", None),
             ("c", "King Kong", "1976"), ("d", "King Kong", None)]  # fmt: skip
    links, outcomes = link(items, entities)
    assert links == {"a": "new", "b": "old"}
    assert outcomes == {"a": "exact", "b": "exact", "c": "other year", "d": "no year"}
    links, outcomes = link([("a", "King Kong", "2005")], [("old", "King Kong", None)])
    assert (links, outcomes) == ({}, {"a": "no year"})
    links, outcomes = link(items[:1], entities, with_year=False)
    assert (links, outcomes) == ({}, {"a": "ambiguous"})


def test_several_of_either_side_are_ambiguous_and_not_linked():
    links, outcomes = link(
        [("a", "Twins", "1988"), ("b", "Twins", "1988"), ("c", "Heat", "1995")],
        [("t", "Twins", "1988"), ("h1", "Heat", "1995"), ("h2", "Heat", "1995"),
         ("h1", "Heat", "1995")],
    )  # fmt: skip
    assert links == {}
    assert set(outcomes.values()) == {"ambiguous"}
