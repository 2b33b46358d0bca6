"""Whether the first line of a file that may have no header is one."""

import pytest

from kgrec.data.formats import recognise
from kgrec.data.formats.headers import headless
from kgrec.data.raw_tables import TRIPLE


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("e1\tr0\te2", True),
        ("h1,likes,t1", True),
        ("h1,r1,t1", True),
        ("e,likes,t", True),
        ("h,likes,t", True),
        ("head,relation,tail", False),
        ("h,r,t", False),
        ("t;h;r", False),
        ("Subject|Predicate|Object", False),
        ("head_id:token,relation_id:token,tail_id:token", False),
        ("head,rel,tail", False),
        ("head,relation,tail,weight", False),
        ("h1,likes,t1,0.5", False),
    ],
)
def test_a_header_has_the_names_of_the_columns_digits_included(tmp_path, line, expected):
    (tmp_path / "kg.csv").write_text(f"{line}\na,b,c\n")
    assert headless(tmp_path / "kg.csv", TRIPLE) == expected


@pytest.mark.parametrize("first", ["e1,r0,e2", "h1,likes,t1", "h1,r1,t1"])
def test_every_triple_of_a_file_without_a_header_is_read(tmp_path, first):
    (tmp_path / "interactions.csv").write_text("user,item\nu,e1\nv,h1\n")
    (tmp_path / "triples.csv").write_text(f"{first}\ne1,r1,x\nh1,r1,x\n")
    raw = recognise(tmp_path).read(tmp_path)
    assert raw.triples.height == 3
    assert raw.triples.row(0) == tuple(first.split(","))
    assert ("triples.csv has no header: read as head, relation, tail", 1) in raw.counts
