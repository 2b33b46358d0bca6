"""``kgrec explain``, ``kgrec similar`` and ``kgrec recommend --why``."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT, Trained
from kgrec_command import failed


@pytest.fixture
def run(trained: Trained) -> str:
    return str(trained("model=kgcn", "model.H=2"))


def test_text(run, kgrec):
    output = kgrec("explain", run, "--user", "user3", "--item", "item5", "--top", "3")
    assert output.code == 0, output.err
    assert output.out.startswith("item5")
    assert "user user3, kgcn: score" in output.out
    assert "A share is the score minus the score without the reason" in output.out
    assert "further reasons are not shown" in output.out
    assert "Relations that weigh most for this user" in output.out


def test_json(run, kgrec):
    arguments = ("explain", run, "--user", "user3", "--item", "item5", "--format", "json")
    content = json.loads(kgrec(*arguments).out)
    assert content["method"] == "leave-one-out"
    assert len(content["contributions"]) == 5
    assert content["contributions"][0]["steps"][0]["relation"]
    shares = [each["share"] for each in content["contributions"]]
    assert shares == sorted(shares, reverse=True)


def test_a_new_user_by_history(run, kgrec):
    arguments = ("explain", run, "--history", "item1, item2", "--item", "item5")
    output = kgrec(*arguments, "--format", "json")
    assert output.code == 0, output.err
    content = json.loads(output.out)
    assert content["user"] == "new"
    assert content["source"].startswith("fold-in")


def test_a_picture(run, kgrec, tmp_path):
    out = tmp_path / "why.svg"
    output = kgrec("explain", run, "--user", "user3", "--item", "item5", "--picture", str(out))
    assert f"wrote {out}" in output.err
    assert "<svg" in out.read_text()


def test_weights_of_relations(run, kgrec):
    relation = json.loads(kgrec("explain", run, "--user", "user3", "--item", "item5",
                                "--format", "json").out)["relations"][-1]["relation"]  # fmt: skip
    weigh = ("--weigh", f"{relation}=1e6")
    arguments = ("explain", run, "--user", "user3", "--item", "item5", *weigh)
    content = json.loads(kgrec(*arguments, "--format", "json").out)
    assert content["relations"][0]["relation"] == relation
    line = next(line for line in kgrec(*arguments).out.splitlines() if "weigh most" in line)
    assert content["relations"][0]["name"] in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--item", "item5"], "found no user, expected --user ID, or --history"),
        (["--item", "nope", "--user", "user3"], "found item 'nope'"),
        (["--item", "item5", "--user", "nobody"], "found user 'nobody'"),
        (["--item", "item5", "--history", "item1,nope"], "found item 'nope'"),
        (["--item", "item5", "--user", "user3", "--history", "item1"], "found --user too"),
        (["--item", "item5", "--user", "user3", "--top", "0"], "top: found 0"),
        (["--item", "item5", "--user", "user3", "--picture", "x.pdf"], "picture: found x.pdf"),
        (["--item", "item5", "--user", "user3", "--weigh", "x=2"], "found relation 'x'"),
        (["--item", "item5", "--user", "user3", "--weigh", "x"], "--weigh: found x, expected REL"),
        (["--item", "item5", "--user", "user3", "--weigh", "=2"], "--weigh: found =2, expected"),
        (
            ["--item", "item5", "--user", "user3", "--weigh", "x=2", "--weigh", "x=3"],
            "--weigh: found x twice",
        ),
    ],
)
def test_mistakes(words, message, run, kgrec):
    failed(kgrec("explain", run, *words), message)


def test_similar(run, kgrec):
    output = kgrec("similar", run, "--item", "item5", "-k", "3")
    assert output.code == 0, output.err
    assert "shared entities" in output.out
    content = json.loads(
        kgrec("similar", run, "--item", "item5", "-k", "3", "--format", "json").out
    )
    assert [each["rank"] for each in content["similar"]] == [1, 2, 3]
    lines = kgrec("similar", run, "--item", "item5", "--format", "csv").out.splitlines()
    assert lines[0] == "rank,item,name,similarity,shared"
    assert len(lines) == 11
    failed(kgrec("similar", run, "--item", "nope"), "found item 'nope'")
    failed(kgrec("similar", run, "--item", "item5", "-k", "0"), "k: found 0")


def test_recommendations_with_reasons(run, kgrec, trained: Trained):
    arguments = (
        "recommend",
        run,
        "--user",
        "user3",
        "--history",
        "item1,item2",
        "-k",
        "2",
        "--why",
    )
    content = json.loads(kgrec(*arguments, "--format", "json").out)
    assert [each["user"] for each in content["users"]] == ["user3", "new"]
    for user in content["users"]:
        for each in user["recommended"]:
            assert each["why"].startswith(("because", "no single reason"))
    assert "why" in kgrec(*arguments).out
    lines = kgrec(*arguments, "--format", "csv").out.splitlines()
    assert lines[0] == "user,rank,item,name,score,source,why"
    assert len(lines) == 5
    svd = str(trained("model=svd"))
    output = kgrec("recommend", svd, "--user", "user3", "-k", "2", "--why", "--format", "csv")
    assert all("similar to" in line for line in output.out.splitlines()[1:])
    plain = kgrec("recommend", run, "--user", "user3", "--format", "json").out
    assert "why" not in json.loads(plain)["users"][0]["recommended"][0]


def test_an_explanation_needs_no_trainer(run):
    code = (
        "import sys; from kgrec import cli\n"
        f"sys.argv = ['kgrec', 'explain', {run!r}, '--user', 'user3', '--item', 'item5']\n"
        "cli.main(); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert {"pytorch_lightning", "torchmetrics", "hydra", "wandb", "matplotlib"} & loaded == set()
