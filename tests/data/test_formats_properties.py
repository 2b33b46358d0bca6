"""Properties of every reader and writer: written tables are read back, and two readers agree."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from kgrec.data import csv_files, field_files, text_files
from kgrec.data.convert import without
from kgrec.data.formats import FORMATS, recognise
from kgrec.data.raw_tables import TRIPLE, RawTables
from kgrec.data.text_files import SEPARATORS

# Few and always the same; to look deeper set KGREC_EXAMPLES=1000.
EXAMPLES = int(os.environ.get("KGREC_EXAMPLES", "15"))


repeatable = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="KGREC_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
)


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
    if kinds == "all":
        weights = draw(st.lists(st.floats(1e-9, 1e9), min_size=len(rows), max_size=len(rows)))
        interactions = interactions.with_columns(weight=pl.Series(weights, dtype=pl.Float64))
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
        top = text_files.first_line(path)[0] if header and any(map(str.strip, lines)) else 0
        fast = field_files._read_fast(path.read_bytes(), columns, "\t", 0, top)
        if fast is not None:
            read = text_files.read_lines(path).filter(pl.col("line") > top)
            careful = field_files._read_carefully(read, path, columns, "\t")
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
