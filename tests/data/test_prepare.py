from dataclasses import replace

import polars as pl
import pytest
from conftest import prepared, raw_tables

from kgrec.data.prepare import prepare
from kgrec.errors import ConfigError, DataError

RATINGS = [
    ("ann", "x", 5.0), ("ann", "y", 2.0), ("ann", "x", 4.0), ("bob", "y", 5.0),
    ("bob", "lost", 5.0), ("cid", "y", 1.0), ("dan", "lost", 5.0),
]  # fmt: skip
LINKS = [("x", "E1"), ("y", "E2"), ("x", "E1"), ("z", "E3")]
TRIPLES = [
    ("E2", "likes", "T"), ("E2", "likes", "T"), ("T", "self", "T"), ("E1", "likes", "E2"),
]  # fmt: skip


def counts(data) -> dict[str, int]:
    return {entry.what: entry.count for entry in data.account.entries}


def test_ids_and_counts():
    data = prepared(RATINGS, LINKS, TRIPLES, min_rating=4)
    assert data.ids.items["item"].to_list() == ["x", "y", "z"]  # the order of the links
    assert data.ids.entities["entity"].to_list() == ["E1", "E2", "E3", "T"]  # items first
    assert data.ids.users["user"].to_list() == ["ann", "bob"]
    assert data.ids.relations["relation"].to_list() == ["likes", "self"]
    assert (data.positives.users.tolist(), data.positives.items.tolist()) == ([0, 1], [0, 1])
    assert (data.rated.users.tolist(), data.rated.items.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert data.graph.heads.tolist() == [1, 3, 0]
    assert data.graph.tails.tolist() == [3, 3, 1]


def test_every_row_is_in_the_account():
    found = counts(prepared(RATINGS, LINKS, TRIPLES, min_rating=4))
    assert found["interactions read"] == 7
    assert found["interactions of items without an entity, dropped"] == 2
    assert found["interactions rated below 4, not positive"] == 2
    assert found["duplicate positives (the same user and item), merged"] == 1
    assert found["positives"] == 2
    assert found["users without a positive, dropped"] == 2
    assert found["duplicate links, merged"] == 1
    assert found["items without an entity, dropped"] == 1
    assert found["duplicate triples, merged"] == 1
    assert found["self-loops, kept"] == 1
    assert found["items whose entity is in no triple"] == 1
    assert found["items without any positive, kept"] == 1
    assert found["items without a neighbour in the graph, kept"] == 1
    total = found["interactions of items without an entity, dropped"]
    total += found["interactions rated below 4, not positive"] + found["positives"]
    assert total + found["duplicate positives (the same user and item), merged"] == 7


def test_unlinked_items_can_be_kept():
    data = prepared(RATINGS, LINKS, TRIPLES, min_rating=4, unlinked="keep")
    assert data.ids.items["item"].to_list() == ["x", "y", "z", "lost"]
    assert data.ids.users["user"].to_list() == ["ann", "bob", "dan"]
    assert data.graph.neighborhood().degrees[3] == 0
    assert counts(data)["items without an entity, kept without neighbours"] == 1


def test_without_a_threshold_the_account_says_that_all_ratings_are_positive():
    data = prepared(RATINGS, LINKS, TRIPLES)
    assert len(data.positives) == 4
    assert counts(data)["rated 1 to 5, all taken as positive (dataset.min_rating=null)"] == 5


def edges(data) -> set[tuple[str, str, str]]:
    names, relations = data.ids.entities["entity"], data.ids.relations["relation"]
    nodes = list(names)
    for i, item in enumerate(data.ids.items["item"]):
        nodes[i] = item
    graph = data.graph
    return {
        (nodes[h], relations[r], nodes[t])
        for h, r, t in zip(graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist(),
                           strict=True)
    }  # fmt: skip


def test_an_item_of_two_entities_has_the_triples_of_both():
    data = prepared(
        RATINGS, [("x", "E1"), ("y", "E3"), ("x", "E2")], [("E1", "r", "T"), ("E2", "s", "T")]
    )
    assert edges(data) == {("x", "r", "T"), ("x", "s", "T")}
    assert data.ids.entities["entity"].to_list() == ["E1", "E3", "T"]
    assert counts(data)["items linked to several entities: they have the triples of all"] == 1


def test_items_that_share_an_entity_both_have_its_triples():
    data = prepared(
        RATINGS, [("x", "E"), ("y", "E")], [("E", "r", "T"), ("T", "s", "E"), ("E", "r", "T")]
    )
    assert edges(data) == {("x", "r", "T"), ("y", "r", "T"), ("T", "s", "x"), ("T", "s", "y")}
    assert (data.graph.num_entities, len(data.graph)) == (3, 4)
    found = counts(data)
    assert found["entities linked to several items: each has their triples"] == 1
    assert found["copies of triples for entities of several items"] == 2


def test_triples_that_become_the_same_are_merged():
    data = prepared(
        RATINGS, [("x", "E1"), ("x", "E2"), ("y", "E1")], [("E1", "r", "T"), ("E2", "r", "T")]
    )
    assert edges(data) == {("x", "r", "T"), ("y", "r", "T")}
    assert counts(data)["triples that became the same, merged"] == 1


def test_both_directions_of_a_triple_are_counted():
    data = prepared(RATINGS, LINKS, [("E1", "r", "T"), ("T", "r", "E1"), ("T", "s", "E1")])
    assert counts(data)["triples with a reverse of the same relation: one neighbour each"] == 2
    assert data.graph.neighborhood().degrees.tolist() == [2, 0, 0, 2]


def test_a_pair_has_its_earliest_time_and_its_first_part():
    raw = raw_tables(RATINGS, LINKS, TRIPLES)
    rows = raw.interactions.with_columns(
        timestamp=pl.Series([7.0, 1, 5, 2, 3, 4, 6]),
        part=pl.Series([1, 0, 2, 2, 0, 0, 1], dtype=pl.Int8),
    )
    data = prepare(replace(raw, interactions=rows), "test", min_rating=4)
    assert (data.positives.users.tolist(), data.positives.items.tolist()) == ([0, 1], [0, 1])
    assert data.times.tolist() == [5, 2]
    assert data.given_parts.tolist() == [1, 2]
    assert counts(data)["pairs in several given parts, kept in the first"] == 1
    pooled = prepare(replace(raw, interactions=rows), "test", min_rating=4, pool_splits=True)
    assert pooled.given_parts is None
    assert counts(pooled)["interactions whose given split is ignored (dataset.pool_splits)"] == 7


def test_links_are_required():
    with pytest.raises(
        DataError, match="found no link from an item to an entity, expected at least one"
    ):
        prepared(RATINGS, [], TRIPLES)


def test_a_graph_without_an_item_is_refused():
    with pytest.raises(
        DataError, match=r"found 1 triples that mention none of the 3 items .*expec"
    ):
        prepared(RATINGS, LINKS, [("A", "r", "B")])


def test_data_without_a_positive_are_refused():
    with pytest.raises(
        DataError,
        match=r"found 5 ratings from 1 to 5, expected some of at least dataset\.min_rating=6",
    ):
        prepared(RATINGS, LINKS, TRIPLES, min_rating=6)


def test_a_threshold_needs_ratings():
    raw = raw_tables(RATINGS, LINKS, TRIPLES)
    object.__setattr__(raw, "interactions", raw.interactions.drop("rating"))
    with pytest.raises(
        DataError, match=r"without ratings, expected a rating, because .*min_rating=4"
    ):
        prepare(raw, "test", min_rating=4)


def test_unlinked_must_be_drop_or_keep():
    with pytest.raises(
        ConfigError, match=r"dataset\.unlinked: found 'lose', expected drop or keep"
    ):
        prepared(RATINGS, LINKS, TRIPLES, unlinked="lose")
