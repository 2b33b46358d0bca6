"""Data that are prepared piece by piece, on the disk, are the same as in one piece."""

from __future__ import annotations

import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from kgrec.data import field_files, prepared_files, rows, spill, user_ranges
from kgrec.data.formats import FORMATS
from kgrec.data.prepare import prepare
from kgrec.data.raw_tables import RawTables
from kgrec.data.rows import Rows
from kgrec.data.spill import Spill, release
from kgrec.errors import DataError, DiskError

LINKS = {"item": ["a", "b", "c", "d"], "entity": ["A", "B", "C", "D"]}
TRIPLES = {"head": ["A", "B"], "relation": ["r", "r"], "tail": ["x", "C"]}


@st.composite
def tables(draw) -> RawTables:
    """Few users and items, so that pairs repeat; item z has no entity."""
    size = draw(st.integers(1, 30))

    def column(values: st.SearchStrategy) -> list:
        return draw(st.lists(values, min_size=size, max_size=size))

    columns = {
        "user": pl.Series(column(st.sampled_from(["u", "ü", "1", "01", "x y"]))),
        "item": pl.Series(column(st.sampled_from(["a", "b", "c", "d", "z"]))),
    }
    for name, values in (
        ("rating", st.sampled_from([1.0, 3.5, 4.0, 5.0])),
        ("timestamp", st.integers(-3, 3).map(float)),
        ("weight", st.floats(1e-6, 1e6)),
    ):
        if draw(st.booleans()):
            columns[name] = pl.Series(column(values), dtype=pl.Float64)
    if draw(st.booleans()):
        columns["part"] = pl.Series(column(st.integers(0, 2)), dtype=pl.Int8)
    return RawTables(pl.DataFrame(columns), pl.DataFrame(LINKS), pl.DataFrame(TRIPLES))


def outcome(raw: RawTables, **kinds: object) -> object:
    """All that is prepared, or the message of the error."""
    try:
        data = prepare(raw, "test", **kinds)
    except DataError as error:
        return str(error)
    tensors = {name: x.tolist() for name, x in prepared_files._tensors(data).items()}
    return tensors, data.ids.users.rows(), data.ids.items.rows(), data.account.as_list()


@given(
    raw=tables(),
    piece=st.integers(1, 7),
    length=st.integers(1, 7),
    kinds=st.fixed_dictionaries({
        "min_rating": st.sampled_from([None, 4.0, 9.0]),
        "weights": st.sampled_from(["ignore", "use", "repeats"]),
        "unlinked": st.sampled_from(["drop", "keep"]),
        "pool_splits": st.booleans(),
    }),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_small_pieces_give_the_same_data_as_one(raw, piece, length, kinds):
    whole = outcome(raw, **kinds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "PIECE", piece)
        patch.setattr(user_ranges, "RANGE", length)
        patch.setattr(spill, "IN_MEMORY", 1)  # everything on disk
        assert outcome(raw, **kinds) == whole


def test_the_pairs_are_those_of_a_plain_computation(monkeypatch):
    monkeypatch.setattr(rows, "PIECE", 2)
    monkeypatch.setattr(user_ranges, "RANGE", 3)
    monkeypatch.setattr(spill, "IN_MEMORY", 1)
    interactions = pl.DataFrame(
        [
            ("v", "b", 2.0, 9.0), ("u", "c", 4.0, 8.0), ("v", "a", 5.0, 7.0), ("u", "c", 5.0, 3.0),
            ("w", "z", 5.0, 1.0), ("u", "a", 1.0, 0.0), ("v", "a", 4.0, 9.0), ("x", "d", 1.0, 2.0),
        ],
        schema=["user", "item", "rating", "timestamp"], orient="row",
    )  # fmt: skip
    raw = RawTables(interactions, pl.DataFrame(LINKS), pl.DataFrame(TRIPLES))
    data = prepare(raw, "test", min_rating=4.0)
    assert data.ids.users["user"].to_list() == ["u", "v"]  # by their first positive
    assert (data.positives.users.tolist(), data.positives.items.tolist()) == ([0, 1], [2, 0])
    assert data.times.tolist() == [3.0, 7.0]
    assert (data.rated.users.tolist(), data.rated.items.tolist()) == ([0, 0, 1, 1], [0, 2, 0, 1])


@pytest.mark.parametrize("size", [1, 40, 10_000])
def test_blocks_of_a_file_have_the_lines_of_the_whole(size, tmp_path, monkeypatch):
    """Blank lines, carriage returns, a mark and blanks around ids, in every block."""
    monkeypatch.setattr(field_files, "BLOCK", size)
    text = "\ufeff\n\nuser,item,rating\n" + "".join(
        f"{' ' * (i % 3)}u{i},x^{i % 7},{i % 5}{chr(13) if i % 4 == 0 else ''}\n{chr(10) * (i % 2)}"
        for i in range(60)
    )
    path = tmp_path / "x.csv"
    path.write_text(text, encoding="utf-8", newline="")
    columns = {"user": pl.String, "item": pl.String, "rating": pl.Float64}
    counts = []
    frame = field_files.read_fields(path, columns, counts, ",", header=True)
    assert frame.rows() == [(f"u{i}", f"x^{i % 7}", float(i % 5)) for i in range(60)]
    assert counts == [("ids (user) of x.csv with blanks around them, stripped", 40)]
    path.write_text(text + "u,i,1\nu,i\n", encoding="utf-8", newline="")
    number = len((text + "u,i,1\n").split("\n"))
    with pytest.raises(DataError, match=rf"x\.csv:{number}: found 'u,i', expected 3 fields"):
        field_files.read_fields(path, columns, [], ",", header=True)


def test_a_block_that_looks_packed_is_text(tmp_path, monkeypatch):
    """Polars takes content that begins with x^ for zlib, and a mark for the start of a file."""
    monkeypatch.setattr(field_files, "BLOCK", 1)
    (tmp_path / "x.txt").write_text("a\tb\nx^1\tc\n\ufeffd\te\n", encoding="utf-8")
    frame = field_files.read_fields(tmp_path / "x.txt", {"a": pl.String, "b": pl.String}, [])
    assert frame.rows() == [("a", "b"), ("x^1", "c"), ("\ufeffd", "e")]


def test_a_reader_puts_rows_into_the_given_place(tmp_path):
    raw = RawTables(
        pl.DataFrame({"user": ["u", "v", "u"], "item": ["b", "a", "a"], "rating": [1.0, 5.0, 4.0]}),
        pl.DataFrame(LINKS), pl.DataFrame(TRIPLES),
    )  # fmt: skip
    chosen = FORMATS["released_raw"]
    chosen.write(tmp_path, raw, [raw.interactions])
    read = chosen.read(tmp_path, rows=Rows(tmp_path))
    assert read.interactions.is_empty()
    assert outcome(read, min_rating=4.0) == outcome(raw, min_rating=4.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["item_index2entity_id.txt", "kg.txt", "user_artists.dat"]
    )


def test_numbers_on_disk_outlive_their_file_and_their_pages(monkeypatch):
    monkeypatch.setattr(spill, "IN_MEMORY", 1)
    numbers = Spill("i8", None)
    numbers.append(torch.arange(1000).numpy())
    numbers.write(500, torch.zeros(3).numpy())
    tensor = numbers.tensor()
    del numbers
    wanted = torch.arange(1000)
    wanted[500:503] = 0
    for _ in range(2):
        assert torch.equal(tensor, wanted)
        release(tensor)
    release(torch.arange(3))  # not mapped: kept


def test_a_file_of_tensors_is_that_of_safetensors(tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_files, "_PIECE", 3)
    tensors = {
        "times": torch.arange(7, dtype=torch.float64),
        "b": torch.arange(4),
        "a.users": torch.arange(10),
        "none": torch.empty(0, dtype=torch.int64),
    }
    prepared_files._write(tensors, tmp_path / "own")
    save_file(tensors, tmp_path / "theirs")
    assert (tmp_path / "own").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_disk_that_takes_no_numbers_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(spill, "IN_MEMORY", 1)
    numbers = Spill("i8", tmp_path / "missing")
    with pytest.raises(DiskError, match=rf"{tmp_path}.*missing"):
        numbers.append(torch.arange(1000).numpy())
