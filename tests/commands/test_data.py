"""``kgrec data``: what its actions print and write, and bad input."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from filelock import FileLock
from files import CSV, FINAL, GIVEN, RAW, RECBOLE, write
from kgrec_command import failed

from kgrec.commands.data import choice
from kgrec.data.cache import LAYOUT
from kgrec.data.formats import FORMATS


def test_a_folder_is_described(kgrec, tmp_path):
    write(tmp_path / "my data", RAW)
    output = kgrec("data", "describe", "my data")
    assert output.code == 0, output.err
    assert "\nmy data  " in output.out  # after the warnings
    for words in ("positives per user", "genre", "interactions read", "density"):
        assert words in output.out
    assert "preparing my data from my data" in output.err
    assert "preparing" not in output.out
    # Two positives cannot be split into three parts; the rest of the description is complete.
    assert "the description has no split: " in output.err
    assert "users with a test positive" not in output.out


def test_json_is_all_of_stdout_or_a_file(kgrec, tmp_path):
    write(tmp_path / "mine", RECBOLE)
    output = kgrec("data", "describe", "mine", "--json", "-")
    description = json.loads(output.out)
    assert description["name"] == "mine"
    assert description["counts"]["users"] == 1
    again = kgrec("data", "describe", "mine", "--json", "x.json", "--html", "x.html")
    assert "mine" in again.out
    assert again.err.count("wrote x.json") == again.err.count("wrote x.html") == 1
    assert json.loads((tmp_path / "x.json").read_text()) == description
    assert (tmp_path / "x.html").read_text().startswith("<!doctype html>")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "mine", "x.html", "x.json"]


def test_overrides_may_be_anywhere_and_are_applied(kgrec, tmp_path):
    ratings = "userID\tartistID\tweight\n1\t10\t3\n2\t11\t5\n1\t11\t4\n"
    write(tmp_path / "mine", RAW | {"user_artists.dat": ratings})
    output = kgrec(
        "data", "describe", "mine", "dataset.min_rating=4", "--json", "-", "dataset.name=other"
    )
    description = json.loads(output.out)
    assert description["name"] == "other"
    assert description["counts"]["positives"] == 2


def test_test_users_of_data_with_a_given_split(kgrec, tmp_path):
    rows = "u,a,train\nu,b,val\nv,b,train\nv,c,test\nw,d,test\nx,d,train\nx,c,val\n"
    write(
        tmp_path / "mine",
        {
            "interactions.csv": "user,item,split\n" + rows,
            "triples.csv": "head,relation,tail\na,r,e\nb,r,e\nc,r,e\nd,r,e\n",
        },
    )
    facts = json.loads(kgrec("data", "describe", "mine", "--json", "-").out)["facts"]
    parts = [facts[f"given_{part}_positives"] for part in ("train", "val", "test")]
    assert parts == [3, 2, 2]
    # v has trained, w has not.
    assert (facts["test_users"], facts["test_users_without_training"]) == (2, 1)
    output = kgrec("data", "describe", "mine", "--json", "-", "--no-split")
    assert "test_users" not in json.loads(output.out)["facts"]


def test_a_chosen_split_that_fails_is_an_error(kgrec, tmp_path):
    write(tmp_path / "mine", GIVEN)
    failed(kgrec("data", "describe", "mine", "split=random"), "expected split=given")
    write(tmp_path / "timeless", RAW)
    output = kgrec("data", "describe", "timeless", "split=temporal")
    failed(output, "found interactions without timestamps")


def test_a_name_is_a_data_set_also_next_to_a_folder_of_that_name(kgrec, tmp_path):
    write(tmp_path / "synthetic", RAW)
    small = ["dataset.num_users=60", "dataset.num_items=40", "dataset.positives_per_user=10"]
    output = kgrec("data", "describe", "synthetic", *small, "--json", "-")
    description = json.loads(output.out)
    assert description["counts"]["users"] == 60
    assert description["facts"]["test_users"] > 0
    description = json.loads(kgrec("data", "describe", "./synthetic", "--json", "-").out)
    assert (description["name"], description["counts"]["users"]) == ("synthetic", 2)


@pytest.mark.parametrize("name", ["a=b", "it's", "a,b", "a b", "{x}", "[x]", "ü", "$x", "back\\x"])
def test_a_folder_may_have_any_name(name, kgrec, tmp_path):
    write(tmp_path / name, RAW)
    output = kgrec("data", "describe", name, "--json", "-", "--no-split")
    assert output.code == 0, output.err
    assert json.loads(output.out)["name"] == name
    assert f"\n{name}  " in kgrec("data", "describe", name, "--no-split").out


MISTAKES = {
    "no such thing": (["describe", "nowhere"], "nowhere: found no such folder, expected one, or a"),
    "an empty folder": (["describe", "empty"], "empty: found nothing; expected the files of one"),
    "an unknown key": (["describe", "mine", "foo=1"], "foo: found an unknown key"),
    "an unknown key of the data": (["describe", "mine", "dataset.x=1"], "dataset.x: found an unkn"),
    "an unknown split": (["describe", "mine", "split=x"], "split: found 'x', expected one of"),
    "a root beside a folder": (
        ["describe", "mine", "dataset.root=/x"], "dataset.root: found it beside mine, expected"),
    "a data set beside one": (["describe", "music", "dataset=book"], "dataset: found it beside m"),
    "no override": (["describe", "mine", "x"], "x"),
    "a bad value": (["describe", "mine", "dataset.unlinked=x"], "found 'x', expected drop or keep"),
    "no folder for the page": (["describe", "mine", "--html", "no/x"], "found no folder no"),
    "a folder for the page": (["describe", "mine", "--json", "empty"], "empty: found a folder"),
    "a broken file": (["describe", "broken"], "kg.txt:1: found '0', expected 3 fields"),
    "nothing to convert": (["convert", "nowhere", "new", "--to", "csv"], "nowhere: found no such"),
    "drawn, not read": (["convert", "synthetic", "new", "--to", "csv"], "without raw files"),
    "custom without a folder": (["convert", "custom", "new", "--to", "csv"], "dataset.root: found"),
    "a full target": (["convert", "mine", "broken", "--to", "csv"], "found a file or a folder"),
    "a loss": (["convert", "mine", "new", "--to", "kgat"], "cannot hold\n  ratings\n"),
    "a column without a name": (
        ["convert", "mine", "new", "--to", "csv", "--columns", "uid"], "--columns: found 'uid'"),
    "columns of fixed files": (
        ["convert", "mine", "new", "--to", "csv", "--columns", "user=uid"], "columns are fixed"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gets_one_clear_error_and_leaves_no_files(words, message, kgrec, tmp_path):
    write(tmp_path / "mine", RAW)
    write(tmp_path / "broken", RAW | {"kg.txt": "0\n"})
    (tmp_path / "empty").mkdir()
    failed(kgrec("data", *words), message)
    left = {path.name for path in tmp_path.iterdir()} - {"mine", "broken", "empty", "data"}
    assert left == set()


def test_a_folder_is_converted(kgrec, tmp_path):
    write(tmp_path / "mine", RECBOLE)
    output = kgrec("data", "convert", "mine", "new", "--to", "csv")
    assert output.code == 0
    assert "wrote new, in format csv, from recbole" in output.err
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        "interactions.csv", "items.csv", "links.csv", "triples.csv",
    ]  # fmt: skip
    output = kgrec("data", "convert", "new", "final", "--to", "released_final", "--lossy")
    assert "1 ratings, left out" in output.err
    assert "1 names of items, left out" in output.err
    assert (tmp_path / "final" / "ratings_final.txt").read_text() == "u\t0\t1\n"


def test_attributes_of_users_are_converted_or_named(kgrec, tmp_path):
    write(tmp_path / "mine", CSV | {"user_attributes.csv": "user,relation,entity\n1,a,b\n"})
    output = kgrec("data", "convert", "mine", "new", "--to", "parquet")
    assert output.code == 0
    assert (tmp_path / "new" / "user_attributes.parquet").is_file()
    failed(kgrec("data", "convert", "mine", "other", "--to", "recbole"), "attributes of users")
    output = kgrec("data", "convert", "mine", "other", "--to", "recbole", "--lossy")
    assert "1 attributes of users, left out" in output.err


def test_a_data_set_is_converted_by_its_name(kgrec, tmp_path, monkeypatch):
    monkeypatch.setattr(choice, "options", lambda _: ["book", "custom"])
    place = write(tmp_path / "data" / "book", FINAL)
    output = kgrec("data", "convert", "book", "new", "--to", "recbole")
    # It is looked for where a run would look, and is not the published file.
    failed(output, f"{Path('data') / 'book' / 'ratings_final.txt'}: found sha256")
    assert place.exists()


def test_columns_have_the_given_names(kgrec, tmp_path):
    table = CSV["interactions.csv"].replace("userId", "who").replace("itemId", "what")
    links = CSV["links.csv"].replace("item", "what")
    items = CSV["items.csv"].replace("item", "what")
    files = {"interactions.csv": table, "links.csv": links, "items.csv": items}
    write(tmp_path / "mine", CSV | files)
    failed(kgrec("data", "convert", "mine", "new", "--to", "recbole"), "expected one for user")
    output = kgrec(
        "data", "convert", "mine", "new", "--to", "recbole", "--columns", "user=who", "item=what"
    )
    assert output.code == 0, output.err
    assert "columns of interactions.csv not used (note): 1" in output.err
    assert (tmp_path / "new" / "new.inter").read_text().splitlines()[1].startswith("1\ta,b\t4")


def test_formats_are_listed(kgrec):
    output = kgrec("data", "formats")
    assert output.code == 0
    for known in FORMATS.values():
        assert f"{known.name}\n" in output.out
        assert known.description in output.out


def test_the_cache_is_listed_and_cleared(kgrec, tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, RAW)
        kgrec("data", "describe", name, "--no-split")
    output = kgrec("data", "cache")
    names = [Path(line).name.partition("-")[0] for line in output.out.splitlines()[::3]]
    assert names == ["one", "two"]
    assert output.out.count("  usable, 0.0 MB, made ") == 2
    sizes = "  2 users, 2 items, 2 positives, 3 entities, 1 relations, 2 triples"
    assert output.out.splitlines()[2] == sizes
    (two,) = (path for path in (tmp_path / "data" / "cache").iterdir() if path.is_dir()
              and path.name.startswith("two"))  # fmt: skip
    manifest = two / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"layout": {LAYOUT}', '"layout": 0'))
    output = kgrec("data", "cache", "two")
    assert "of other code or an older layout" in output.out
    assert "one-" not in output.out
    with FileLock(two.parent / f"{two.name}.lock"):
        output = kgrec("data", "cache", "--clear")
    assert re.search(r"^removed data/cache/one-\w+, 0\.0 MB$", output.out, flags=re.MULTILINE)
    assert f"kept data/cache/{two.name}: a process is writing it" in output.out
    assert "nothing to remove" in kgrec("data", "cache", "other", "--clear").out
    assert f"removed data/cache/{two.name}" in kgrec("data", "cache", "--clear").out
    assert "the cache is empty" in kgrec("data", "cache").out
    assert "elsewhere: the cache is empty" in kgrec("data", "cache", "--dir", "elsewhere").out


def test_a_twin_is_generated_but_not_over_other_files(kgrec, tmp_path):
    write(tmp_path / "mine", RAW)
    failed(kgrec("data", "generate", "music", "mine"), "found a folder that is not empty")
    failed(kgrec("data", "generate", "music", "new", "--scale", "7"), "dataset.scale: found 7")
    assert not (tmp_path / "new").exists()
