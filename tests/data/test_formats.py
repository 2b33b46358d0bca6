from pathlib import Path

import pytest
from files import BOOK, FINAL, RAW, RECBOLE, write

from kgrec.data.formats import recognise
from kgrec.data.text_files import read_lines
from kgrec.errors import DataError


def read(folder: Path):
    return recognise(folder).read(folder)


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


def test_book_crossing_passes_over_broken_lines_and_counts_them(tmp_path):
    raw = read(_book(tmp_path))
    assert raw.interactions.rows() == [("1", 'a;b\\"c', 0.0), ("3", "ü", 7.0)]
    assert raw.counts == [("broken lines of BX-Book-Ratings.csv, passed over", 1)]


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


@pytest.mark.parametrize("files", [RAW, FINAL, RECBOLE], ids=["raw", "final", "recbole"])
@pytest.mark.parametrize("change", ["crlf", "bom", "blank lines", "no last newline"])
def test_line_ends_marks_and_blank_lines_do_not_matter(files, change, tmp_path):
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


@pytest.mark.parametrize(
    ("files", "name", "text", "message"),
    [
        (RAW, "kg.txt", "0\tr\t1\n\n0\tr\n", r"kg\.txt:3: found '0\\tr', expected 3 fields"),
        (RAW, "kg.txt", "0\tr\t1\t9\n", r"kg\.txt:1: found .* expected 3 fields \(head, relation"),
        (RAW, "kg.txt", "0\t\t1\n", r"kg\.txt:1: found '', expected a value for relation"),
        (RAW, "kg.txt", "", r"kg\.txt: found an empty file"),
        (RAW, "kg.txt", "\n \n", r"kg\.txt: found only blank lines"),
        (RAW, "user_artists.dat", "u\ti\tr\n", r"user_artists\.dat: found a header and no rows"),
        (RAW, "user_artists.dat", "u\ti\tr\n1\t2\tx\n", r"dat:2: found 'x', expected a number"),
        (RAW, "user_artists.dat", "u\ti\tr\n1\t2\tnan\n", r"dat:2: found 'nan', expected a number"),
        (FINAL, "ratings_final.txt", "0\t0\t2\n", r"txt:1: found '2', expected a label, 0 or 1"),
        (FINAL, "ratings_final.txt", "0\t07\t1\n", r"txt:1: found '07', expected an item number"),
        (RAW, "user_artists.dat", "1\t10\t3\n", r"dat:1: found .*, expected a header"),
        (FINAL, "ratings_final.txt", "0\tx\t1\n", r"txt:1: found 'x', expected an item number"),
        (RECBOLE, "ml.kg", "a\tb\tc\nm\tr\tn\n", r"ml\.kg:1: .*header with the field head_id"),
        (RECBOLE, "ml.kg", "head_id\ttail_id\trelation_id\tx\nm\tr\tn\n", r"ml\.kg:2: .*4 fields"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(files, name, text, message, tmp_path):
    write(tmp_path, files | {name: text})
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_the_line_of_a_wrong_encoding_is_named(tmp_path):
    (tmp_path / "x.txt").write_bytes("fine\nü\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.txt:2: .*expected UTF-8 text"):
        read_lines(tmp_path / "x.txt")


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="found no such file"):
        read_lines(tmp_path / "x.txt")


def test_a_short_index_is_an_error(tmp_path):
    write(tmp_path, FINAL | {"item_index2entity_id.txt": "isbn-a\t55\n"})
    with pytest.raises(DataError, match="found 1 items, expected at least 2"):
        read(tmp_path)


def test_an_unknown_folder_lists_what_is_there_and_what_is_expected(tmp_path):
    write(tmp_path, {"kg.txt": "0\tr\t1\n", "notes.md": "x"})
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert "found kg.txt, notes.md; expected the files of one format" in str(caught.value)
    for part in ("ratings_final.txt", "user_artists.dat or ratings.csv", "*.inter, *.kg, *.link"):
        assert part in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="found no such folder"):
        recognise(tmp_path / "nowhere")


def test_two_files_of_one_kind(tmp_path):
    write(tmp_path, RECBOLE | {"other.kg": RECBOLE["ml.kg"]})
    with pytest.raises(DataError, match=r"found ml\.kg, other\.kg, expected one file"):
        read(tmp_path)
