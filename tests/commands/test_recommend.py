"""``kgrec recommend``."""

import json
import subprocess
import sys

import polars as pl
import pytest
from conftest import ROOT, Trained
from kgrec_command import failed

from kgrec.inference.loading import load


@pytest.fixture
def run(trained: Trained) -> str:
    return str(trained("model=svd"))


def test_a_table_for_each_user(run, kgrec):
    output = kgrec("recommend", run, "--user", "user3", "user4", "-k", "3")
    assert output.code == 0, output.err
    assert "user user3, svd" in output.out
    assert "user user4, svd" in output.out
    assert output.out.count("item") == 2 * 4  # a header and three items each


def test_json_and_csv(run, kgrec):
    content = json.loads(
        kgrec("recommend", run, "--user", "user3", "-k", "2", "--format", "json").out
    )
    assert content["model"] == "svd"
    assert content["users"][0]["user"] == "user3"
    assert [r["rank"] for r in content["users"][0]["recommended"]] == [1, 2]
    lines = kgrec(
        "recommend", run, "--user", "user3", "-k", "2", "--format", "csv"
    ).out.splitlines()
    assert lines[0] == "user,rank,item,name,score,source"
    assert len(lines) == 3


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".json"])
def test_all_users_into_a_file(suffix, run, kgrec, tmp_path):
    out = tmp_path / f"recs{suffix}"
    output = kgrec("recommend", run, "--all-users", "-k", "2", "--out", str(out))
    assert output.code == 0, output.err
    assert f"wrote {out}" in output.err
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".json": pl.read_ndjson}[suffix]
    assert read(out).height == 2 * read(out)["user"].n_unique()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".recs")] == []


def test_new_users_and_candidates(run, kgrec, tmp_path):
    liked = tmp_path / "liked.csv"
    liked.write_text("user,item\nanna,item1\nanna,item2\nben,item3\n")
    output = kgrec("recommend", run, "--history", str(liked), "-k", "1", "--format", "csv")
    assert [line.split(",")[0] for line in output.out.splitlines()[1:]] == ["anna", "ben"]
    file = tmp_path / "candidates.txt"
    file.write_text("item7\nitem8\nnope\n")
    output = kgrec(
        "recommend", run, "--history", "item1, item2", "--candidates", str(file), "-k", "2",
        "--format", "csv",
    )  # fmt: skip
    assert {line.split(",")[2] for line in output.out.splitlines()[1:]} == {"item7", "item8"}
    assert "1 of 3 candidates are unknown and left out: nope" in output.err
    table = tmp_path / "candidates.csv"
    table.write_text("item,price\nitem7,3\n")
    output = kgrec("recommend", run, "--user", "user3", "--candidates", str(table),
                   "--include-seen", "--format", "csv")  # fmt: skip
    assert len(output.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "found no user, expected --user ID, --all-users, or --history"),
        (["--user", "nobody"], "found user 'nobody', expected one of the 60 users"),
        (["--user", "user1", "--all-users"], "found ids and --all-users"),
        (["--user", "user1", "-k", "0"], "k: found 0, expected an integer from 1"),
        (["--user", "user1", "-k", "1000000"], "k: found 1000000"),
        (["--history", ""], "history of new: found no item"),
        (["--history", "item1,nope"], "found item 'nope'"),
        (["--history", "none.csv"], "none.csv: found no such file"),
        (["--user", "user1", "--candidates", "none.txt"], "none.txt: found no such file"),
        (["--user", "user1", "--out", "x.xlsx"], "--out: found x.xlsx, expected a name"),
        (["--user", "user1", "--out", "no/x.csv"], "--out: found no folder no"),
        (["--user", "user1", "--device", "nonsense"], "device: found nonsense"),
        (["--user", "user1", "--device", "meta"], "device: found meta"),
    ],
)
def test_mistakes(words, message, run, kgrec):
    failed(kgrec("recommend", run, *words), message)


def test_a_wrong_history_is_said_before_any_output(run, kgrec):
    output = kgrec("recommend", run, "--user", "user3", "--history", "item1,nope")
    failed(output, "found item 'nope'")
    assert output.out == ""


def test_a_repeated_user_is_answered_once(run, kgrec):
    output = kgrec("recommend", run, "--user", "user3", "user3", "-k", "2", "--format", "csv")
    assert len(output.out.splitlines()) == 3
    assert "--user: 1 repeated id left out" in output.err


def test_errors_in_json(run, kgrec):
    output = kgrec("recommend", run, "--user", "nobody", "--format", "json")
    assert output.code == 1
    assert "found user 'nobody'" in json.loads(output.err)["error"]
    output = kgrec("recommend", "nowhere", "--user", "1", "--format", "json")
    assert "found no such folder" in json.loads(output.err)["error"]


def test_a_file_of_unknown_candidates_alone(run, kgrec, tmp_path):
    (tmp_path / "c.txt").write_text("item\nnope\n")
    output = kgrec("recommend", run, "--user", "user1", "--candidates", str(tmp_path / "c.txt"))
    failed(output, "found item 'nope'")


def test_one_user_needs_no_trainer(run):
    code = (
        "import sys; from kgrec import cli\n"
        f"sys.argv = ['kgrec', 'recommend', {run!r}, '--user', 'user3']\n"
        "cli.main(); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert {"torch", "polars"} <= loaded
    heavy = {"pytorch_lightning", "torchmetrics", "hydra", "wandb", "matplotlib", "scipy"}
    assert heavy & loaded == set()
    assert "torch._dynamo" not in done.stderr.split()


def test_users_with_few_items_or_none_are_counted(run, kgrec, tmp_path):
    rec = load(run)
    seen = rec.history("user3")["item"].to_list()
    (tmp_path / "seen.txt").write_text("\n".join(seen[:2]))
    output = kgrec("recommend", run, "--user", "user3", "--candidates", str(tmp_path / "seen.txt"))
    assert output.code == 0
    assert "1 of 1 users have no item left to recommend" in output.err
    other = next(i for i in rec.items["item"] if i not in seen)
    (tmp_path / "one.txt").write_text(other)
    output = kgrec("recommend", run, "--user", "user3", "--candidates", str(tmp_path / "one.txt"))
    assert "1 of 1 users have fewer than 10 items left to recommend" in output.err


def test_weights_of_relations(trained: Trained, kgrec):
    run = trained("model=kgcn", "model.K=all")
    relations = load(run).relations["relation"]
    weights = {relations[0]: 1e4, relations[1]: 0.5}
    weigh = [word for relation, weight in weights.items()
             for word in ("--weigh", f"{relation}={weight}")]  # fmt: skip
    for who in (("--user", "user3"), ("--history", "item1,item2")):
        words = ("recommend", str(run), *who, "-k", "3", "--format", "csv")
        history = None if who[0] == "--user" else ["item1", "item2"]
        users = "user3" if history is None else None
        expected = load(run).recommend(users, 3, history=history, relation_weights=weights)
        assert kgrec(*words, *weigh).out == expected.write_csv()
        assert kgrec(*words).out != expected.write_csv()
    failed(
        kgrec("recommend", str(trained("model=svd")), "--user", "user3", *weigh),
        "relation_weights: found the model svd, expected a model with attention to relations",
    )
