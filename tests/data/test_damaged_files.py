"""A damaged, empty or very long file never leads to a hang, or to an error that does not name it."""  # noqa: E501

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
import time
from pathlib import Path

import polars as pl
import pytest
from files import BOOK, CSV, FINAL, GIVEN, KGAT, MOVIELENS, RAW, RECBOLE, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kgrec.data.formats import FORMATS, recognise
from kgrec.data.prepare import prepare
from kgrec.data.raw_tables import RawTables
from kgrec.errors import ConfigError, DataError

# Few and always the same; to look deeper set KGREC_EXAMPLES=1000.
EXAMPLES = int(os.environ.get("KGREC_EXAMPLES", "15"))


repeatable = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="KGREC_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


numbers = st.integers(-(2**63), 2**63 - 1).map(str)


odd = st.sampled_from(
    ["0", "00", "007", "-1", "1.0", "1e5", "nan", "null", "None", "NA", '"', "a;b", "a b", "#1",
     "'", "true", "item:1", "ü", "日本", "user", "head", "\x1e", "\x00", "label", "org_id remap_id"]
)  # fmt: skip


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


cells = st.text(st.sampled_from('ab1 ,;"\r\n\tü\x1e'), max_size=5)


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
