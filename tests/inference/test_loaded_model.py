"""Recommendations and scores with raw ids."""

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Trained

import kgrec
from kgrec.errors import DataError
from kgrec.evaluation.topk import top_k
from kgrec.inference.loaded_model import LoadedModel


@pytest.fixture
def rec(trained: Trained) -> LoadedModel:
    return kgrec.load(trained("model=svd"))


def test_the_best_items_without_those_that_the_user_has_seen(rec):
    frame = rec.recommend(["user3", "user0"], k=4)
    assert frame.columns == ["user", "rank", "item", "name", "score", "source"]
    assert frame["user"].to_list() == ["user3"] * 4 + ["user0"] * 4
    assert frame["rank"].to_list() == [1, 2, 3, 4] * 2
    seen = set(rec.history("user3")["item"])
    mine = frame.filter(pl.col("user") == "user3")
    assert not seen & set(mine["item"])
    scores = rec.score("user3", rec.items["item"])["score"]
    best = {i for i, _ in sorted(zip(rec.items["item"], scores, strict=True),
                                 key=lambda p: -p[1]) if i not in seen}  # fmt: skip
    assert set(mine["item"]) <= best
    expected = sorted((s for i, s in zip(rec.items["item"], scores, strict=True) if i not in seen),
                      reverse=True)[:4]  # fmt: skip
    assert mine["score"].to_list() == pytest.approx(expected, abs=1e-6)
    assert set(frame["source"]) == {"model"}


def test_with_the_items_that_the_user_has_seen(rec):
    everything = rec.recommend("user3", k=len(rec.items), exclude_seen=False)
    assert set(everything["item"]) == set(rec.items["item"])
    # Fewer items than k are left without them.
    rest = rec.recommend("user3", k=len(rec.items))
    assert len(rest) == len(rec.items) - rec.data.seen.user_degrees()[3]


def test_candidates_restrict_the_catalogue(rec):
    chosen = rec.items["item"].to_list()[5:9]
    frame = rec.recommend("user3", k=10, candidates=chosen, exclude_seen=False)
    assert set(frame["item"]) == set(chosen)


def test_all_users_are_ranked_as_in_the_evaluation(rec):
    frame = rec.recommend(k=5)
    assert frame["user"].n_unique() == len(rec.users)
    _, items = top_k(
        rec.model.score_all, torch.arange(len(rec.users)), 5, len(rec.items), rec.data.seen,
        order=rec.ranker.tie_order,
    )  # fmt: skip
    trained = rec.users.with_row_index().filter(pl.col("positives") > 0)["index"].to_list()
    names = rec.items["item"]
    for number in trained[:10]:
        mine = frame.filter(pl.col("user") == rec.users["user"][number])["item"].to_list()
        assert mine == [names[i] for i in items[number].tolist()]


def test_blocks_give_the_same_as_one_frame(rec):
    whole = rec.recommend(k=3)
    blocks = list(rec.recommend_blocks(k=3, block=7))
    assert len(blocks) > 5
    assert pl.concat(blocks).equals(whole)


def test_scores_are_of_pairs(rec):
    one = rec.score("user3", ["item5", "item6"])
    assert one.columns == ["user", "item", "name", "score"]
    pairs = rec.score(["user3", "user3"], ["item5", "item6"])
    assert one.equals(pairs)
    assert rec.score(["user3", "user4"], "item5").height == 2
    with pytest.raises(DataError, match="found 2 users and 3 items, expected pairs"):
        rec.score(["user3", "user4"], ["item1", "item2", "item3"])
    with pytest.raises(DataError, match=r"did you mean user3\?"):
        rec.score("user03", "item1")


def test_a_user_without_a_training_positive_is_not_answered_by_untrained_numbers(trained: Trained):
    rec = kgrec.load(trained("model=popularity", "split=cold_users", "protocol=clean"))
    cold = rec.users.filter(pl.col("positives") == 0)["user"]
    assert len(cold) > 0
    frame = rec.recommend(cold, k=2)
    assert not (frame["source"] == "model").any()


@pytest.mark.parametrize("k", [0, -1, 10**9, 2.5, True, "3"])
def test_impossible_k(k, rec):
    with pytest.raises(DataError, match=r"k: found .* expected an integer from 1 to"):
        rec.recommend("user3", k=k)


def test_a_whole_number_of_numpy_is_a_k(rec):
    assert rec.recommend("user3", k=np.int64(3)).equals(rec.recommend("user3", k=3))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], "history of new: found no item"),
        ({}, "history: found no user"),
        ({1: ["item1"], "1": ["item2"]}, "found 2 names of which some are equal as text"),
        ({"anna": []}, "history of anna: found no item"),
        (["item1", "nope"], "found item 'nope'"),
        (pl.DataFrame({"user": ["a"], "product": ["item1"]}), "found no column item"),
        (pl.DataFrame({"user": ["a", "b"], "item": ["item1", None]}), "found 1 blank cells"),
        (5.5, "found 5.5 as an id"),
    ],
)
def test_impossible_histories(history, message, rec):
    with pytest.raises(DataError, match=message):
        rec.recommend(history=history)
    with pytest.raises(DataError, match="candidates: found no item"):
        rec.recommend("user3", candidates=[])


def test_new_users_by_their_history(rec):
    frame = rec.recommend(history={"anna": ["item1", "item2"], "ben": ["item9"]}, k=3)
    assert frame["user"].to_list() == ["anna"] * 3 + ["ben"] * 3
    assert not {"item1", "item2"} & set(frame.filter(pl.col("user") == "anna")["item"])
    assert frame["source"].n_unique() == 1
    table = pl.DataFrame({"user": ["anna", "anna", "ben"], "item": ["item1", "item2", "item9"]})
    assert rec.recommend(history=table, k=3).equals(frame)
    alone = rec.recommend(history=["item9"], k=3)
    assert alone["user"].to_list() == ["new"] * 3
    assert alone["item"].to_list() == frame["item"].to_list()[3:]
    # Known and new users in one call: the known ones come first.
    assert rec.recommend("user3", k=1, history=["item9"])["user"].to_list() == ["user3", "new"]


def test_a_score_of_a_user_without_a_training_positive_is_that_of_recommend(trained: Trained):
    rec = kgrec.load(trained("model=svd", "split=cold_users", "protocol=clean"))
    cold = rec.users.filter(pl.col("positives") == 0)["user"]
    frame = rec.recommend(cold, k=2)
    assert set(frame["source"]) == {"fold-in (steps)"}
    warm = rec.users.filter(pl.col("positives") > 0)["user"][0]
    users, items = [*frame["user"], warm], [*frame["item"], frame["item"][0]]
    scores = rec.score(users, items)["score"].to_list()
    assert scores[:-1] == pytest.approx(frame["score"].to_list(), abs=1e-4)
    assert scores[-1] == pytest.approx(rec.score(warm, items[-1])["score"][0], abs=1e-6)


def test_a_score_of_a_user_without_any_positive_is_popularity(trained: Trained):
    run = trained("model=popularity_balance", "split=cold_users", "protocol=clean")
    rec = kgrec.load(run)
    cold = rec.users.filter(pl.col("positives") == 0)["user"]
    frame = rec.recommend(cold, k=2)
    assert set(frame["source"]) == {"popularity"}
    assert rec.score(frame["user"], frame["item"])["score"].to_list() == frame["score"].to_list()


def test_new_users_of_a_model_that_cannot_fold_in(trained: Trained):
    rec = kgrec.load(trained("model=popularity_balance"))
    with pytest.raises(DataError, match="popularity_balance cannot infer the parameters"):
        rec.score("anna", "item1", history={"anna": ["item2"]})
