"""Malformed files and folders are named, with file and line."""

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from files import CSV, FINAL, GIVEN, KGAT, RAW, RECBOLE, write

from kgrec.data.formats import recognise
from kgrec.data.text_files import read_lines
from kgrec.errors import DataError


def read(folder: Path, **columns: str):
    return recognise(folder).read(folder, columns)


def _parquet(folder: Path, **columns: object) -> Path:
    write(folder, {"triples.csv": CSV["triples.csv"]})
    frame = pl.DataFrame({"user": ["u", "v"], "item": ["e1", "e2"]} | columns)
    frame.write_parquet(folder / "interactions.parquet")
    return folder


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["u", None]}, r"interactions\.parquet: row 2: found '', expected a value"),
        ({"user": [1.0, 1.5]}, r"row 2: found 1\.5 as user, expected a whole number or a string"),
        ({"user": [1.0, float("nan")]}, r"row 2: found nan as user"),
        ({"user": [["u"], ["v"]]}, r"found the type List\(String\) in column user, expected whole"),
        ({"user": [True, False]}, r"found the type Boolean in column user, expected whole"),
        ({"rating": [1.0, None]}, r"row 2: found None, expected numbers \(rating\)"),
        ({"rating": [date(2020, 1, 1)] * 2}, r"found the type Date in column rating, expected num"),
        ({"rating": [[1.0], [2.0]]}, r"found the type List\(Float64\) in column rating"),
        ({"time": ["2020-01-01", "5"]}, r"row 2: found '5', expected a date as in other rows"),
        ({"time": ["01/02/2020", "5"]}, r"row 1: found '01/02/2020', expected numbers or dates"),
        ({"time": ["2020-01-01", "2020-02-30"]}, r"row 2: found '2020-02-30', expected numbers or"),
        ({"label": [["1"], ["0"]]}, r"found the type List\(String\) in column label, expected a l"),
        ({"label": [1, 2]}, r"row 2: found '2', expected a label, 0 or 1"),
        ({"split": ["train", "dev"]}, r"row 2: found 'dev', expected train, val or test"),
        ({"userId": ["u", "v"]}, r"found the columns user, userId, expected one for user; choose"),
    ],
)  # fmt: skip
def test_a_malformed_column_is_named(columns, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(_parquet(tmp_path, **columns))


def test_a_corrupt_parquet_file(tmp_path):
    path = _parquet(tmp_path) / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        DataError, match=r"interactions\.parquet: .*; expected a whole Parquet file"
    ):
        read(tmp_path)


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
        (RECBOLE, "ml.item", "x:token\nm\n", r"ml\.item:1: .*header with the field item_id"),
        (RECBOLE, "ml.inter", "user_id\titem_id\tlabel\nu\ti\t1\n\nu\tj\t2\n",
         r"ml\.inter:4: found '2', expected a label, 0 or 1"),
        (GIVEN, "ml.inter", RECBOLE["ml.inter"], r"found ml\.inter and ml\.train\.inter, exp"),
        (GIVEN, "ml.test.inter", RECBOLE["ml.inter"], r"test\.inter: found the fields .*, expec"),
        (KGAT, "train.txt", "0 1\n1 x\n", r"train\.txt:2: found 'x', expected numbers of a user"),
        (KGAT, "train.txt", "0 01\n", r"train\.txt:1: found '01', expected numbers of a user"),
        (KGAT, "train.txt", "0 4294967296\n", r"train\.txt:1: found '4294967296', expected num"),
        (KGAT, "kg_final.txt", "0 0 1\n0 1\n", r"kg_final\.txt:2: found '0 1', expected 3 numb"),
        (KGAT, "kg_final.txt", "0 0 -1\n", r"kg_final\.txt:1: found '0 0 -1', expected 3 numb"),
        (KGAT, "user_list.txt", "ann 0\n", r"user_list\.txt:1: found 'ann 0', expected a header"),
        (KGAT, "user_list.txt", "org_id remap_id x x\n", r"list\.txt:1: .*expected a header, org"),
        (KGAT, "user_list.txt", "org_id remap_id\n", r"list\.txt: found a header and no rows"),
        (KGAT, "user_list.txt", "org_id remap_id\nann\n", r"list\.txt:2: found 'ann', expected 2"),
        (KGAT, "user_list.txt", "org_id remap_id\na 0\nb 0\n", r"list\.txt:3: .* each remap_id o"),
        (KGAT, "user_list.txt", "org_id remap_id\na 0\na 1\n", r"list\.txt:3: .* each org_id once"),
        (CSV, "triples.csv", "h,r,t\na,b\n", r"triples\.csv:2: found 'a,b', expected 3 fields"),
        (CSV, "triples.csv", "h,r,t\na,b,c,d\n", r"triples\.csv:2: found 'a,b,c,d', expected 3"),
        (CSV, "triples.csv", 'h,r,t\na,"b\n\nb",c\n\n,,\n', r"triples\.csv:6: found .., expected"),
        (CSV, "triples.csv", 'h,r,t\na,b,"c\nd\n', r"triples\.csv:2: unexpected end of data; exp"),
        (CSV, "triples.csv", 'h,r,t\na,b,"c"c\n', r"triples\.csv:2: .*expected fields quoted who"),
        (CSV, "triples.csv", 'h,"r\n",t\na,b,c\n', r"triples\.csv:1: .*expected a header, quoted"),
        (CSV, "triples.csv", "head,relation,head\na,b,c\n", r"csv:1: .*expected each column once"),
        (CSV, "triples.csv", "h,r,t\n", r"triples\.csv: found a header and no rows"),
        (CSV, "interactions.csv", 'user,item,rating,note\n1,2,3,"a\nb"\n1,2,x,\n',
         r"interactions\.csv:4: found 'x', expected numbers \(rating\)"),
        (CSV, "interactions.csv", "user,rating\n1,2\n", r"csv: found the columns user, rating, ex"),
        (CSV, "train.csv", "user,item\n1,2\n", r"found interactions\.csv and train\.csv, exp"),
        (CSV, "kg.csv", "h,r,t\n1,2,3\n", r"found kg\.csv, triples\.csv, expected one of them"),
        (RECBOLE, "ml.kg", "head_id\ttail_id\trelation_id\tx\nm\tr\tn\n", r"ml\.kg:2: .*4 fields"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named(files, name, text, message, tmp_path):
    write(tmp_path, files | {name: text})
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_a_line_in_another_encoding_is_named(tmp_path):
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


def test_the_error_for_an_unknown_folder_lists_its_files_and_the_expected_ones(tmp_path):
    write(tmp_path, {"kg.txt": "0\tr\t1\n", "notes.md": "x"})
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert "found kg.txt, notes.md; expected the files of one format" in str(caught.value)
    for part in ("ratings_final.txt", "user_artists.dat or ratings.csv", "*.inter, *.kg, *.link"):
        assert part in str(caught.value)


def test_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="found no such folder"):
        recognise(tmp_path / "nowhere")


def test_two_files_of_one_kind_are_refused(tmp_path):
    write(tmp_path, RECBOLE | {"other.kg": RECBOLE["ml.kg"]})
    with pytest.raises(DataError, match=r"found ml\.kg, other\.kg, expected one file"):
        read(tmp_path)


def test_two_files_of_ratings_are_refused(tmp_path):
    files = RAW | {"ratings.csv": "userId,movieId,rating,timestamp\n1,10,3.5,1112486027\n"}
    with pytest.raises(DataError, match=r"found user_artists\.dat and ratings\.csv, expected"):
        recognise(write(tmp_path, files)).read(tmp_path)
