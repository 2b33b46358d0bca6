"""Properties of every reader and writer: written tables are read back, and a damaged file never
leads to a hang or to an error that does not name it.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from files import BOOK, CSV, FINAL, GIVEN, KGAT, MOVIELENS, RAW, RECBOLE, write
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kgrec.data import csv_files, text_files
from kgrec.data.convert import without
from kgrec.data.csv_files import SEPARATORS
from kgrec.data.formats import FORMATS, recognise
from kgrec.data.prepare import prepare
from kgrec.data.raw_tables import TRIPLE, RawTables
from kgrec.errors import ConfigError, DataError

# Few and always the same; to look deeper set KGREC_EXAMPLES=1000.
EXAMPLES = int(os.environ.get("KGREC_EXAMPLES", "15"))

repeatable = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="KGREC_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)

# ------------------------------------------------------------------ what is written is read back

numbers = st.integers(-(2**63), 2**63 - 1).map(str)
small = st.integers(0, 20).map(str)
words = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6
)
odd = st.sampled_from(
    ["0", "00", "007", "-1", "1.0", "1e5", "nan", "null", "None", "NA", '"', "a;b", "a b", "#1",
     "'", "true", "item:1", "ü", "日本", "user", "head", "\x1e", "\x00", "label", "org_id remap_id"]
)  # fmt: skip
hostile = st.sampled_from(["a,b", "a\tb", "a\nb", " a", "b ", "a\rb", "\ufeffx", '"a', "\u2028"])
tame_ids = st.one_of(small, small, numbers, odd)
all_ids = st.one_of(small, small, numbers, words, odd, hostile)
reals = st.one_of(
    st.integers(-5, 10).map(float), st.floats(-1e12, 1e12), st.floats(0.5, 5).map(lambda x: x)
)


def frame(rows: list[tuple], columns: dict) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=columns, orient="row")


@st.composite
def tables(draw) -> RawTables:
    # Few distinct ids, so that tables have to do with each other.
    ids = draw(st.sampled_from([tame_ids, tame_ids, all_ids]))
    users = draw(st.lists(ids, min_size=1, max_size=5, unique=True))
    items = draw(st.lists(ids, min_size=1, max_size=6, unique=True))
    entities = draw(st.lists(ids, min_size=1, max_size=8, unique=True))
    relations = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    kinds = draw(st.sampled_from(["plain", "rated", "timed", "split", "all"]))
    columns: dict = {"user": pl.String, "item": pl.String}
    values = [st.sampled_from(users), st.sampled_from(items)]
    if kinds in ("rated", "timed", "all"):
        columns["rating"] = pl.Float64
        values.append(reals)
    if kinds in ("timed", "all"):
        columns["timestamp"] = pl.Float64
        values.append(reals)
    rows = draw(st.lists(st.tuples(*values), min_size=1, max_size=12))
    interactions = frame(rows, columns)
    if kinds in ("split", "all"):
        parts = draw(st.lists(st.integers(0, 2), min_size=len(rows), max_size=len(rows)))
        interactions = interactions.with_columns(part=pl.Series(parts, dtype=pl.Int8))
    if draw(st.booleans()):
        pairs = list(zip(items, entities, strict=False))  # one to one
    else:
        pairs = draw(st.lists(st.tuples(st.sampled_from(items), st.sampled_from(entities)),
                              min_size=1, max_size=8))  # fmt: skip
    triple = st.tuples(*(st.sampled_from(x) for x in (entities, relations, entities)))
    triples = draw(st.lists(triple, min_size=1, max_size=10))
    negatives = names = None
    if draw(st.integers(0, 3)) == 0:
        drawn = draw(st.lists(st.tuples(*values[:2]), min_size=1, max_size=5))
        negatives = frame(drawn, {"user": pl.String, "item": pl.String})
    if draw(st.integers(0, 3)) == 0:
        names = frame([(item, draw(ids)) for item in items], {"item": pl.String, "name": pl.String})
    return RawTables(
        interactions,
        frame(pairs, {"item": pl.String, "entity": pl.String}),
        frame(triples, dict.fromkeys(TRIPLE, pl.String)),
        negatives,
        names,
    )


def fitted(raw: RawTables, name: str) -> RawTables:
    """The tables as far as possible in the form that a format asks for."""
    rows, links = raw.interactions, raw.links
    if name in ("kgat", "released_final"):
        links = links.unique("item", keep="first", maintain_order=True)
        links = links.unique("entity", keep="first", maintain_order=True)
        known = [links["item"][i % links.height] for i in range(rows.height)]
        rows = rows.with_columns(item=pl.Series(known, dtype=pl.String))
    if name == "released_final":
        links = links.with_columns(entity=pl.int_range(pl.len()).cast(pl.String))
    if name == "kgat":
        parts = pl.Series([0, 2] * rows.height, dtype=pl.Int8).head(rows.height + 1)
        rows = pl.concat([rows, rows.head(1)]).with_columns(part=parts)
    if name == "released_raw" and "rating" not in rows.columns:
        rows = rows.with_columns(rating=pl.lit(1.0))
    return replace(raw, interactions=rows, links=links)


def assert_same(found: RawTables, wanted: RawTables) -> None:
    for name in ("interactions", "links", "triples", "negatives", "item_names"):
        one, other = getattr(found, name), getattr(wanted, name)
        assert (one is None) == (other is None), name
        if one is not None:
            assert sorted(one.columns) == sorted(other.columns)
            columns = sorted(one.columns)
            assert_frame_equal(
                one.select(columns).sort(columns), other.select(columns).sort(columns)
            )


@pytest.mark.parametrize("name", FORMATS)
@given(raw=tables())
@repeatable
def test_what_is_written_is_read_back(name, raw):
    chosen = FORMATS[name]
    raw = without(fitted(raw, name), chosen)
    assume(not chosen.cannot_hold(raw))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "data"
        place.mkdir()
        chosen.write(place, raw, [raw.interactions])
        assert recognise(place).name in (name, "csv")
        assert_same(chosen.read(place), raw)


# ------------------------------------------------------------------ two readers, one answer

fields = st.text(st.sampled_from('0123456789.-+eEnaif x"\r\x1e;ü'), max_size=6)


@given(
    lines=st.lists(st.lists(fields, min_size=1, max_size=4).map("\t".join), max_size=8),
    ends=st.sampled_from(["\n", "\r\n"]),
    mark=st.booleans(),
    header=st.booleans(),
)
@repeatable
def test_the_fast_reader_of_text_agrees_with_the_careful_one(lines, ends, mark, header):
    columns = {"a": pl.String, "b": pl.Float64, "c": pl.String}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.txt"
        path.write_bytes((("\ufeff" if mark else "") + ends.join(lines)).encode())
        fast = text_files._read_fast(path, columns, "\t", header)
        if fast is not None:
            careful = text_files._read_carefully(path, columns, "\t", header)
            assert_frame_equal(fast, careful)


cells = st.text(st.sampled_from('ab1 ,;"\r\n\tü\x1e'), max_size=5)


@st.composite
def csv_texts(draw) -> tuple[str, str, list[list[str]]]:
    """A separator, a table quoted by the rules, and its cells."""
    width = draw(st.integers(2, 4))
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=6))
    separator = draw(st.sampled_from(SEPARATORS))
    end = draw(st.sampled_from(["\n", "\r\n"]))

    def quoted(cell: str) -> str:
        bare = not set(cell) & {'"', "\n", "\r", separator}
        doubled = cell.replace('"', '""')
        return cell if bare and draw(st.booleans()) else f'"{doubled}"'

    names = separator.join("abcd"[:width])
    text = [names, *(separator.join(map(quoted, row)) for row in rows)]
    return separator, end.join(text) + draw(st.sampled_from(["", end])), rows


@given(drawn=csv_texts(), mark=st.booleans())
@repeatable
def test_both_readers_of_tables_give_quoted_cells_back(drawn, mark):
    separator, text, rows = drawn
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_bytes((("\ufeff" if mark else "") + text).encode())
        names = list("abcd"[: len(rows[0])])
        for read in (csv_files._read_fast, csv_files._read_carefully):
            frame = read(path, separator, names, 1)
            if frame is not None:
                assert frame.fill_null("").rows() == [tuple(row) for row in rows]


@given(
    text=st.text(st.sampled_from('aab1,,""\n\n\r ;ü'), min_size=1, max_size=30),
    header=st.booleans(),
)
@repeatable
def test_the_fast_reader_of_tables_agrees_with_the_careful_one(text, header):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        path.write_bytes(("a,b\n" * header + text).encode())
        fast = csv_files._read_fast(path, ",", ["a", "b"], int(header))
        if fast is not None:
            careful = csv_files._read_carefully(path, ",", ["a", "b"], header)
            assert_frame_equal(fast.fill_null(""), careful.fill_null(""))


@given(text=st.text(st.sampled_from("a\n\r \x1e\x1c\u2028ü"), min_size=1, max_size=12),
       mark=st.booleans(), size=st.integers(1, 8))  # fmt: skip
@repeatable
def test_lines_are_split_at_line_feeds_alone(text, mark, size):
    """However large the blocks that a file is read in, and the first line is the first of them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.txt"
        path.write_bytes((("\ufeff" if mark else "") + text).encode())
        blank = pl.Series(text.split("\n")).str.strip_chars() == ""
        wanted = [
            (number, line.rstrip("\r"))
            for number, line in enumerate(text.split("\n"), start=1)
            if not blank[number - 1]
        ]
        frames = list(text_files._lines(path, "utf-8", size))
        assert [row for lines in frames for row in lines.rows()] == wanted
        if wanted:
            assert text_files.first_line(path) == wanted[0]


# ------------------------------------------------------------------ broken files

FOLDERS = {
    "raw": RAW, "final": FINAL, "recbole": RECBOLE, "given": GIVEN, "book": BOOK, "kgat": KGAT,
    "csv": CSV, "movielens": MOVIELENS,
}  # fmt: skip


def _truncate(data: bytes, luck: random.Random) -> bytes:
    return data[: luck.randrange(len(data) + 1)]


def _flip(data: bytes, luck: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(luck.randrange(1, 4)):
        if found:
            found[luck.randrange(len(found))] = luck.choice(b'\x00\x1e\r\n\t ",;0a\xff\xc3:')
    return bytes(found)


def _insert(data: bytes, luck: random.Random) -> bytes:
    bad = [b"\x00", b"\x1e", b"\r", b"\n", b"\t", b'"', b"\xff", b" ", b"\n\n", "ü".encode()]
    what = luck.choice([*bad, b"nan", b"inf", b"-1", b"1e400", b"9223372036854775808"])
    at = luck.randrange(len(data) + 1)
    return data[:at] + what + data[at:]


def _shuffle(data: bytes, luck: random.Random) -> bytes:
    lines = data.split(b"\n")
    luck.shuffle(lines)
    return b"\n".join(lines)


def _twice(data: bytes, _: random.Random) -> bytes:
    return data + data


def _drop_column(data: bytes, luck: random.Random) -> bytes:
    separator = luck.choice([b"\t", b",", b" ", b";"])
    return b"\n".join(line.rpartition(separator)[0] for line in data.split(b"\n"))


def _replace_number(data: bytes, luck: random.Random) -> bytes:
    digits = [i for i, byte in enumerate(data) if 48 <= byte < 58]
    if not digits:
        return data
    at = luck.choice(digits)
    new = luck.choice([b"nan", b"inf", b"", b"-1", b"9223372036854775808", b"1e400", b"x", b" "])
    return data[:at] + new + data[at + 1 :]


def _encode(data: bytes, luck: random.Random) -> bytes:
    text = data.decode("utf-8")
    return text.replace("a", "é").encode(luck.choice(["latin-1", "utf-16", "utf-8-sig", "cp1252"]),
                                         errors="replace")  # fmt: skip


def _repeat_a_line(data: bytes, luck: random.Random) -> bytes:
    lines = data.split(b"\n")
    return b"\n".join([*lines, luck.choice(lines)])


FAULTS = [_truncate, _flip, _insert, _shuffle, _twice, _drop_column, _replace_number, _encode,
          _repeat_a_line]  # fmt: skip


def well_formed(raw: RawTables) -> None:
    for table in (raw.interactions, raw.links, raw.triples, raw.negatives):
        if table is not None:
            assert table.null_count().sum_horizontal().item() == 0
            for column in table.columns:
                if table[column].dtype == pl.String:
                    assert not (table[column].str.strip_chars() == "").any()
                if table[column].dtype == pl.Float64:
                    assert table[column].is_finite().all()


@pytest.mark.parametrize("name", FOLDERS)
@given(seed=st.integers(0, 2**32 - 1))
@settings(repeatable, max_examples=3 * EXAMPLES)
def test_a_damaged_file_is_read_or_named(name, seed):
    luck = random.Random(seed)
    files = {file: text.encode() for file, text in FOLDERS[name].items()}
    file = luck.choice(sorted(files))
    for fault in luck.sample(FAULTS, luck.choice([1, 1, 2])):
        try:
            files[file] = fault(files[file], luck)
        except UnicodeDecodeError:
            continue
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for other, data in files.items():
            (place / other).write_bytes(data)
        try:
            raw = recognise(place).read(place)
        except (DataError, ConfigError) as error:
            assert folder in str(error)  # noqa: PT017
            return
        well_formed(raw)
        try:
            prepare(raw, "x", unlinked=luck.choice(["drop", "keep"]))
        except DataError as error:
            assert "x:" in str(error)  # noqa: PT017


@pytest.mark.slow  # every example is read on trial in a process of its own
# Any one of these may come out of a damaged Parquet file; none may kill the process.
@given(seed=st.integers(0, 2**32 - 1))
@settings(repeatable, max_examples=2 * EXAMPLES)
def test_a_damaged_parquet_file_is_read_or_named(seed):
    luck = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        place = write(Path(folder) / "csv", CSV)
        raw = recognise(place).read(place)
        place = Path(folder) / "parquet"
        place.mkdir()
        FORMATS["parquet"].write(place, raw, [raw.interactions])
        path = luck.choice(sorted(place.iterdir()))
        path.write_bytes(luck.choice([_truncate, _flip, _insert, _twice])(path.read_bytes(), luck))
        try:
            well_formed(recognise(place).read(place))
        except DataError as error:
            assert str(place) in str(error)  # noqa: PT017


@pytest.mark.parametrize("name", sorted(set(FOLDERS) - {"final"}))
def test_the_tables_do_not_depend_on_the_order_of_lines(name, tmp_path):
    """Below the header; the preprocessed form numbers items by their line."""
    place = write(tmp_path / "a", FOLDERS[name])
    other = tmp_path / "b"
    shutil.copytree(place, other)
    for path in other.iterdir():
        lines = path.read_text().splitlines(keepends=True)
        if name == "csv":  # quoted cells have line ends in them
            lines = re.findall(r'(?:[^"\n]|"[^"]*")*\n', path.read_text())
        head = 1 if path.suffix != ".txt" or "list" in path.name else 0
        path.write_text("".join(lines[:head] + lines[head:][::-1]))
    assert_same(recognise(other).read(other), recognise(place).read(place))


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\x00", b"PAR1", b"\xff\xfe"])
@pytest.mark.parametrize("name", FOLDERS)
def test_an_empty_file_is_named(name, content, tmp_path):
    for file in FOLDERS[name]:
        place = write(tmp_path / file, FOLDERS[name])
        (place / file).write_bytes(content)
        with pytest.raises(DataError, match=rf"{tmp_path}.*expected"):
            recognise(place).read(place)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_instead_of_a_file_is_named(name, tmp_path):
    for file in FOLDERS[name]:
        place = write(tmp_path / file, FOLDERS[name])
        (place / file).unlink()
        (place / file).mkdir()
        with pytest.raises(DataError, match=f"{file}: found a folder"):
            recognise(place).read(place)


N = 1_000_000
SECONDS = 6  # a slow machine's; here each takes less than 2
PAIRS = [f"{i % 1000}\t{i % 5003}" for i in range(N)]
LONG = {
    "fast": (RAW, "kg.txt", "", [pair.replace("\t", "\tr\t") for pair in PAIRS], "1\t2"),
    "careful": (RAW, "kg.txt", "\n", [pair.replace("\t", "\tr\t") for pair in PAIRS], "1\t2"),
    "ratings": (RAW, "user_artists.dat", "u\ti\tr\n", [f"{pair}\t1" for pair in PAIRS], "1\t2\tx"),
    "kgat": (KGAT, "kg_final.txt", "", [pair.replace("\t", " 0 ") for pair in PAIRS], "1 2"),
    "lists": (KGAT, "train.txt", "", [pair.replace("\t", " ") for pair in PAIRS], "1 x"),
    "csv": (CSV, "triples.csv", "h,r,t\n", [pair.replace("\t", ",r,") for pair in PAIRS], "1,2"),
    "quoted": (CSV, "triples.csv", "h,r,t\n",
               [pair.replace("\t", ',"r",') for pair in PAIRS], '1,"2'),
    "odd quotes": (CSV, "triples.csv", "h,r,t\n",
                   [pair.replace("\t", ',3" r,') for pair in PAIRS], "1,2"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_a_million_short_lines(name, tmp_path):
    files, file, header, lines, broken = LONG[name]
    write(tmp_path, files | {file: header + "\n".join(lines)})
    started = time.process_time()  # of this process alone
    raw = recognise(tmp_path).read(tmp_path)
    assert time.process_time() - started < SECONDS
    assert max(raw.triples.height, raw.interactions.height) in (N, N + 2)  # KGAT's test rows
    write(tmp_path, {file: header + "\n".join([*lines, broken])})
    line = header.count("\n") + N + 1
    started = time.process_time()
    with pytest.raises(DataError, match=rf"{file}:{line}: "):
        recognise(tmp_path).read(tmp_path)
    assert time.process_time() - started < SECONDS
