"""Warnings on a data set."""

import pytest
from conftest import prepared

from kgrec.data.advice import advice
from kgrec.data.describe import describe
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit

ITEMS = [f"i{n}" for n in range(40)]
LINKS = [(item, item) for item in ITEMS]
PAIRS = [(f"u{u}", ITEMS[(7 * u + 3 * n) % 40], 5.0) for u in range(150) for n in range(8)]
COLORS = [(item, "color", f"c{n % 4}") for n, item in enumerate(ITEMS)]
BRANDS = [(item, "brand", f"b{n % 5}") for n, item in enumerate(ITEMS)]


def warnings_of(pairs=PAIRS, links=LINKS, triples=(*COLORS, *BRANDS), **settings):
    data = prepared(list(pairs), list(links), list(triples), **settings)
    return advice(describe(data, clean(data, RandomSplit())))


def test_a_sound_data_set_has_no_warning():
    assert warnings_of() == []


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"pairs": PAIRS[:400]}, "Only 43 users have a test positive"),
        ({"pairs": PAIRS[::4]}, "Half of the users have at most 2 positives"),
        ({"links": LINKS[:30], "triples": [t for t in (*COLORS, *BRANDS) if t[0] in ITEMS[:30]]},
         "10 items (25%) of the interactions are in no link"),
        ({"triples": [t for t in (*COLORS, *BRANDS) if t[0] in ITEMS[:20]]},
         "50% of the items have no neighbour"),
        ({"triples": [(i, "set", f"s{n // 2}") for n, i in enumerate(ITEMS)]},
         "Only 5% of the items are connected"),
        ({"triples": [*COLORS, *BRANDS, *((i, "ean", f"e{i}") for i in ITEMS)]},
         "Each item has a value of its own in ean"),
        ({"triples": [*COLORS, *BRANDS, *((i, "sold", "yes") for i in ITEMS)]},
         "Nearly all items have the same value in sold"),
        ({"triples": [*COLORS, *BRANDS, *((t, "color of", h) for h, _, t in COLORS)]},
         "Relations say the same in both directions"),
        ({"pairs": [(f"u{u}", i, 5.0) for u in range(150) for i in ITEMS[:30]]},
         "75% of all pairs are positives"),
        ({"pairs": [*PAIRS, ("U0", "i0", 5.0)]}, "Ids differ only by blanks, case"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)  # fmt: skip
def test_each_warning(change, warning):
    matching = [text for text in warnings_of(**change) if text.startswith(warning)]
    assert len(matching) == 1


def test_many_relations_are_counted():
    triples = [*COLORS, *((i, f"id{n}", f"{n}-{i}") for n in range(5) for i in ITEMS)]
    warning = next(w for w in warnings_of(triples=triples) if w.startswith("Each item"))
    assert "id0, id1, id2 and 2 more relations" in warning
