"""``kgrec score-lists``: lists of another tool under the protocol of a run."""

import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import Trained
from kgrec_command import Kgrec, failed

import kgrec as package
from kgrec.inference.scored_lists import score_lists
from kgrec.runs.folder import LISTS, RunFolder


@pytest.fixture(params=["paper", "clean"])
def run(request, trained: Trained) -> Path:
    return trained("model=svd", f"protocol={request.param}")


@pytest.fixture
def one_run(trained: Trained) -> Path:
    return trained("model=svd")


def own_scores(run: Path) -> pl.DataFrame:
    """Every item for every user, scored by the run's own model."""
    rec = package.load(run)
    users = torch.arange(len(rec.user_ids))
    with torch.no_grad():
        scores = rec.model.score_all(users, rec.model.encode())
    return pl.DataFrame({
        "user": rec.user_ids.ids.gather(users.repeat_interleave(len(rec.item_ids)).numpy()),
        "item": pl.concat([rec.item_ids.ids] * len(users)),
        "score": scores.flatten().numpy(),
    })  # fmt: skip


def ranking_metrics(metrics: dict[str, float]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if k.startswith("test/") and "@" in k}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_the_lists_of_the_runs_own_model_have_its_metrics_exactly(suffix, run, tmp_path):
    table, file = own_scores(run).sample(fraction=1, shuffle=True, seed=1), tmp_path / f"l.{suffix}"
    {"csv": table.write_csv, "tsv": lambda f: table.write_csv(f, separator="\t"),
     "parquet": table.write_parquet, "jsonl": table.write_ndjson}[suffix](file)  # fmt: skip
    source = RunFolder(run)
    scored = score_lists(file, source, "own", tmp_path / "out")
    expected = ranking_metrics(source.metrics())
    assert len(expected) > 40
    assert ranking_metrics(scored.metrics) == expected
    popular = {k: v for k, v in source.metrics().items() if k.startswith("popularity/test/")}
    popular = {k: v for k, v in popular.items() if "@" in k}
    assert {k: scored.metrics[k] for k in popular} == popular
    assert RunFolder(scored.folder).users("own").equals(source.users("svd"))
    assert RunFolder(scored.folder).users("popularity").equals(source.users("popularity"))


def test_lists_are_ranked_among_the_cold_items_alone(trained, tmp_path):
    source = RunFolder(trained("model=svd", "protocol=clean", "split=cold_items"))
    own_scores(source.path).write_csv(tmp_path / "lists.csv")
    scored = score_lists(tmp_path / "lists.csv", source, "own", tmp_path / "out")
    expected = ranking_metrics(source.metrics())
    assert expected["test/recall@5"] > 0
    assert ranking_metrics(scored.metrics) == expected
    assert RunFolder(scored.folder).users("own").equals(source.users("svd"))
    # There are 8 of 40 items in the test.
    assert "test/recall@10" not in expected
    assert source.metrics()["test/coverage@5"] > 8 / 40


def test_recommended_lists_scored_again(one_run, tmp_path, kgrec: Kgrec):
    output = kgrec("recommend", str(one_run), "--all-users", "--include-seen", "-k", "40",
                   "--out", "recs.csv")  # fmt: skip
    assert output.code == 0, output.err
    output = kgrec("score-lists", "recs.csv", "--like", str(one_run), "--name", "mine")
    assert output.code == 0, output.err
    assert "AUC, F1 and slices are absent" in output.err
    folder = RunFolder(tmp_path / "logs" / "lists" / "mine-2019")
    # Users without a training positive are folded in by kgrec recommend.
    trained = [frame.filter(pl.col("train_positives") > 0)
               for frame in (folder.users("mine"), RunFolder(one_run).users("svd"))]  # fmt: skip
    assert trained[0].height > 20
    assert trained[0].equals(trained[1])
    assert not any("test/auc" in key or ("tied_users" in key and key.startswith("test"))
                   for key in folder.metrics())  # fmt: skip
    seen_left_out = kgrec("recommend", str(one_run), "--all-users", "--out", "new.csv")
    assert seen_left_out.code == 0
    output = kgrec("score-lists", "new.csv", "--like", str(one_run))
    assert "leave out test positives too" in output.err


@pytest.mark.slow
def test_compare_and_report(one_run, tmp_path, kgrec: Kgrec):
    runs = tmp_path / "runs"
    shutil.copytree(one_run, runs / "svd")
    own_scores(one_run).write_parquet(tmp_path / "als.parquet")
    score_lists(tmp_path / "als.parquet", RunFolder(one_run), "als", runs / "als")
    assert RunFolder(runs / "als").kind == LISTS
    output = kgrec("compare", str(runs), "--baseline", "svd", "--samples", "50")
    assert output.code == 0, output.err
    assert "als" in output.out
    assert "0.0000" in output.out  # the same lists
    output = kgrec("compare", str(runs / "als"), "--samples", "50")
    assert "Reference: popularity" in output.out
    output = kgrec("report", str(runs), "--out", str(tmp_path / "report"))
    assert output.code == 0, output.err
    assert "als" in (tmp_path / "report" / "report.md").read_text()
    assert package.load(runs).name == "svd"
    failed(kgrec("recommend", str(runs / "als"), "--user", "user1"), "scored lists")


def test_everything_that_is_left_out_is_counted(one_run, tmp_path):
    data = package.load(one_run).data
    ids, test = data.ids, data.test
    user, other = torch.unique(test.users)[:2].tolist()
    hit = int(test.items[test.users == user][0])
    seen = int(data.train.items[data.train.users == user][0])
    name, item = ids.users["user"], ids.items["item"]
    untested = next(u for u in range(len(name)) if u not in test.users.tolist())
    rows = [
        (name[user], item[seen], 1), (name[user], item[hit], 2), (name[user], item[hit], 3),
        ("nobody", item[hit], 1), (name[user], "nothing", 4), (name[other], None, 1),
        (name[untested], item[hit], 1),
    ]  # fmt: skip
    table = pl.DataFrame(rows, schema=["user", "item", "rank"], orient="row")
    table.write_csv(tmp_path / "few.csv")
    scored = score_lists(tmp_path / "few.csv", RunFolder(one_run), "few", tmp_path / "out")
    remarks = "\n".join(scored.remarks)
    n = len(torch.unique(test.users))
    for sentence in (
        "1 rows without a user, an item or a rank: left out",
        "1 duplicates of a user and an item: left out; the best place counts",
        "1 rows of 1 unknown users (nobody): left out",
        "1 rows of 1 unknown items (nothing): left out",
        "1 items that their users have in training or validation: left out",
        "1 users without a test positive: not evaluated",
        f"{n - 1} of {n} test users have no list: their metrics are 0",
        f"{n} of {n} test users have lists of fewer than 20 items: missing places count as misses",
    ):
        assert sentence in remarks
    metrics = scored.metrics
    relevant = int((test.users == user).sum())
    assert metrics["test/hit@1"] == pytest.approx(1 / n)  # the seen item is not ranked
    assert metrics["test/recall@20"] == pytest.approx(1 / relevant / n)
    assert metrics["test/precision@20"] == pytest.approx(1 / 20 / n)
    assert metrics["lists/users_without_list"] == n - 1
    assert "test/diversity@20" not in metrics  # one item has no pair
    users = RunFolder(tmp_path / "out").users("few")
    assert users.height == n
    assert (users["hit@20"] > 0).sum() == 1


def test_scores_and_ranks_give_the_same_order(one_run, tmp_path):
    table = own_scores(one_run)
    table.write_csv(tmp_path / "a.csv")
    ranks = table.with_columns(
        rank=pl.col("score").rank("ordinal", descending=True).over("user")
    ).drop("score")
    ranks.write_csv(tmp_path / "b.csv")
    a, b = (score_lists(tmp_path / f"{n}.csv", RunFolder(one_run), n, tmp_path / n).metrics
            for n in "ab")  # fmt: skip
    assert a["test/ndcg@20"] == b["test/ndcg@20"] > 0


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("user,item\nuser1,item1\n", [], "found no column rank or score"),
        ("user,rank\nuser1,1\n", [], "found no column item"),
        ("user,item,rank\nuser1,item1,first\n", [], "lists.csv:2: found 'first' as rank"),
        ("user,item,rank\nnobody,item1,1\n", [], "found no row whose user and item are of"),
        ("user,item,rank\nuser1,item1,1\n", ["--name", "popularity"], "the name of a control"),
        ("user,item,rank\nuser1,item1,1\n", ["--name", "a/b"], "--name: found 'a/b'"),
        ("user,item,rank\nuser1,item1,1\n", ["--out", "."], "found files in"),
    ],
)
def test_what_cannot_be_scored(content, words, message, one_run, tmp_path, kgrec: Kgrec):
    (tmp_path / "lists.csv").write_text(content)
    failed(kgrec("score-lists", "lists.csv", "--like", str(one_run), *words), message)
    assert not (tmp_path / "logs").exists()


def test_runs_without_a_full_ranking_are_refused(trained: Trained, tmp_path, kgrec: Kgrec):
    (tmp_path / "lists.csv").write_text("user,item,rank\nuser1,item1,1\n")
    run = trained("model=svd", "ranking=none")
    failed(kgrec("score-lists", "lists.csv", "--like", str(run)), "ranking=none")
    failed(kgrec("score-lists", "missing.csv", "--like", str(trained("model=svd"))),
           "missing.csv: found no such file")  # fmt: skip


def test_a_kill_leaves_no_folder_that_blocks_the_next_command(one_run, tmp_path, monkeypatch):
    write_lists = (tmp_path / "lists.csv").write_text
    write_lists("user,item,rank\n" + "".join(f"user1,item{i},{i}\n" for i in range(1, 6)))
    like = RunFolder(one_run)

    class KilledError(BaseException):
        pass

    def kill(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_metrics", kill)
        with pytest.raises(KilledError):
            score_lists(tmp_path / "lists.csv", like, "mine", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert score_lists(tmp_path / "lists.csv", like, "mine", tmp_path / "out").metrics
    assert RunFolder(tmp_path / "out").config()["paths"]["run"] == str(tmp_path / "out")
