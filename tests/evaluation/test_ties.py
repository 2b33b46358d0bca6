"""Ranks of items with equal scores depend on raw ids, not on the order of lines in the files."""

from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import Train, small

from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.full_ranking import overall, rank
from kgrec.evaluation.ties import tie_order

POPULAR, LIKED, OTHERS = 10, 3, 57  # items with training positives; test items; items without any


def write_folder(folder: Path, first: str) -> Path:
    """A folder in which all test items have no training positive; ``first`` leads links.csv."""
    folder.mkdir()
    popular, liked, others = (
        [f"{letter}{i}" for i in range(count)]
        for letter, count in (("p", POPULAR), ("h", LIKED), ("o", OTHERS))
    )
    lines = ["user,item,split"]
    for user in range(30):
        lines += [f"u{user},{popular[(user + j) % POPULAR]},train" for j in range(5)]
        lines += [f"u{user},{popular[(user + 6) % POPULAR]},val"]
        lines += [f"u{user},{liked[user % LIKED]},test"]
    (folder / "interactions.csv").write_text("\n".join(lines) + "\n")
    items = liked + popular + others if first == "liked" else others + popular + liked
    links = "\n".join(f"{item},{item}" for item in items)
    (folder / "links.csv").write_text(f"item,entity\n{links}\n")
    triples = "\n".join(f"{item},kind,k{i % 4}" for i, item in enumerate(sorted(items)))
    (folder / "triples.csv").write_text(f"head,relation,tail\n{triples}\n")
    return folder


@pytest.mark.parametrize("model", ["popularity", "itemknn", "ease"])
def test_the_order_of_links_does_not_change_the_metrics(model, train: Train, tmp_path):
    ranking = {}
    for first in ("liked", "others"):
        root = write_folder(tmp_path / first, first)
        run = train(
            "dataset=custom", f"dataset.root={root}", "dataset.cache=null", "split=given",
            f"model={model}", "logger=csv", "monitor=val/recall@10", small=False,
            folder=f"run-{first}",
        )  # fmt: skip
        assert run.code == 0, run.out
        metrics = run.metrics
        names = ("recall", "ndcg", "mrr", "tied_users", "coverage", "gini")
        ranking[first] = {key: metrics[key] for key in metrics if key.split("@")[0][5:] in names}
        assert metrics["test/tied_users@20"] == 1
        users = pl.read_parquet(run.folder / "evaluation" / model / "users.parquet").sort("user")
        ranking[f"{first}/users"] = users.drop("train_positives").to_dicts()
    assert ranking["liked"] == ranking["others"]
    assert ranking["liked/users"] == ranking["others/users"]


def test_the_order_is_a_permutation_that_follows_the_ids():
    ids = [f"i{k}" for k in range(50)]
    order = tie_order(ids, 3)
    assert order.sort().values.tolist() == list(range(50))
    again = tie_order(ids[::-1], 3)
    assert [ids[k] for k in order] == [ids[::-1][k] for k in again]
    assert order.tolist() != tie_order(ids, 4).tolist()
    assert order.tolist() != list(range(50))


def test_over_seeds_the_mean_is_that_of_chance():
    ids = [str(k) for k in range(20)]
    among_the_best = torch.tensor([(tie_order(ids, seed)[:5] == 7).any() for seed in range(800)])
    assert float(among_the_best.double().mean()) == pytest.approx(5 / 20, abs=0.05)


@pytest.mark.parametrize(
    ("scores", "tied"),
    [
        ([9.0, 8, 7, 6, 5, 4], {1: 0, 2: 0, 3: 0, 6: 0}),
        ([9.0, 8, 8, 8, 5, 4], {1: 0, 2: 1, 3: 1, 4: 0, 5: 0, 6: 0}),
        ([5.0] * 6, {1: 1, 5: 1, 6: 0}),  # all items: nothing is left out
    ],
)
def test_users_with_a_tie_at_the_cut_off_are_counted(scores, tied):
    from kgrec.data.interactions import Interactions
    from kgrec.evaluation.candidates import Candidates

    relevant = Interactions(torch.tensor([0]), torch.tensor([2]), 1, 6)
    nothing = Interactions(*torch.zeros(2, 0, dtype=torch.int64), 1, 6)
    candidates = Candidates(torch.tensor([0]), relevant, nothing, torch.arange(6))
    for depth in (max(tied), 6):
        ranking = rank(lambda users: torch.tensor([scores]), candidates, depth)
        assert ranking.items.shape == (1, depth)
        metrics = overall(ranking, torch.ones(6), list(tied))
        assert {k: metrics[f"tied_users@{k}"] for k in tied} == tied


def test_excluded_items_are_not_tied():
    dataset = clean(small(), RandomSplit())
    candidates = full_candidates(dataset, "test")
    ranking = rank(lambda users: torch.rand(len(users), 40), candidates, 39)
    assert not ranking.tied.any()
