"""Answers of the server are those of the loaded model."""

from __future__ import annotations

import math

import polars as pl
import pytest
from conftest import Trained
from http_server import Server, running

from kgrec.inference.loaded_model import LoadedModel

CLOSE = 1e-5


def same(results: list[dict], frame: pl.DataFrame) -> None:
    """Compares results of /recommend with the frame of the loaded model."""
    rows = [
        (each["user"], item["rank"], item["item"], item["name"], each["source"])
        for each in results for item in each["items"]
    ]  # fmt: skip
    assert rows == frame.select("user", "rank", "item", "name", "source").rows()
    scores = [item["score"] for each in results for item in each["items"]]
    assert scores == pytest.approx(frame["score"].to_list(), abs=CLOSE)


def test_known_users(server: Server) -> None:
    answer = server.ok("/recommend", users=["user3", "user0", "user3"], k=7)
    assert (answer["run"], answer["model"]) == ("default", "kgcn")
    assert [each["user"] for each in answer["results"]] == ["user3", "user0", "user3"]
    same(answer["results"], server.rec.recommend(["user3", "user0", "user3"], k=7))


def test_new_users_by_ids_or_titles(server: Server) -> None:
    histories = {"anna/é": ["item1", "item2"], "": ["item9"], "user3": ["item4"]}
    answer = server.ok("/recommend", users=["user3"], histories=histories, k=4)
    assert [each["source"] for each in answer["results"]] == ["model", *["fold-in (steps)"] * 3]
    same(answer["results"][:1], server.rec.recommend("user3", k=4))
    same(answer["results"][1:], server.rec.recommend(history=histories, k=4))


def test_seen_items_are_left_out_or_not(server: Server) -> None:
    everything = len(server.rec.items)
    answer = server.ok("/recommend", users=["user3"], k=everything, exclude_seen=False)
    same(answer["results"], server.rec.recommend("user3", k=everything, exclude_seen=False))
    assert len(answer["results"][0]["items"]) == everything
    answer = server.ok("/recommend", users=["user3"], k=everything)
    same(answer["results"], server.rec.recommend("user3", k=everything))


@pytest.mark.parametrize("exclude_seen", [True, False])
def test_further_items_to_leave_out(exclude_seen: bool, server: Server) -> None:
    plain = server.rec.recommend(["user3", "user4"], k=40, exclude_seen=exclude_seen)
    best = plain.filter(pl.col("user") == "user3")["item"].to_list()[:2]
    answer = server.ok(
        "/recommend", users=["user3", "user4"], histories={"new": ["item1"]}, k=40,
        seen={"user3": best, "new": [*best, "item1"]}, exclude_seen=exclude_seen,
    )  # fmt: skip
    items = [[item["item"] for item in each["items"]] for each in answer["results"]]
    expected = plain.filter(pl.col("user") == "user3")["item"].to_list()[2:]
    assert items[0] == expected
    assert items[1] == plain.filter(pl.col("user") == "user4")["item"].to_list()
    assert not {*best, "item1"} & set(items[2])


def test_candidates(server: Server) -> None:
    chosen = [f"item{i}" for i in range(5, 9)]
    options = {"k": 10, "candidates": chosen, "exclude_seen": False}
    answer = server.ok("/recommend", users=["user3"], histories={"a": ["item1"]}, **options)
    same(answer["results"][:1], server.rec.recommend("user3", **options))
    same(answer["results"][1:], server.rec.recommend(history={"a": ["item1"]}, **options))


def test_weights_of_relations(server: Server) -> None:
    weights = {server.rec.relations["relation"][0]: 5.0, server.rec.relations["name"][1]: 0.2}
    answer = server.ok(
        "/recommend", users=["user3"], histories={"a": ["item1"]}, k=5, relation_weights=weights
    )
    rec = server.rec
    same(answer["results"][:1], rec.recommend("user3", k=5, relation_weights=weights))
    new = rec.recommend(history={"a": ["item1"]}, k=5, relation_weights=weights)
    same(answer["results"][1:], new)
    as_trained = rec.recommend("user3", k=5)["score"].to_list()
    assert [item["score"] for item in answer["results"][0]["items"]] != as_trained
    explained = server.ok("/explain", user="user3", item="item1", relation_weights=weights)
    expected = rec.explain("user3", "item1", relation_weights=weights).to_dict()
    assert explained == {"run": "default", **expected}


def test_reasons_of_recommendations(server: Server) -> None:
    answer = server.ok("/recommend", users=["user3"], histories={"a": ["item1"]}, k=3, why=True)
    for each, history in zip(answer["results"], (None, {"a": ["item1"]}), strict=True):
        for item in each["items"]:
            expected = server.rec.explain(each["user"], item["item"], history, top=3).why()
            assert item["why"] == expected


def test_untrained_users_get_popularity_or_are_folded_in(trained: Trained) -> None:
    folder = trained("model=svd", "split=cold_users", "protocol=clean")
    with running(folder) as server:
        rec = server.rec
        cold = rec.users.filter(pl.col("positives") == 0)["user"].to_list()
        warm = rec.users.filter(pl.col("positives") > 0)["user"].to_list()
        users = [cold[0], warm[0], cold[1], warm[1]]
        same(server.ok("/recommend", users=users, k=3)["results"], rec.recommend(users, k=3))
    with running(
        trained("model=popularity_balance", "split=cold_users", "protocol=clean")
    ) as server:
        answer = server.ok("/recommend", users=users, histories={"a": ["item1"]}, k=3)
        sources = {each["user"]: each["source"] for each in answer["results"]}
        assert sources[cold[0]] == sources["a"] == "popularity"
        same(answer["results"][:4], server.rec.recommend(users, k=3))
        same(answer["results"][4:], server.rec.recommend(history={"a": ["item1"]}, k=3))
        answer = server.ok("/recommend", histories={"a": ["item1"]}, k=1, why=True)
        assert answer["results"][0]["items"][0]["why"].startswith("because")
        message = server.error("/score", 422, users=["a"], items=["item1"],
                               histories={"a": ["item2"]})  # fmt: skip
        assert "cannot infer the parameters of new users" in message


def test_scores(server: Server) -> None:
    rec = server.rec
    for users, items in (
        (["user3"], ["item1", "item5"]), (["user3", "user4"], ["item1"]),
        (["user3", "user4"], ["item1", "item5"]),
    ):  # fmt: skip
        answer = server.ok("/score", users=users, items=items)
        expected = rec.score(users, items)
        rows = [(row["user"], row["item"], row["name"]) for row in answer["scores"]]
        assert rows == expected.select("user", "item", "name").rows()
        scores = [row["score"] for row in answer["scores"]]
        assert scores == pytest.approx(expected["score"].to_list(), abs=CLOSE)
    histories = {"a": ["item1", "item2"], "b": ["item3"]}
    answer = server.ok("/score", users=["b", "a"], items=["item5"], histories=histories)
    expected = rec.score(["b", "a"], ["item5"], histories)
    assert [row["user"] for row in answer["scores"]] == ["b", "a"]
    scores = [row["score"] for row in answer["scores"]]
    assert scores == pytest.approx(expected["score"].to_list(), abs=CLOSE)


def test_similar_items(server: Server) -> None:
    answer = server.ok("/similar", item="item3", k=5)
    assert answer["item"] == "item3"
    assert answer["items"] == server.rec.similar_items("item3", k=5).to_dicts()
    chosen = ["item1", "item3", "item8"]
    answer = server.ok("/similar", item="item3", k=5, candidates=chosen)
    assert answer["items"] == server.rec.similar_items("item3", 5, chosen).to_dicts()


def test_reasons(server: Server) -> None:
    answer = server.ok("/explain", user="user3", item="item7", top=2)
    assert answer == {"run": "default", **server.rec.explain("user3", "item7", top=2).to_dict()}
    assert answer["receptive_field"]["entity"]
    answer = server.ok("/explain", user="anna", item="item7", history=["item1"])
    expected = server.rec.explain("anna", "item7", ["item1"]).to_dict()
    assert answer == {"run": "default", **expected}
    unnamed = server.ok("/explain", item="item7", history=["item1"])
    assert unnamed["user"] == "new"


def test_facts_on_users_and_items(server: Server) -> None:
    rec: LoadedModel = server.rec
    answer = server.ok("/users/user3")
    assert answer["history"] == rec.history("user3").to_dicts()
    assert answer["positives"] == rec.users.filter(pl.col("user") == "user3")["positives"][0]
    answer = server.ok("/items/item3")
    row = rec.items.filter(pl.col("item") == "item3").to_dicts()[0]
    assert {key: answer[key] for key in row} == row
    assert len(answer["attributes"]) == row["triples"]
    neighbors = rec.data.neighborhood
    place = slice(int(neighbors.indptr[3]), int(neighbors.indptr[4]))
    numbers = neighbors.neighbors[place].tolist()
    number = rec.items["item"].to_list().index("item3")
    assert number == 3
    entities = rec.data.ids.entities["entity"]
    assert [each["entity"] for each in answer["attributes"]] == [entities[n] for n in numbers]


def test_search(server: Server) -> None:
    rec = server.rec
    answer = server.ok("/items?search=item1&limit=5")
    assert answer["items"][0]["item"] == "item1"  # an equal id comes first
    matches = rec.items.filter(pl.col("item").str.contains("item1", literal=True))
    assert answer["total"] == matches.height
    assert len(answer["items"]) == 5
    rest = [row["positives"] for row in answer["items"][1:]]
    assert rest == sorted(rest, reverse=True)
    everything = server.ok("/users")
    assert (len(everything["users"]), everything["total"]) == (20, len(rec.users))
    assert server.ok("/items?search=%5B.*&limit=1") == {"items": [], "total": 0}


def test_runs(server: Server) -> None:
    rec = server.rec
    (run,) = server.ok("/runs")["runs"]
    assert (run["name"], run["model"], run["dataset"]) == ("default", "kgcn", "synthetic")
    assert (run["users"], run["items"]) == (len(rec.users), len(rec.items))
    assert run["folder"] == rec.folder.resolve().name
    assert run["metrics"] == {
        name: value if math.isfinite(value) else None for name, value in rec.metrics.items()
    }
    assert run["relations"] == rec.relations.to_dicts()
    assert run["abilities"] == {"fold_in": "steps", "relation_weights": True, "similar": True}


def test_several_runs_by_name(trained: Trained, kgcn) -> None:
    with running(kgcn, f"second={trained('model=popularity')}") as server:
        assert [run["name"] for run in server.ok("/runs")["runs"]] == ["default", "second"]
        assert server.ok("/recommend", users=["user3"], run="second")["model"] == "popularity"
        assert server.ok("/recommend", users=["user3"])["model"] == "kgcn"
        assert server.ok("/users?run=second")["total"] == len(server.rec.users)
        message = server.error("/similar", 422, item="item1", run="second")
        assert "expected a model that compares items" in message
        weights = {server.rec.relations["relation"][0]: 2.0}
        message = server.error(
            "/recommend", 422, users=["user3"], run="second", relation_weights=weights
        )
        assert message.startswith("body.relation_weights: found the model popularity")
        assert "expected one of default, second" in server.error("/users?run=third", 404)
