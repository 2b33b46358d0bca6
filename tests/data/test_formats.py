"""Every format is read as its files mean."""

from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from files import BOOK, CSV, FINAL, GIVEN, KGAT, MOVIELENS, RAW, RECBOLE, write

from kgrec.data.formats import FORMATS, recognise
from kgrec.errors import ConfigError, DataError


def read(folder: Path, **columns: str):
    return recognise(folder).read(folder, columns)


def test_released_raw(tmp_path):
    raw = read(write(tmp_path, RAW))
    assert recognise(tmp_path).name == "released_raw"
    assert raw.interactions.rows() == [("1", "10", 3.0), ("2", "11", 5.0)]
    assert raw.links.rows() == [("10", "0"), ("11", "1")]
    assert raw.triples.rows() == [("0", "genre", "7"), ("1", "genre", "7")]


def test_movielens_ratings(tmp_path):
    files = {k: v for k, v in RAW.items() if k != "user_artists.dat"}
    files["ratings.csv"] = "userId,movieId,rating,timestamp\n1,10,3.5,1112486027\n"
    raw = read(write(tmp_path, files))
    assert raw.interactions.rows() == [("1", "10", 3.5, 1112486027.0)]


def test_broken_lines_of_book_crossing_are_skipped_and_counted(tmp_path):
    raw = read(_book(tmp_path))
    assert raw.interactions.rows() == [("1", 'a;b\\"c', 0.0), ("3", "ü", 7.0)]
    assert raw.counts == [("broken lines of BX-Book-Ratings.csv, skipped", 1)]


def _book(folder: Path) -> Path:
    write(folder, BOOK)
    ratings = BOOK["BX-Book-Ratings.csv"]
    (folder / "BX-Book-Ratings.csv").write_bytes(ratings.encode("latin-1"))
    return folder


def test_released_final(tmp_path):
    raw = read(write(tmp_path, FINAL))
    assert raw.interactions.rows() == [("0", "0"), ("1", "1")]
    assert raw.negatives.rows() == [("0", "1")]
    assert raw.links.rows() == [("0", "0"), ("1", "1")]


def test_released_final_takes_raw_ids_from_the_index(tmp_path):
    raw = read(write(tmp_path, FINAL | {"item_index2entity_id.txt": "isbn-a\t55\nisbn-b\t66\n"}))
    assert raw.interactions.rows() == [("0", "isbn-a"), ("1", "isbn-b")]
    assert raw.links.rows() == [("isbn-a", "0"), ("isbn-b", "1")]


def test_recbole(tmp_path):
    raw = read(write(tmp_path, RECBOLE))
    assert raw.interactions.rows() == [("u", "i", 4.0, 9.0)]
    assert raw.links.rows() == [("i", "m.1")]
    assert raw.triples.rows() == [("m.1", "r", "m.2")]
    assert raw.item_names.rows() == [("i", "Toy Story")]


def test_recbole_with_given_splits(tmp_path):
    raw = read(write(tmp_path, GIVEN))
    assert raw.interactions.rows() == [("u", "i", 0), ("v", "j", 0), ("u", "j", 1), ("v", "i", 2)]
    assert raw.given_parts == ["train", "val", "test"]
    (tmp_path / "ml.valid.inter").unlink()
    assert read(tmp_path).given_parts == ["train", "test"]


def test_recbole_with_labels(tmp_path):
    inter = "user_id:token\titem_id:token\tlabel:float\nu\ti\t1\nu\tj\t0\n"
    raw = read(write(tmp_path, RECBOLE | {"ml.inter": inter}))
    assert raw.interactions.rows() == [("u", "i")]
    assert raw.negatives.rows() == [("u", "j")]


def test_kgat(tmp_path):
    raw = read(write(tmp_path, KGAT))
    assert recognise(tmp_path).name == "kgat"
    assert raw.interactions.rows() == [
        ("ann", "x", 0), ("ann", "y y", 0), ("bob", "y y", 0), ("ann", "z", 2), ("bob", "x", 2),
    ]  # fmt: skip
    assert raw.links.rows() == [("x", "m.x"), ("y y", "m.y"), ("z", "m.z")]
    assert raw.triples.rows() == [
        ("m.x", "genre", "m.rock"), ("m.y", "like", "m.rock"), ("m.z", "genre", "m.y"),
    ]  # fmt: skip
    assert raw.counts == [("users of train.txt without any item, skipped", 1)]


def test_kgat_without_lists_keeps_the_numbers(tmp_path):
    raw = read(write(tmp_path, {n: t for n, t in KGAT.items() if "list" not in n}))
    assert raw.interactions.row(0) == ("0", "0", 0)
    assert raw.links.rows() == [("0", "0"), ("1", "1"), ("2", "2")]


def test_kgat_keeps_numbers_that_are_not_listed(tmp_path):
    files = KGAT | {"entity_list.txt": "org_id remap_id\nm.x 0\n"}
    raw = read(write(tmp_path, files))
    assert raw.links.rows() == [("x", "m.x"), ("y y", "#1"), ("z", "#2")]
    assert ("numbers that entity_list.txt does not list, kept as #number", 3) in raw.counts
    write(tmp_path, {"entity_list.txt": "org_id remap_id\n#1 0\n"})
    with pytest.raises(DataError, match=r"entity_list\.txt: found the id '#1', which is kept for"):
        read(tmp_path)


def test_kgat_takes_entities_from_the_item_list_without_an_entity_list(tmp_path):
    raw = read(write(tmp_path, {n: t for n, t in KGAT.items() if n != "entity_list.txt"}))
    assert raw.links.rows() == [("x", "m.x"), ("y y", "m.y"), ("z", "m.z")]
    assert raw.triples.row(0) == ("m.x", "genre", "#3")
    assert ("numbers that item_list.txt does not list, kept as #number", 1) in raw.counts


def test_csv(tmp_path):
    raw = read(write(tmp_path, CSV))
    seconds = [datetime(2020, 1, day, tzinfo=UTC).timestamp() for day in (2, 3)]
    assert raw.interactions.rows() == [("1", "a,b", 4.0, seconds[0]), ("2", "c", 3.5, seconds[1])]
    assert raw.links.rows() == [("a,b", "e1"), ("c", "e2")]
    assert raw.triples.rows() == [("e1", "genre", 'rock "n" roll'), ("e2", "genre", "e1")]
    assert raw.item_names.rows() == [("a,b", "Alpha"), ("c", None)]
    assert raw.counts == []
    assert raw.notes == [("columns of interactions.csv not used (note)", 1)]


@pytest.mark.parametrize("separator", ["\t", ";", "|"])
def test_csv_with_another_separator(separator, tmp_path):
    raw = read(write(tmp_path, CSV))
    for stem in ("interactions", "triples", "links"):
        frame = pl.read_csv(tmp_path / f"{stem}.csv")
        frame.write_csv(tmp_path / f"{stem}.csv", separator=separator)
    assert read(tmp_path).interactions.equals(raw.interactions)
    assert read(tmp_path).links.equals(raw.links)


def test_csv_in_parts(tmp_path):
    files = {"train.csv": "user,item\nu,i\n", "test.csv": "user,item\nu,j\nv,i\n"}
    files |= {"kg.csv": "i,is,a\nj,is,a\n"}
    raw = read(write(tmp_path, files))
    assert raw.interactions.rows() == [("u", "i", 0), ("u", "j", 2), ("v", "i", 2)]
    assert raw.links.rows() == [("i", "i"), ("j", "j")]
    assert raw.counts == [("kg.csv has no header: read as head, relation, tail", 1)]
    assert raw.notes == [("no links file: items that are the entity of the same id", 2)]


@pytest.mark.parametrize("note", ["a disc", 'a 5" disc'], ids=["fast reader", "careful reader"])
def test_csv_with_an_index_as_pandas_writes_it(note, tmp_path):
    """Its column has no name."""
    rows = f",user,item,note\n0,u,c,\n1,v,c,{note}\n"
    raw = read(write(tmp_path, CSV | {"interactions.csv": rows}))
    assert raw.interactions.rows() == [("u", "c"), ("v", "c")]
    assert ("columns of interactions.csv not used (, note)", 2) in raw.notes


def test_csv_with_labels_and_splits(tmp_path):
    rows = "user,item,label,split\nu,i,1,train\nu,j,0.0,train\nv,i,True,Validation\nv,j,1,test\n"
    raw = read(write(tmp_path, CSV | {"interactions.csv": rows}))
    assert raw.interactions.rows() == [("u", "i", 0), ("v", "i", 1), ("v", "j", 2)]
    assert raw.negatives.rows() == [("u", "j")]


def test_csv_with_columns_of_other_names(tmp_path):
    files = CSV | {"interactions.csv": "who,what,userid\nu,c,9\n"}
    files |= {"links.csv": "what,entity\nc,e2\n", "items.csv": "what,title\nc,C\n"}
    raw = read(write(tmp_path, files), user="who", item="what")
    assert raw.interactions.rows() == [("u", "c")]
    with pytest.raises(DataError, match=r"found column what for user and for item, expected one"):
        read(tmp_path, user="what", item="what")
    with pytest.raises(DataError, match=r"expected one for rating \(stars\); choose it with"):
        read(tmp_path, user="who", item="what", rating="stars")
    with pytest.raises(ConfigError, match=r"dataset\.columns\.film: found an unknown key"):
        read(tmp_path, film="what")


def test_columns_are_refused_for_formats_without_named_columns(tmp_path):
    with pytest.raises(
        ConfigError, match=r"found user, expected none for files in format released"
    ):
        read(write(tmp_path, RAW), user="who")


@pytest.mark.parametrize("ids", [[42, 7], ["42", "7"], [42.0, 7.0], ["42.0", "7.0"]])
def test_whole_numbers_are_equal_in_every_notation(ids, tmp_path):
    write(tmp_path, {"triples.csv": "head,relation,tail\n42,r,7\n"})
    pl.DataFrame({"user": [1, 2], "item": ids}).write_parquet(tmp_path / "interactions.parquet")
    assert read(tmp_path).links.rows() == [("42", "42"), ("7", "7")]


def _parquet(folder: Path, **columns: object) -> Path:
    write(folder, {"triples.csv": CSV["triples.csv"]})
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["e1", "e2"]} | columns)
    frame.write_parquet(folder / "interactions.parquet")
    return folder


@pytest.mark.parametrize(
    ("times", "first"),
    [
        ([date(1970, 1, 2), date(1970, 1, 3)], 86400),
        ([datetime(1970, 1, 1, 0, 0, 1, 500_000)] * 2, 1.5),
        ([datetime(1970, 1, 1, 0, 1, tzinfo=UTC)] * 2, 60),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:01Z"], 0),
        (["1970-01-02", "1970-01-01 00:00:01"], 86400),
        (["5", " 6"], 5),
        ([5, 6], 5),
    ],
)
def test_times(times, first, tmp_path):
    raw = read(_parquet(tmp_path, time=pl.Series(times)))
    assert raw.interactions["timestamp"][0] == first
    assert raw.interactions.schema["timestamp"] == pl.Float64


def test_parquet_with_categories(tmp_path):
    users = pl.Series(["u", "v"], dtype=pl.Categorical)
    labels = pl.Series([True, True])
    split = pl.Series(["train", "test"], dtype=pl.Enum(["train", "test"]))
    raw = read(_parquet(tmp_path, user=users, label=labels, split=split))
    assert recognise(tmp_path).name == "csv"  # CSV and Parquet are one family
    assert raw.interactions.rows() == [("u", "e1", 0), ("v", "e2", 2)]


def test_a_path_with_pattern_characters(tmp_path):
    assert read(write(tmp_path / "a[1]*", RAW)).links.height == 2
    assert read(write(tmp_path / "b[1]*", CSV)).links.height == 2
    assert read(_parquet(tmp_path / "c[1]*")).links.height == 2


ALL = {"raw": RAW, "final": FINAL, "recbole": RECBOLE, "given": GIVEN, "kgat": KGAT, "csv": CSV,
       "movielens": MOVIELENS}  # fmt: skip


@pytest.mark.parametrize("files", ALL.values(), ids=ALL)
@pytest.mark.parametrize("change", ["crlf", "bom", "blank lines", "no last newline"])
def test_line_ends_byte_order_marks_and_blank_lines_are_accepted(files, change, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    changed = {
        name: {
            "crlf": text.replace("\n", "\r\n"),
            "bom": "\ufeff" + text,
            "blank lines": "\n" + text.replace("\n", "\n\n  \n"),
            "no last newline": text.rstrip("\n"),
        }[change]
        for name, text in files.items()
    }
    plain, other = read(write(tmp_path / "a", files)), read(write(tmp_path / "b", changed))
    assert other.interactions.equals(plain.interactions)
    assert other.links.equals(plain.links)
    assert other.triples.equals(plain.triples)
    assert (other.item_names is None) == (plain.item_names is None)
    assert plain.item_names is None or other.item_names.equals(plain.item_names)


def test_quotation_marks_within_fields_do_not_join_rows(tmp_path):
    rows = 'h,r,t\n1,5" disc,a\n2,6" disc,b\n'
    raw = read(write(tmp_path, CSV | {"triples.csv": rows}))
    assert raw.triples.rows() == [("1", '5" disc', "a"), ("2", '6" disc', "b")]


def test_a_blank_first_line_is_not_the_header(tmp_path):
    link = "\n" + RECBOLE["ml.link"]
    assert read(write(tmp_path, RECBOLE | {"ml.link": link})).links.rows() == [("i", "m.1")]


@pytest.mark.parametrize("name", FORMATS)
def test_a_name_with_a_comma_can_be_written(name, tmp_path):
    raw = read(write(tmp_path, MOVIELENS))
    assert not any("Seven" in loss for loss in FORMATS[name].cannot_hold(raw))
    assert FORMATS["released_raw"].cannot_hold(raw) == []


def test_links_may_name_the_items_column_differently(tmp_path):
    files = {
        "interactions.csv": "uid,sku\n1,a\n", "links.csv": "item,entity\na,e\n",
        "triples.csv": "head,relation,tail\ne,r,f\n", "items.csv": "sku,name\na,Alpha\n",
    }  # fmt: skip
    write(tmp_path, files)
    raw = recognise(tmp_path).read(tmp_path, {"user": "uid", "item": "sku"})
    assert raw.links.rows() == [("a", "e")]
    assert raw.item_names.rows() == [("a", "Alpha")]
    with pytest.raises(DataError, match=r"interactions\.csv: found the columns uid, sku, expected"):
        recognise(tmp_path).read(tmp_path, {"user": "uid", "item": "skuu"})


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_that_has_ratings_can_hold_them(name, tmp_path):
    raw = read(write(tmp_path, MOVIELENS))
    assert FORMATS[name].has_ratings == ("ratings" not in FORMATS[name].cannot_hold(raw))
