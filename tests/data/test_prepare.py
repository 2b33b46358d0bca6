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


def test_every_row_is_accounted_for():
    found = counts(prepared(RATINGS, LINKS, TRIPLES, min_rating=4))
    assert found["interactions read"] == 7
    assert found["interactions of items without an entity, dropped"] == 2
    assert found["interactions rated below 4, no positives"] == 2
    assert found["positives of a pair that stands more than once, merged"] == 1
    assert found["positives"] == 2
    assert found["users left without a positive, dropped"] == 2
    assert found["links that stand twice, merged"] == 1
    assert found["items without an entity, dropped"] == 1
    assert found["triples that stand twice, merged"] == 1
    assert found["self-loops, kept"] == 1
    assert found["items whose entity the graph does not have"] == 1
    assert found["items without any positive, kept"] == 1
    assert found["items without a neighbour in the graph, kept"] == 1
    total = found["interactions of items without an entity, dropped"]
    total += found["interactions rated below 4, no positives"] + found["positives"]
    assert total + found["positives of a pair that stands more than once, merged"] == 7


def test_unlinked_items_can_be_kept():
    data = prepared(RATINGS, LINKS, TRIPLES, min_rating=4, unlinked="keep")
    assert data.ids.items["item"].to_list() == ["x", "y", "z", "lost"]
    assert data.ids.users["user"].to_list() == ["ann", "bob", "dan"]
    assert data.graph.neighborhood().degrees[3] == 0
    assert counts(data)["items without an entity, kept without neighbours"] == 1


def test_without_a_threshold_it_says_that_all_ratings_count():
    data = prepared(RATINGS, LINKS, TRIPLES)
    assert len(data.positives) == 4
    assert counts(data)["rated 1 to 5, all taken as positive (dataset.min_rating=null)"] == 5


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ([("x", "E1"), ("x", "E2")], "found item 'x' linked to 2 of the kind entity .*expected"),
        ([("x", "E1"), ("y", "E1")], "found entity 'E1' linked to 2 of the kind item .*expected"),
    ],
)
def test_links_must_be_one_to_one(links, message):
    with pytest.raises(DataError, match=message):
        prepared(RATINGS, links, TRIPLES)


def test_a_graph_that_mentions_no_item():
    with pytest.raises(
        DataError, match=r"found 1 triples that mention none of the 3 items .*expec"
    ):
        prepared(RATINGS, LINKS, [("A", "r", "B")])


def test_no_positive_at_all():
    with pytest.raises(DataError, match="found 7 interactions and no positive among them"):
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
