"""Headers: whether a first line is one, rows that look like one, columns that are not used."""

import pytest
from files import CSV, MOVIELENS, RECBOLE, write

from kgrec.data.formats import recognise
from kgrec.data.formats.headers import headless
from kgrec.data.raw_tables import TRIPLE
from kgrec.errors import DataError


def read(folder):
    return recognise(folder).read(folder)


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
    raw = read(tmp_path)
    assert raw.triples.height == 3
    assert raw.triples.row(0) == tuple(first.split(","))
    assert ("triples.csv has no header: read as head, relation, tail", 1) in raw.counts


NO_HEADERS = {
    "items": (CSV, "items.csv", "item,title\na,b\nitem,The thing\n"),
    "items without names": (CSV, "items.csv", "item,about\na,b\nitem,x\n"),
    "entities": (CSV, "entities.csv", "entity,name\na,b\nentity,An entity\n"),
    "relations": (CSV, "relations.csv", "relation,name\nrelation,is related to\n"),
    "interactions": (CSV, "interactions.csv", "user,item,rating\n1,2,3\nuser,item,4\n"),
    "movies": (MOVIELENS, "movies.csv", "movieId,title,genres\n10,a,b\nmovieId,title,x\n"),
    "recbole": (RECBOLE, "ml.inter", "user_id\titem_id\trating\nu\ti\t1\nuser_id\titem_id\t2\n"),
    "recbole, other fields": (RECBOLE, "ml.inter",
                              "user_id\titem_id\tx\nu\ti\tx\nuser_id\titem_id\ty\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_HEADERS)
def test_a_row_with_some_names_of_columns_is_data(name, tmp_path):
    files, file, text = NO_HEADERS[name]
    write(tmp_path, files | {file: text})
    read(tmp_path)


def test_names_of_entities_that_are_not_used_are_counted(tmp_path):
    names = "entity,name,kind\ne1,One,x\ne1,Uno,x\ne1,One,x\ne2,,x\n"
    raw = read(write(tmp_path, CSV | {"entities.csv": names}))
    assert raw.entity_names.rows() == [("e1", "One")]
    assert ("other names of the same entity in entities.csv, not used", 1) in raw.counts
    assert ("columns of entities.csv not used (kind)", 1) in raw.notes


@pytest.mark.parametrize("number", ["880000000", "1e9"])
def test_numbers_among_dates_are_refused_in_words_that_they_do_not_fit(tmp_path, number):
    files = {"interactions.csv": f"user,item,time\n1,2,2020-01-02\n1,3,{number}\n"}
    with pytest.raises(DataError, match=rf"csv:3: found '{number}', expected a date as in other"):
        read(write(tmp_path, CSV | files))
    with pytest.raises(DataError, match="csv:3: found 'x', expected numbers or dates"):
        read(write(tmp_path, {"interactions.csv": files["interactions.csv"].replace(number, "x")}))
