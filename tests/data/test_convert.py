"""Conversions: between every two formats that can hold the data; losses are refused or counted."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from conftest import raw_tables
from polars.testing import assert_frame_equal

from kgrec.data import convert as module
from kgrec.data.convert import convert, reduced
from kgrec.data.formats import FORMATS, recognise
from kgrec.data.prepare import prepare
from kgrec.data.raw_tables import RawTables
from kgrec.errors import DataError


def tables(**more: object) -> RawTables:
    """Two users, two items, one to one with entities; ids that are easily taken for others."""
    raw = raw_tables(
        [("u 1", "007", 4.0), ("2", "007", 2.5), ("2", "b", 1.0)],
        [("007", "m.1"), ("b", "m.2")],
        [("m.1", "film.film.genre", "m.9"), ("m.2", "film.film.genre", "m.9"), ("m.1", "x", "m.2")],
    )
    return replace(raw, **more)


def with_columns(raw: RawTables, **columns: list) -> RawTables:
    made = [pl.Series(name, values) for name, values in columns.items()]
    return replace(raw, interactions=raw.interactions.with_columns(made))


def plain() -> RawTables:
    raw = tables()
    return replace(raw, interactions=raw.interactions.drop("rating"))


def split(*parts: int) -> RawTables:
    return with_columns(plain(), part=pl.Series(parts, dtype=pl.Int8))


def numbered() -> RawTables:
    """As the preprocessing numbers them."""
    return raw_tables(
        [("1", "isbn-a", 1.0), ("2", "isbn-b", 1.0)], [("isbn-a", "0"), ("isbn-b", "1")],
        [("0", "r", "2"), ("1", "r", "2")],
    )  # fmt: skip


NEGATIVES = pl.DataFrame({"user": ["u 1"], "item": ["b"]})
NAMES = pl.DataFrame({"item": ["007", "b"], "name": ["Heat, The", 'A "b"']})
TEXTS = pl.Series(['Long, with a "quote"', None])

# Tables, and the formats that hold them whole.
CASES: dict[str, tuple[RawTables, set[str]]] = {
    "pairs": (plain(), {"recbole", "csv", "parquet"}),
    "ratings": (tables(), {"released_raw", "recbole", "csv", "parquet"}),
    "times": (
        with_columns(tables(), timestamp=[1.0, 2.5, 881250949.0]),
        {"released_raw", "recbole", "csv", "parquet"},
    ),
    "weights": (with_columns(plain(), weight=[1.0, 2.5, 7.0]), {"csv", "parquet"}),
    "weights and negatives": (
        with_columns(replace(plain(), negatives=NEGATIVES), weight=[1.0, 2.0, 7.0]),
        {"csv", "parquet"},
    ),
    "names": (tables(item_names=NAMES), {"released_raw", "recbole", "csv", "parquet"}),
    "texts": (tables(item_names=NAMES.with_columns(text=TEXTS)), {"csv", "parquet"}),
    "negatives": (replace(plain(), negatives=NEGATIVES), {"recbole", "csv", "parquet"}),
    "negatives and ratings": (tables(negatives=NEGATIVES), {"recbole", "csv", "parquet"}),
    "train and test": (split(0, 2, 0), {"recbole", "kgat", "csv", "parquet"}),
    "train, val and test": (split(0, 1, 2), {"recbole", "csv", "parquet"}),
    "numbers": (
        replace(numbered(), interactions=numbered().interactions.drop("rating")),
        {"released_final", "recbole", "csv", "parquet"},
    ),
}


def assert_same(one: RawTables, other: RawTables) -> None:
    for name in ("interactions", "links", "triples", "negatives", "item_names"):
        a, b = getattr(one, name), getattr(other, name)
        if a is None or b is None:  # none and an empty table say the same
            assert all(table is None or table.is_empty() for table in (a, b)), name
        else:
            columns = sorted(a.columns)
            assert_frame_equal(
                a.select(columns).sort(columns), b.select(sorted(b.columns)).sort(columns)
            )


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_can_hold_is_read_back(name, case, tmp_path):
    raw, holders = CASES[case]
    if name not in holders:
        with pytest.raises(DataError, match=f"--to {name}: these files cannot hold\n"):
            convert(raw, tmp_path / "new", name)
        assert list(tmp_path.iterdir()) == []
        return
    assert convert(raw, tmp_path / "new", name) == []
    assert_same(recognise(tmp_path / "new").read(tmp_path / "new"), raw)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


# Each case goes through 36 pairs of formats; the first two stand for the others while working.
@pytest.mark.parametrize(
    "case",
    [*list(CASES)[:2], *(pytest.param(c, marks=pytest.mark.slow) for c in list(CASES)[2:])],
)
def test_through_every_two_formats_and_back(case, tmp_path):
    raw, holders = CASES[case]
    for first in sorted(holders):
        convert(raw, tmp_path / first, first)
        read = recognise(tmp_path / first).read(tmp_path / first)
        for second in sorted(holders - {first}):
            place = tmp_path / f"{first}-{second}"
            assert convert(read, place, second) == []
            assert_same(recognise(place).read(place), raw)


EVERYTHING = replace(
    with_columns(tables(), timestamp=[1.0, 2.0, 3.0], weight=[1.0, 2.0, 0.5]),
    negatives=pl.DataFrame({"user": ["2", "2"], "item": ["b", "loose"]}),
    item_names=NAMES,
)


@pytest.mark.parametrize(
    ("raw", "name", "notes"),
    [
        (plain(), "released_raw", ["3 rows without a rating, given 1"]),
        (split(0, 1, 2), "kgat", ["1 validation rows, now training rows"]),
        (split(0, 1, 2), "released_raw",
         ["3 rows without a rating, given 1",
          "3 rows with a given part (train, val or test), left out"]),
        (EVERYTHING, "released_final",
         ["3 names of entities, replaced by numbers",
          "0 interactions and 1 negatives of items without an entity, left out",
          "2 names of items, left out", "3 weights, left out", "3 timestamps, left out",
          "3 ratings, left out"]),
        (EVERYTHING, "released_raw", ["2 negatives, left out", "3 weights, left out"]),
         (tables(item_names=NAMES.with_columns(text=TEXTS)), "recbole", ["1 texts, left out"]),
        (split(0, 0, 1), "recbole", ["3 rows with a given part (train, val or test), left out"]),
    ],
    ids=["ratings of one", "validation trains", "no parts", "most of it", "no negatives",
         "no texts", "no test part"],
)  # fmt: skip
def test_as_little_as_possible_is_left_out_and_it_is_counted(raw, name, notes, tmp_path):
    with pytest.raises(DataError, match="or --lossy to leave out what can be left out"):
        convert(raw, tmp_path / "new", name)
    assert convert(raw, tmp_path / "new", name, lossy=True) == notes
    assert FORMATS[name].cannot_hold(reduced(raw, FORMATS[name])[0]) == []


@pytest.mark.parametrize("name", ["released_final", "kgat"])
def test_entities_of_several_items_keep_the_triples_of_each_item(name, tmp_path):
    links = pl.DataFrame({"item": ["007", "b", "007"], "entity": ["m.1", "m.1", "m.9"]})
    raw = replace(split(0, 2, 0) if name == "kgat" else plain(), links=links)
    (note,) = convert(raw, tmp_path / "new", name, lossy=True)
    assert note.startswith("1 further links of items")
    assert "1 entities of several items (copied for each)" in note
    read = recognise(tmp_path / "new").read(tmp_path / "new")
    before, after = prepare(raw, "x").graph, prepare(read, "x").graph
    assert before.num_entities == after.num_entities

    def triples(graph) -> set[tuple[int, int, int]]:
        return set(
            zip(graph.heads.tolist(), graph.relations.tolist(), graph.tails.tolist(), strict=True)
        )

    assert triples(before) == triples(after)


@pytest.mark.parametrize(
    ("raw", "name", "message"),
    [
        (plain(), "kgat", "that there is no given split"),
        (split(0, 0, 1), "kgat", "given splits other than train and test"),
        (split(0, 2, 0), "released_raw", None),
        (tables(links=pl.DataFrame({"item": ["a\tb"], "entity": ["e"]})), "recbole",
         r"item 'a\\tb' \(separators"),
        (tables(links=pl.DataFrame({"item": ["z"], "entity": ["m.1"]})), "released_final",
         "cannot hold 3 interactions of items without an entity, which cannot be left out"),
    ],
    ids=["no split", "no test part", "what can be", "separators", "nothing left"],
)  # fmt: skip
def test_what_cannot_be_left_out_is_refused_with_lossy_too(raw, name, message, tmp_path):
    if message is None:
        convert(raw, tmp_path / "new", name, lossy=True)
        return
    with pytest.raises(DataError, match=message):
        convert(raw, tmp_path / "new", name, lossy=True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_table_is_no_loss(tmp_path):
    raw = tables(negatives=NEGATIVES.clear(), item_names=NAMES.clear())
    assert convert(raw, tmp_path / "new", "released_raw") == []


def test_ids_with_blanks_in_files_separated_by_blanks(tmp_path):
    raw = replace(
        split(0, 2, 0),
        links=pl.DataFrame({"item": ["007", "b"], "entity": ["an entity", "m.2"]}),
        triples=pl.DataFrame(
            {"head": ["an entity", "m.2"], "relation": ["a relation", "r"], "tail": ["m.2", "t t"]}
        ),
    )
    with pytest.raises(DataError, match="entity 'an entity'"):
        convert(raw, tmp_path / "new", "kgat")
    raw = replace(raw, links=pl.DataFrame({"item": ["007", "b"], "entity": ["e", "m.2"]}))
    assert convert(raw, tmp_path / "new", "kgat") == []


def test_the_target_must_be_new_or_empty(tmp_path):
    (tmp_path / "empty").mkdir()
    convert(tables(), tmp_path / "empty", "csv")
    for taken in ("empty", "file"):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(DataError, match="expected a new or an empty folder"):
            convert(tables(), tmp_path / taken, "csv")
    assert (tmp_path / "file").read_text() == "mine"
    convert(tables(), tmp_path / "a" / "b", "csv")
    with pytest.raises(DataError, match="--to: found 'xls', expected one of released_final"):
        convert(tables(), tmp_path / "new", "xls")


def test_files_are_named_after_the_folder(tmp_path):
    convert(tables(), tmp_path / "mine", "recbole")
    found = sorted(path.name for path in (tmp_path / "mine").iterdir())
    assert found == ["mine.inter", "mine.kg", "mine.link"]


@pytest.mark.parametrize("fault", ["write fails", "a row is lost", "a value is another"])
def test_a_failed_conversion_leaves_no_files(fault, tmp_path, monkeypatch):
    def write(folder: Path, raw: RawTables, pieces) -> None:
        if fault == "write fails":
            (folder / "half.inter").write_text("half")
            raise OSError(28, "No space left on device")
        rows = raw.interactions
        rows = rows[1:] if fault == "a row is lost" else rows.with_columns(item=pl.lit("b"))
        FORMATS["recbole"].write(folder, raw, [rows])

    faulty = {**FORMATS, "recbole": replace(FORMATS["recbole"], write=write)}
    # The module's own; its readers stay as they are.
    monkeypatch.setattr(module, "FORMATS", faulty)
    expected = OSError if fault == "write fails" else RuntimeError
    with pytest.raises(expected, match=r"No space left|wrote 3 interactions, read [23]"):
        convert(tables(), tmp_path / "new", "recbole")
    assert list(tmp_path.iterdir()) == []
