"""Inverse relations: found by their triples, named in a description, merged where asked for."""

from __future__ import annotations

import polars as pl
import pytest
from conftest import raw_tables

from kgrec.data.describe import describe
from kgrec.data.inverses import inverse_pairs, merge_inverses
from kgrec.data.prepare import prepare
from kgrec.errors import ConfigError
from kgrec.reports.dataset import page as dataset_page
from kgrec.reports.dataset import tables as dataset_tables

INTERACTIONS = [("u", "a", 1.0), ("u", "b", 1.0), ("v", "a", 1.0)]
LINKS = [("a", "A"), ("b", "B")]
# "of" restates all of "genre", "near" is its own reverse, "odd" restates one of three.
GENRE = [("A", "genre", "x"), ("B", "genre", "x"), ("A", "genre", "y")]
TRIPLES = [
    *GENRE, ("x", "of", "A"), ("x", "of", "B"), ("y", "of", "A"), ("y", "odd", "A"),
    ("A", "near", "B"), ("B", "near", "A"),
]  # fmt: skip


def frame(triples: list[tuple[str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(triples, schema=["head", "relation", "tail"], orient="row")


def test_pairs_by_hand():
    (pair,) = inverse_pairs(frame(TRIPLES)).to_dicts()
    assert pair == {
        "relation": "genre", "inverse": "of", "triples": 3, "inverse_triples": 3, "shared": 3,
        "share": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize(("restated", "found"), [(4, 1), (3, 0)])
def test_a_pair_needs_most_of_the_larger_relation(restated, found):
    rows = [(f"h{i}", "r", f"t{i}") for i in range(5)]
    rows += [(tail, "s", head) for head, _, tail in rows[:restated]]
    assert inverse_pairs(frame(rows)).height == found


def test_a_relation_is_in_one_pair_at_most():
    rows = [(f"h{i}", r, f"t{i}") for r in ("r", "copy") for i in range(5)]
    rows += [(tail, "s", head) for head, relation, tail in rows if relation == "r"]
    (pair,) = inverse_pairs(frame(rows)).to_dicts()
    assert (pair["relation"], pair["inverse"]) == ("r", "s")


def test_the_first_relation_of_equal_ones_stays_whatever_their_names():
    rows = [("x", "z", "A"), ("A", "a", "x")]
    (pair,) = inverse_pairs(frame(rows)).to_dicts()
    assert pair["relation"] == "z"
    assert merge_inverses(frame(rows), inverse_pairs(frame(rows))).rows() == [("x", "z", "A")]


def test_merging_keeps_every_neighbour_once_and_every_number():
    raw = raw_tables(INTERACTIONS, LINKS, TRIPLES)
    kept, merged = (prepare(raw, "x", inverses=choice) for choice in ("keep", "merge"))
    assert merged.ids.entities.equals(kept.ids.entities)
    assert merged.ids.relations["relation"].to_list() == ["genre", "odd", "near"]
    assert len(kept.graph) == 9
    assert len(merged.graph) == 6
    # A has x and y (and y once more under another relation), and B.
    assert kept.graph.neighborhood().degrees[0] == 6
    assert merged.graph.neighborhood().degrees[0] == 4
    counts = {entry.what: entry.count for entry in merged.account.entries}
    assert counts["inverse relations, merged into the other"] == 1
    assert counts["triples that an inverse relation restates, merged"] == 3
    counts = {entry.what: entry.count for entry in kept.account.entries}
    assert counts["triples that an inverse relation restates, kept: two neighbours each"] == 3


def test_an_unknown_choice_is_refused():
    with pytest.raises(ConfigError, match=r"dataset\.inverses: found 'no', expected keep or merge"):
        prepare(raw_tables(INTERACTIONS, LINKS, TRIPLES), "x", inverses="no")


def test_a_description_shows_pairs_and_what_to_do(capsys):
    description = describe(prepare(raw_tables(INTERACTIONS, LINKS, TRIPLES), "x"))
    assert description.as_dict()["inverse_relations"][0]["inverse"] == "of"
    dataset_tables.show(description)
    out = capsys.readouterr().out
    page = dataset_page.render(description)
    for text in (out, page):
        assert "Inverse relations" in text
        assert "dataset.inverses=merge" in text
    without = describe(prepare(raw_tables(INTERACTIONS, LINKS, GENRE), "x"))
    dataset_tables.show(without)
    assert "Inverse relations" not in capsys.readouterr().out
    assert "Inverse relations" not in dataset_page.render(without)
