"""Faulty inputs of users (tests/cases): how they are read, or which error they get."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from conftest import Train
from files import CSV, FINAL, KGAT, MOVIELENS, RAW, RECBOLE, write

from kgrec.commands.data.choice import compose
from kgrec.data.describe import describe
from kgrec.data.formats import recognise
from kgrec.data.loading import load
from kgrec.data.prepare import prepare
from kgrec.data.raw_tables import RawTables
from kgrec.errors import DataError
from kgrec.files import expand_home

CASES = Path(__file__).parent.parent / "cases"


def read(case: str) -> RawTables:
    return recognise(CASES / case).read(CASES / case)


def counts(data) -> dict[str, int]:
    return {entry.what: entry.count for entry in data.account.entries}


# ------------------------------------------------------------------ blanks around ids


def test_blanks_after_commas_make_no_new_entities():
    data = prepare(read("03-space-after-comma/data"), "x")
    assert data.counts()["entities"] == 20
    assert describe(data).facts["item_to_item_triple_share"] == 1
    assert counts(data)["ids (tail) of triples.csv with blanks around them, stripped"] == 20


def test_blanks_after_users_make_no_new_users():
    data = prepare(read("04-trailing-space-user/data"), "x")
    assert data.counts()["users"] == 30
    assert counts(data)["ids (user) of interactions.csv with blanks around them, stripped"] == 120


MOVIELENS_WITH_SPACES = {n: t for n, t in MOVIELENS.items() if n != "movies.csv"}
# Of every format the files with ids, and the character between two fields.
PADDED = {
    "csv": (CSV, {"triples.csv": ",", "links.csv": ","}),
    "released_raw": (RAW, {"user_artists.dat": "\t", "item_index2entity_id.txt": "\t",
                           "kg.txt": "\t"}),
    "movielens": (MOVIELENS_WITH_SPACES, {"ratings.csv": ","}),
    "released_final": (FINAL, {"ratings_final.txt": "\t", "kg_final.txt": "\t"}),
    "recbole": (RECBOLE, {"ml.inter": "\t", "ml.kg": "\t", "ml.link": "\t", "ml.item": "\t"}),
    "kgat": (KGAT, {"kg_final.txt": " ", "user_list.txt": " "}),
}  # fmt: skip


@pytest.mark.parametrize("blank", [" ", "\u00a0", "\u3000"], ids=["space", "no-break", "wide"])
@pytest.mark.parametrize("name", PADDED)
def test_every_reader_strips_blanks_around_ids(name, blank, tmp_path):
    files, separators = PADDED[name]
    plain = recognise(write(tmp_path / "plain", files)).read(tmp_path / "plain")
    padded = dict(files)
    for file, separator in separators.items():
        lines = files[file].splitlines(keepends=True)
        joint = f"{blank}{separator}{blank}"
        padded[file] = "".join(
            line if '"' in line else f"{blank}{line.strip().replace(separator, joint)}{blank}\n"
            for line in lines
        )
    raw = recognise(write(tmp_path / "padded", padded)).read(tmp_path / "padded")
    for table in ("interactions", "links", "triples", "negatives"):
        ours, theirs = getattr(raw, table), getattr(plain, table)
        assert (ours is None) == (theirs is None)
        assert ours is None or ours.equals(theirs), table
    if name != "kgat":  # its fields are separated by blanks
        assert any("with blanks around them, stripped" in what for what, _ in raw.counts)


def test_parquet_ids_are_stripped_and_book_crossing_too(tmp_path):
    tmp_path.joinpath("p").mkdir()
    pl.DataFrame({"user": ["u ", "u"], "item": ["i", "\u00a0j"]}).write_parquet(
        tmp_path / "p" / "interactions.parquet"
    )
    pl.DataFrame({"head": ["i"], "relation": [" r"], "tail": ["j"]}).write_parquet(
        tmp_path / "p" / "triples.parquet"
    )
    raw = recognise(tmp_path / "p").read(tmp_path / "p")
    assert raw.interactions.rows() == [("u", "i"), ("u", "j")]
    assert raw.triples.rows() == [("i", "r", "j")]
    files = {
        "BX-Book-Ratings.csv": '"User-ID";"ISBN";"Book-Rating"\n"1";" a ";"5"\n',
        "item_index2entity_id_rehashed.txt": "a\t5\n",
        "kg_rehashed.txt": "5\tr\t6\n",
    }
    raw = recognise(write(tmp_path / "b", files)).read(tmp_path / "b")
    assert raw.interactions["item"].to_list() == ["a"]


def test_ids_that_differ_by_blanks_case_or_unicode_form_are_named(tmp_path):
    files = {
        "interactions.csv": "user,item\nann,i\nAnn,i\nbob,j\ncaf\u00e9,i\ncafe\u0301,j\n",
        "triples.csv": "head,relation,tail\ni,is a,x\nj,isa,x\n",
    }
    raw = recognise(write(tmp_path, files)).read(tmp_path)
    similar = describe(prepare(raw, "x")).lookalikes
    assert similar == {
        "users": [["ann", "Ann"], ["caf\u00e9", "cafe\u0301"]],
        "relations": [["is a", "isa"]],
    }


# ------------------------------------------------------------------ sequences, repeated headers


def test_a_sequence_of_tokens_is_one_triple_a_token(tmp_path):
    raw = read("05-recbole-token-seq/data")
    assert set(raw.triples["tail"]) == {f"c{i}" for i in range(5)}
    assert raw.triples.height == 60
    kg = "head_id:token\trelation_id:token\ttail_id:token_seq\tx:token\nm.1\tr\ta  b\tz\n"
    raw = recognise(write(tmp_path, RECBOLE | {"ml.kg": kg})).read(tmp_path)
    assert raw.triples.rows() == [("m.1", "r", "a"), ("m.1", "r", "b")]


@pytest.mark.parametrize(
    ("files", "name", "header", "kind"),
    [
        (RECBOLE, "ml.inter", "user_id:token\titem_id:token_seq\nu\ti\n", "token_seq"),
        (RECBOLE, "ml.inter", "user_id:token\titem_id:token\trating:float_seq\nu\ti\t1\n",
         "float_seq"),
        (RECBOLE, "ml.link", "item_id:token_seq\tentity_id:token\ni\te\n", "token_seq"),
        (RECBOLE, "ml.item", "item_id:token_seq\tx_name:token\ni\te\n", "token_seq"),
        (CSV, "triples.csv", "head_id:token,relation_id:token,tail_id:token_seq\na,b,c d\n",
         "token_seq"),
        (CSV, "links.csv", "item:token_seq,entity\na,b\n", "token_seq"),
    ],
)  # fmt: skip
def test_sequences_elsewhere_are_refused_by_type(files, name, header, kind, tmp_path):
    write(tmp_path, files | {name: header})
    with pytest.raises(DataError, match=rf"{name}.*{kind}"):
        recognise(tmp_path).read(tmp_path)


@pytest.mark.parametrize(
    ("case", "place"),
    [("data", r"links\.csv:12"), ("data-recbole-kg", r"d\.kg:31"),
     ("data-triples", r"triples\.csv:32")],
)  # fmt: skip
def test_a_header_in_the_middle_is_refused_by_line(case, place):
    with pytest.raises(DataError, match=rf"{place}: found the header a second time"):
        read(f"07-header-in-the-middle/{case}")


REPEATED = {
    "interactions": (CSV, "interactions.csv", "user,item\n1,2\nuser,item\n", 3),
    "items": (CSV, "items.csv", "item,title\na,b\n\nitem,title\n", 4),
    "quoted": (CSV, "links.csv", '"item","entity"\n"a","b"\nitem,"entity"\n', 3),
    "headless triples": (CSV, "triples.csv", "a,b,c\nhead,relation,tail\n", 2),
    "movies": (MOVIELENS, "movies.csv", "movieId,title\n10,a\nmovieId,title\n", 3),
    "ratings": (MOVIELENS, "ratings.csv", MOVIELENS["ratings.csv"] * 2, 4),
    "user_artists": (RAW, "user_artists.dat", RAW["user_artists.dat"] * 2, 4),
    "recbole": (RECBOLE, "ml.inter", "user_id:token\titem_id:token\nu\ti\n" * 2, 3),
    "recbole, other fields": (RECBOLE, "ml.item", RECBOLE["ml.item"] * 2, 3),
    "kgat": (KGAT, "relation_list.txt", KGAT["relation_list.txt"] * 2, 4),
}


@pytest.mark.parametrize("name", REPEATED)
def test_a_repeated_header_is_refused_in_every_file_with_a_header(name, tmp_path):
    files, file, text, line = REPEATED[name]
    write(tmp_path, files | {file: text})
    with pytest.raises(DataError, match=rf"{file}:{line}: found"):
        recognise(tmp_path).read(tmp_path)


# ------------------------------------------------------------------ messages


def test_a_threshold_above_every_rating_is_named(train: Train):
    folder = CASES / "08-threshold-above-all" / "data"
    run = train("dataset=custom", f"dataset.root={folder}", "dataset.min_rating=6", small=False)
    assert run.code == 1
    assert (
        "found 240 ratings from 1 to 5, expected some of at least dataset.min_rating=6" in run.out
    )
    assert "link" not in run.out.partition("error: ")[2]
    # The account is above the error, because it may explain it.
    account, _, _ = run.out.partition("error: ")
    assert "interactions: interactions rated below 6, not positive: 240" in account


@pytest.mark.parametrize("min_rating", [None, 6])
def test_labels_that_are_all_0_are_named(min_rating):
    raw = read("08-threshold-above-all/data-all-labels-0")
    with pytest.raises(DataError, match="found 240 interactions, all with label 0, expected at"):
        prepare(raw, "x", min_rating)


@pytest.mark.parametrize("case", ["data", "data-comma"])
def test_a_wrong_separator_is_named(case):
    with pytest.raises(DataError, match=r"d\.inter:1: .*expected fields separated by tabs"):
        read(f"09-recbole-wrong-separator/{case}")


def test_a_table_separated_by_blanks_is_named(tmp_path):
    write(tmp_path, CSV | {"interactions.csv": "user item\nu i\n"})
    with pytest.raises(DataError, match=r"csv:1: found a header with fields separated by blanks"):
        recognise(tmp_path).read(tmp_path)


def test_relative_folders_start_where_the_command_was_typed(train: Train, tmp_path):
    shutil.copytree(CASES / "08-threshold-above-all" / "data", tmp_path / "mine")
    run = train(
        "dataset=custom", "dataset.root=mine", "dataset.name=shop", "hydra.job.chdir=true",
        "model=popularity", "logger=csv", small=False,
    )  # fmt: skip
    assert run.code == 0, run.out
    assert "shop, protocol=clean" in run.out
    assert (tmp_path / "data" / "cache").is_dir()
    assert not (run.folder / "data").exists()


def test_home_folders_are_expanded(train: Train, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    run = train("dataset=custom", "dataset.root=~/nonexist", small=False)
    assert run.code == 1
    assert f"{tmp_path}/home/nonexist: found no such folder" in run.out
    assert expand_home("dataset.root=~/a,~/b") == "dataset.root={0}/a,{0}/b".format(
        tmp_path / "home"
    )
    assert expand_home("~dataset.columns") == "~dataset.columns"
    data = write(tmp_path / "home" / "mine", RAW)
    load("toy", [], "~/mine", "~/x", None, "drop", 0, cache="~/cache")
    assert (data.parent / "cache").is_dir()
    assert compose(str(data), ["paths.cache=~/c"]).paths.cache == f"{tmp_path}/home/c"


# ------------------------------------------------------------------ damaged Parquet files


def test_a_parquet_file_that_aborts_polars_is_named():
    with pytest.raises(DataError, match=r"links\.parquet: .*expected a whole Parquet file"):
        read("20-parquet-wants-2e18-bytes/data")


def test_impossible_dates_are_named():
    command = [sys.executable, "-m", "kgrec.cli", "data", "describe"]
    folder = str(CASES / "21-parquet-impossible-dates" / "data")
    done = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "interactions.parquet: row 1: found a date" in done.stderr
    assert "in column timestamp, expected one of the years 1 to 9999" in done.stderr
    assert "Panic" not in done.stderr


# ------------------------------------------------------------------ the catalogue

SHOP = {
    "interactions.csv": "user,item\nu,p1\nv,p2\nv,gone\n",
    "triples.csv": "head,relation,tail\np1,of,a\np2,of,a\np3,of,a\np4,of,b\nb,in,c\n",
}


def test_items_of_the_items_file_are_the_catalogue(tmp_path):
    files = SHOP | {"items.csv": "item,name\np3,Three\np2,Two\nnowhere,No\n"}
    raw = recognise(write(tmp_path, files)).read(tmp_path)
    data = prepare(raw, "shop")
    assert data.ids.items["item"].to_list() == ["p1", "p2", "p3"]
    assert data.ids.items["name"].to_list() == [None, "Two", "Three"]
    assert counts(data)["items without any positive, kept"] == 1
    assert counts(data)["items without an entity, dropped"] == 1
    only_listed = "items without an entity or an interaction (only listed), dropped"
    assert counts(data)[only_listed] == 1
    kept = prepare(raw, "shop", unlinked="keep")
    assert kept.ids.items["item"].to_list() == ["p1", "p2", "p3", "gone", "nowhere"]


def test_items_without_a_name_are_items_too(tmp_path):
    for text in ("item\np3\n", "item,name\np3,\n"):
        raw = recognise(write(tmp_path, SHOP | {"items.csv": text})).read(tmp_path)
        assert raw.links["item"].to_list() == ["p1", "p2", "p3"]


def test_items_that_are_only_negatives_are_items_too(tmp_path):
    rows = {"interactions.csv": "user,item,label\nu,p1,1\nu,p2,0\n"}
    raw = recognise(write(tmp_path, SHOP | rows)).read(tmp_path)
    assert raw.links["item"].to_list() == ["p1", "p2"]


def test_entities_that_may_be_items_are_counted(tmp_path):
    data = prepare(recognise(write(tmp_path, SHOP | {"notes.txt": "x"})).read(tmp_path), "shop")
    what = (
        "no links and no items file: entities with relations like an item's, but without an "
        "interaction, not taken as items"
    )
    assert counts(data).get(what) is None  # of p1 to p4 no more than half are items
    triples = {"triples.csv": "head,relation,tail\np1,of,a\np2,of,a\np3,of,a\nb,in,c\n"}
    data = prepare(recognise(write(tmp_path, SHOP | triples)).read(tmp_path), "shop")
    assert counts(data)[what] == 1
    assert counts(data)["files not read: format csv has no such file (notes.txt)"] == 1


def test_a_file_of_an_unknown_name_is_named_with_what_was_expected(tmp_path):
    write(tmp_path, {"products.csv": "item\np\n", "triples.csv": SHOP["triples.csv"]})
    with pytest.raises(
        DataError, match=r"(?s)found products\.csv, .*interactions\.csv.*items\.csv"
    ):
        recognise(tmp_path)
    raw = recognise(write(tmp_path, SHOP)).read(tmp_path)
    assert ("files not read: format csv has no such file (products.csv)", 1) in raw.counts
