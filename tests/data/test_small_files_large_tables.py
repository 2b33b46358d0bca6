"""Small files that stand for large tables: refused by name before the memory is taken."""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
import time
import zlib
from pathlib import Path

import polars as pl
import pytest
from files import CSV, FINAL, RECBOLE, write

from kgrec.data import parquet_files
from kgrec.data.build.columns import UserTable
from kgrec.data.build.guess import guess_plan
from kgrec.data.build.titles import link_by_title
from kgrec.data.dataset import IdMaps
from kgrec.data.formats import recognise
from kgrec.data.inverses import inverse_pairs
from kgrec.data.json_lines import read_json_lines
from kgrec.data.parquet_files import read_parquet
from kgrec.data.prepare import prepare
from kgrec.errors import DataError, KgrecError, listed, one_of, printable, similar
from kgrec.runs.folder import CURVES, RunFolder

CASES = Path(__file__).parent.parent / "cases"
ABORTS = CASES / "20-parquet-wants-2e18-bytes" / "data" / "links.parquet"


def refused(folder: Path) -> str:
    """The error for a folder, after little time and memory."""
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError) as caught:
        prepare(recognise(folder).read(folder), "x", place=str(folder))
    assert time.process_time() - started < 5
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert used < 500 << 20
    message = str(caught.value)
    assert len(message) < 600
    assert "\n" not in message
    return message


# ------------------------------------------------------------------ Parquet


def test_a_file_that_aborts_polars_is_an_error_of_every_reader():
    for read in (read_parquet, UserTable):
        with pytest.raises(DataError, match=r"links\.parquet: memory allocation of 2305843009213"):
            read(ABORTS)


def test_a_process_that_was_aborted_is_followed_by_another(tmp_path):
    path = tmp_path / "x.parquet"
    for number in range(2):
        frame = pl.DataFrame({"n": [number]})
        frame.write_parquet(path)
        assert read_parquet(path).equals(frame)
        with pytest.raises(DataError, match="memory allocation"):
            read_parquet(ABORTS)


def test_one_process_reads_all_files_and_each_file_once(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.parquet" for number in range(3)]
    for path in paths:
        pl.DataFrame({"n": [1]}).write_parquet(path)
        read_parquet(path)
    trials = parquet_files._TRIALS
    process = trials.process
    requests = []
    answer = trials._answer
    monkeypatch.setattr(trials, "_answer", lambda r: requests.append(r["path"]) or answer(r))
    for path in paths:
        read_parquet(path)
    assert requests == []
    pl.DataFrame({"n": [1, 2]}).write_parquet(paths[1])
    assert read_parquet(paths[1]).height == 2
    assert requests == [str(paths[1])]
    assert trials.process is process


def test_a_folder_cannot_replace_polars(tmp_path, monkeypatch):
    (tmp_path / "polars.py").write_text("raise SystemExit('run')")
    pl.DataFrame({"n": [1]}).write_parquet(tmp_path / "x.parquet")
    monkeypatch.chdir(tmp_path)
    parquet_files._TRIALS.close()
    assert read_parquet(Path("x.parquet")).height == 1


def test_many_equal_rows_in_a_small_file_are_refused(tmp_path):
    write(tmp_path, {"triples.csv": CSV["triples.csv"]})
    rows = 10_000_000
    same = pl.select(user=pl.repeat("u", rows), item=pl.repeat("i", rows))
    same.write_parquet(tmp_path / "interactions.parquet")
    del same
    assert (tmp_path / "interactions.parquet").stat().st_size < 100_000
    message = refused(tmp_path)
    assert "interactions.parquet: found 10,000,000 rows in" in message
    assert "which take at least 320,000,000 bytes of memory" in message


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_a_long_text_in_every_row_is_refused(tmp_path):
    texts = pl.select(text=pl.lit("x" * 1000).repeat_by(1).explode()).select(
        pl.concat_str(pl.repeat("x" * 8000, 300_000), pl.int_range(300_000).cast(pl.String))
        .alias("text")
    )  # fmt: skip
    texts.write_parquet(tmp_path / "x.parquet", compression="zstd")
    size = texts.estimated_size()
    del texts
    path = tmp_path / "x.parquet"
    assert size > 2 * (parquet_files.MULTIPLE * path.stat().st_size + parquet_files.ALWAYS)
    with pytest.raises(DataError, match=r"x\.parquet: memory allocation of [0-9]+ bytes failed"):
        read_parquet(path)


def test_memory_that_is_not_free_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_files, "free_memory", lambda: 1000)
    pl.DataFrame({"n": range(1000)}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"found 1,000 rows .* that takes at most 500 bytes"):
        read_parquet(tmp_path / "x.parquet")


@pytest.mark.slow
def test_very_many_columns_of_a_parquet_file_are_refused(tmp_path):
    pl.DataFrame({f"c{i}": [1] for i in range(50_001)}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match="50,001 columns, more than 50,000"):
        read_parquet(tmp_path / "x.parquet")


IMPOSSIBLE = {
    "a date": pl.Series([1, 2**30], dtype=pl.Int32).cast(pl.Date),
    "milliseconds": pl.Series([1, 2**62]).cast(pl.Datetime("ms")),
    "microseconds": pl.Series([1, -(2**62)]).cast(pl.Datetime("us", "UTC")),
    "a list": pl.Series([[1], [2**62]]).cast(pl.List(pl.Datetime("ms"))),
    "a struct": pl.DataFrame({"a": pl.Series([1, 2**62]).cast(pl.Datetime("ms"))}).to_struct("s"),
}


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("file", ["interactions", "triples", "users"])
def test_an_impossible_date_anywhere_is_an_error_with_the_column(file, kind, tmp_path, capfd):
    folder = recognised = tmp_path
    write(folder, {name: text for name, text in CSV.items() if not name.startswith(file)})
    columns = {"interactions": ("user", "item"), "users": ("user",),
               "triples": ("head", "relation", "tail")}[file]  # fmt: skip
    frame = pl.DataFrame({name: ["e1", "e2"] for name in columns} | {"born": IMPOSSIBLE[kind]})
    frame.write_parquet(folder / f"{file}.parquet")
    with pytest.raises(DataError, match=rf"{file}\.parquet:.* in column (born|a), expected one of"):
        recognise(recognised).read(recognised)
    assert "panicked" not in capfd.readouterr().err


def test_a_damaged_table_of_ids_is_named(tmp_path):
    for name in ("users", "items", "entities", "relations"):
        (tmp_path / f"{name}.parquet").write_bytes(ABORTS.read_bytes())
    with pytest.raises(DataError, match=r"users\.parquet: memory allocation"):
        IdMaps.load(tmp_path)


# ------------------------------------------------------------------ text


def wide(columns: int, separator: str, *first: str) -> str:
    header = [*first, *(f"column{i}" for i in range(columns - len(first)))]
    return separator.join(header) + "\n" + separator.join("1" for _ in header) + "\n"


@pytest.mark.parametrize(
    ("files", "name", "separator", "first", "message"),
    [
        (CSV, "interactions.csv", ",", [], "interactions.csv: found the columns column0, column1"),
        pytest.param(CSV, "triples.csv", "\t", [], "triples.csv: found the columns column0",
                     marks=pytest.mark.slow),
        (RECBOLE, "ml.inter", "\t", [], "ml.inter:1: found"),
        pytest.param(CSV, "interactions.csv", ",", ["user", "item", "user"],
                     "each column once, but 'user'", marks=pytest.mark.slow),
    ],
    ids=["csv", "triples", "recbole", "twice"],
)  # fmt: skip
def test_forty_thousand_columns_are_refused_in_a_short_message(
    files, name, separator, first, message, tmp_path
):
    write(tmp_path, files | {name: wide(40_000, separator, *first)})
    assert message in refused(tmp_path)


@pytest.mark.parametrize(
    ("files", "name", "separator", "first"),
    [
        (CSV, "interactions.csv", ",", ["user", "item"]),
        pytest.param(CSV, "links.csv", "|", ["item", "entity"], marks=pytest.mark.slow),
        (RECBOLE, "ml.inter", "\t", ["user_id", "item_id"]),
    ],
    ids=["csv", "links", "recbole"],
)
def test_a_million_columns_are_refused(files, name, separator, first, tmp_path):
    write(tmp_path, files | {name: wide(1_000_000, separator, *first)})
    message = refused(tmp_path)
    assert f"{name}:1: found" in message
    assert "expected a header of at most 50,000 columns, not 1,000,000" in message


def test_short_rows_below_a_wide_header_are_not_filled(tmp_path):
    header = ",".join(["user", "item", *(f"column{i}" for i in range(20_000))])
    write(tmp_path, CSV | {"interactions.csv": f"{header}\n" + "a\n" * 100_000})
    assert "interactions.csv:2: found 'a', expected 20002 fields (user, item" in refused(tmp_path)


@pytest.mark.parametrize("kind", ["gzip", "zlib"])
def test_no_reader_unpacks_a_file(kind, tmp_path):
    pack = {"gzip": gzip.compress, "zlib": zlib.compress}[kind]
    packed = pack(b"0\tr\t1\n" * 1_000_000)
    for files, name in ((FINAL, "kg_final.txt"), (CSV, "triples.csv"), (RECBOLE, "ml.kg")):
        folder = write(tmp_path / name, files)
        (folder / name).write_bytes(packed)
        message = refused(folder)
        assert f"{name}" in message
        assert "gzip file" in message or kind == "zlib"


def test_a_guess_leaves_out_a_table_with_very_many_columns(tmp_path):
    orders = "user,item\n" + "".join(f"u{i % 7},p{i % 11}\n" for i in range(100))
    write(tmp_path, {"orders.csv": orders, "products.csv": wide(5_000, ",", "item")})
    plan = guess_plan([tmp_path], tmp_path)
    assert "products.csv: found 5,000 columns, expected at most 1,000; write build.yaml" in plan
    assert len(plan) < 2_000


@pytest.mark.parametrize("kind", ["packed", "short rows", "a pipe"])
def test_curves_of_a_strangers_run_take_little_memory(kind, tmp_path):
    path = tmp_path / "curves" / "version_0" / "metrics.csv"
    path.parent.mkdir(parents=True)
    if kind == "packed":
        path.write_bytes(zlib.compress(b"epoch,a\n" + b"1,2\n" * 1_000_000))
    elif kind == "short rows":
        path.write_text(",".join(["epoch", *map(str, range(20_000))]) + "\n" + "1\n" * 50_000)
    else:
        os.mkfifo(path)
    assert list(tmp_path.glob(CURVES)) == [path]
    assert RunFolder(tmp_path).curves().is_empty()


# ------------------------------------------------------------------ numbers and products


@pytest.mark.parametrize("number", [200_000, 20_000_000, 2**31 - 1])
def test_item_numbers_with_a_wide_gap_are_refused(number, tmp_path):
    ratings = FINAL["ratings_final.txt"] + f"1\t{number}\t1\n"
    message = refused(write(tmp_path, FINAL | {"ratings_final.txt": ratings}))
    assert f"ratings_final.txt:4: found '{number}', expected item numbers without wide" in message


def test_item_numbers_that_the_graph_has_are_no_gap(tmp_path):
    rows = "".join(f"{i}\tr\t{i + 1}\n" for i in range(30_000))
    files = {"ratings_final.txt": "0\t150000\t1\n", "kg_final.txt": f"{rows}150000\tr\t0\n"}
    raw = recognise(write(tmp_path, files)).read(tmp_path)
    assert raw.links.height == 150_001


def test_tokens_in_several_columns_are_bounded(tmp_path):
    header = "head_id:token_seq\trelation_id:token_seq\ttail_id:token_seq\n"
    tokens = " ".join(map(str, range(1000)))
    write(tmp_path, RECBOLE | {"ml.kg": f"{header}{tokens}\t{tokens}\t{tokens}\n"})
    message = refused(tmp_path)
    assert "ml.kg: found 3,000 tokens that make 1,000,000,000 triples, because head, rel" in message


def test_links_of_many_items_to_one_entity_are_bounded(tmp_path):
    files = {
        "interactions.csv": "user,item\n" + "".join(f"u,{i}\n" for i in range(5000)),
        "links.csv": "item,entity\n" + "".join(f"{i},e\n" for i in range(5000)),
        "triples.csv": "head,relation,tail\ne,r,e\n",
    }
    message = refused(write(tmp_path, files))
    assert "found 5,000 items linked to the entity 'e'" in message
    assert "makes 25,000,000 triples of 1; expected at most 1,050,010" in message


def test_many_relations_between_two_entities_are_not_compared_in_pairs():
    n = 20_000
    numbers = pl.int_range(n, eager=True)
    triples = pl.concat([
        pl.DataFrame({"head": "a", "relation": "r" + numbers.cast(pl.String), "tail": "b"}),
        pl.DataFrame({"head": "b", "relation": "s" + numbers.cast(pl.String), "tail": "a"}),
    ])  # fmt: skip
    assert inverse_pairs(triples).is_empty()


def test_one_title_of_many_entities_is_ambiguous_without_a_list_of_all():
    n = 3_000
    items = pl.DataFrame({"item": [f"i{i}" for i in range(n)], "title": "the same"})
    entities = pl.DataFrame({"entity": [f"e{i}" for i in range(n)], "title": "the same"})
    exact, outcomes = link_by_title(items, entities, with_year=False)
    assert exact.is_empty()
    assert set(outcomes["outcome"]) == {"ambiguous"}
    assert outcomes["entities"].str.count_matches("|", literal=True).max() == 99


# ------------------------------------------------------------------ JSON lines


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"user":' + "[" * 1_000 + "]" * 1_000 + "}", "null", "[1]", '{"user": NaN}',
     '{"user": {"a": 1}}', '{"user": true}', '{"user": 1}{"user": 2}', '{"user": ' + "1" * 5000],
)  # fmt: skip
def test_a_line_that_is_no_plain_object_is_named(line, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"user": 1}}\n\n{line}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:3: found .*, expected (one JSON object|a text)"):
        read_json_lines(path, ["user", "item"])


def test_other_fields_of_json_lines_take_no_memory(tmp_path):
    path = tmp_path / "x.jsonl"
    lines = [{"user": i, "item": f"i{i}", f"field{i}": i} for i in range(5_000)]
    path.write_text("\n".join(map(json.dumps, lines)))
    frame = read_json_lines(path, ["user", "item", "rank"])
    assert frame.shape == (5_000, 2)
    assert frame.dtypes == [pl.Int64, pl.String]


def test_cells_of_json_lines_are_texts_unless_all_are_numbers(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"user": 1, "rank": 1}\n{"user": "\\ud800", "rank": 1.5}\n{"rank": null}\n')
    assert read_json_lines(path, ["user", "rank"]).rows() == [("1", 1.0), ("?", 1.5), (None, None)]


# ------------------------------------------------------------------ messages


def test_messages_are_short_and_printable():
    names = [f"name{i:05}" for i in range(40_000)]
    assert listed(names).endswith("name00009 and 39,990 more")
    assert one_of(names, "name00003").endswith("(did you mean name00003?)")
    assert similar("x" * 1_000_000, names) is None
    assert len(listed(["x" * 1_000_000])) == 80
    assert listed(f"n{i}" for i in range(50)).count(", ") == 49
    error = KgrecError("\x1b[31mred\x07 \u202eturned \ud800 \x9b" + "x" * 1_000_000)
    assert str(error).startswith(r"\x1b[31mred\x07 \u202eturned \ud800 \x9bxxx")
    assert len(str(error)) < 10_100
    assert printable("Zürich 日本 👩‍🚀\n") == "Zürich 日本 👩‍🚀\n"
