"""Weights of relations by id and name, in recommendations, reasons and the receptive field."""

import json

import polars as pl
import pytest
import torch
from conftest import Trained

import kgrec
from kgrec.errors import DataError
from kgrec.inference.relation_weights import multipliers


@pytest.fixture
def rec(trained: Trained):
    return kgrec.load(trained("model=kgcn", "model.H=2", "model.K=all"))


@pytest.fixture
def weights(rec):
    return {rec.relations["relation"][0]: 50.0}


RELATIONS = pl.DataFrame(
    {"relation": ["film.film.actor", "film.actor.film", "genre", "Genre"],
     "name": ["actor", "actor", "genre", "kind"]}
)  # fmt: skip


def test_a_relation_is_found_by_id_then_by_name_in_any_case():
    assert multipliers({"genre": 2}, RELATIONS).tolist() == [1, 1, 2, 1]
    assert multipliers({"Genre": 2}, RELATIONS).tolist() == [1, 1, 1, 2]
    assert multipliers({" KIND ": 0.5}, RELATIONS).tolist() == [1, 1, 1, 0.5]
    assert multipliers({"Actor": 3}, RELATIONS).tolist() == [3, 3, 1, 1]  # all of the name
    assert multipliers({}, RELATIONS).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"director": 2}, "found relation 'director', expected one of the 4 relations"),
        ({"genr": 2}, r"did you mean genre\?"),
        ({"actor": 2, "film.actor.film": 3}, "found 'film.actor.film' twice"),
        ({"genre": 0}, "found 0 for genre, expected a finite number above 0"),
        ({"genre": -1.5}, "found -1.5 for genre"),
        ({"genre": float("nan")}, "found nan for genre"),
        ({"genre": float("inf")}, "found inf for genre"),
        ({"genre": 10**400}, "for genre, expected a finite number"),
        ({"genre": True}, "found True for genre"),
        ({"genre": "2"}, "found '2' for genre"),
        ({"genre": None}, "found None for genre"),
        (["genre"], r"found \['genre'\], expected a multiplier for each relation"),
    ],
)
def test_weights_that_cannot_be(weights, message):
    with pytest.raises(DataError, match=f"^relation_weights: .*{message}"):
        multipliers(weights, RELATIONS)


def test_relations_of_a_run(rec):
    assert rec.relations.columns == ["relation", "name"]
    assert rec.relations["relation"].equals(rec.data.ids.relations["relation"])
    shown = rec.explain("user3", "item5").relations
    by_id = dict(rec.relations.rows())
    assert all(by_id[row["relation"]] == row["name"] for row in shown.to_dicts())


def test_recommendations_are_those_of_the_reweighed_model(rec, weights):
    model = rec.model.reweighed(multipliers(weights, rec.relations))
    frame = rec.recommend(["user3", "user4"], k=5, relation_weights=weights)
    for user in ("user3", "user4"):
        number = rec.user_ids.numbers(user)
        scores = model.score_all(number)[0]
        mine = frame.filter(pl.col("user") == user)
        numbers = rec.item_ids.numbers(mine["item"])
        assert mine["score"].to_list() == pytest.approx(scores[numbers].tolist(), abs=1e-5)
        seen = rec.data.seen.of_users(number)[1]
        scores[seen] = -torch.inf
        assert set(numbers.tolist()) == set(scores.topk(5).indices.tolist())
    assert not frame.equals(rec.recommend(["user3", "user4"], k=5))


def test_multipliers_of_one_and_none_change_nothing(rec):
    plain = rec.recommend("user3", k=5)
    ones = dict.fromkeys(rec.relations["relation"], 1)
    assert rec.recommend("user3", k=5, relation_weights=ones).equals(plain)
    assert rec.recommend("user3", k=5, relation_weights={}).equals(plain)
    new = rec.recommend(history=["item1"], k=5)
    assert rec.recommend(history=["item1"], k=5, relation_weights=ones).equals(new)


def test_many_wishes_encode_the_items_once(rec, weights):
    rec.ranker.__dict__.pop("encoded", None)
    rankers = [rec.ranker_for(weights) for _ in range(6)]
    assert len({id(ranker.encoded) for ranker in rankers}) == 1
    frames = [rec.recommend("user3", k=5, relation_weights=weights) for _ in range(6)]
    assert "all_items" in vars(rec.ranker.encoded)
    for frame in frames[1:]:
        assert frame.drop("score").equals(frames[0].drop("score"))
        assert frame["score"].to_list() == pytest.approx(frames[0]["score"].to_list(), abs=1e-5)


@pytest.mark.parametrize(("user", "history"), [("user3", None), (None, ["item1", "item2"])])
def test_reasons_and_recommendations_have_the_same_score(rec, weights, user, history):
    best = rec.recommend(user, k=1, history=history, relation_weights=weights)
    explanation = rec.explain(user, best["item"][0], history, relation_weights=weights)
    assert explanation.score == pytest.approx(best["score"][0], abs=1e-5)
    plain = rec.explain(user, best["item"][0], history)
    (relation,) = weights
    shift = {r: torch.log(torch.tensor(weights.get(r, 1.0))).item()
             for r in rec.relations["relation"]}  # fmt: skip
    before = {row["relation"]: row["score"] for row in plain.relations.to_dicts()}
    for row in explanation.relations.to_dicts():
        expected = before[row["relation"]] + shift[row["relation"]]
        assert row["score"] == pytest.approx(expected, abs=1e-5)
    assert explanation.relations["relation"][0] == relation


@pytest.mark.parametrize("overrides", [("model=svd",), ("model=kgcn", "model.aggregator=avg")])
def test_models_without_attention_to_relations_refuse(overrides, trained: Trained):
    rec = kgrec.load(trained(*overrides))
    weights = {rec.relations["relation"][0]: 2.0}
    message = f"relation_weights: found the model {rec.name}, expected a model with attention"
    with pytest.raises(DataError, match=message):
        rec.recommend("user3", relation_weights=weights)
    with pytest.raises(DataError, match=message):
        rec.explain("user3", "item5", relation_weights=weights)


# ------------------------------------------------------------ receptive field


def test_the_receptive_field_has_the_attention_of_the_model(rec, weights):
    explanation = rec.explain("user3", "item5", relation_weights=weights)
    root = explanation.receptive_field()
    assert json.loads(json.dumps(root)) == root
    assert explanation.to_dict()["receptive_field"] == root
    assert (root["entity"], root["item"], root["relation"], root["weight"]) == (
        "item5", True, None, 1.0
    )  # fmt: skip
    terms = [t for t in explanation.reasons.terms if len(t.steps) == 1]
    expected = sorted((t.weight for t in terms), reverse=True)[: len(root["children"])]
    assert [child["weight"] for child in root["children"]] == pytest.approx(expected)
    entities = rec.data.ids.entities["entity"].to_list()
    items = rec.data.ids.items["item"].to_list()
    relations = rec.data.ids.relations["relation"].to_list()
    edges = {tuple(row) for row in rec.data.triples.tolist()}
    edges |= {(t, r, h) for h, r, t in edges}
    liked = set(rec.history("user3")["item"]) - {"item5"}

    def check(node, number):
        for child in node["children"]:
            ids = items if child["item"] else entities
            further = ids.index(child["entity"])
            relation = relations.index(child["relation"])
            assert (number, relation, further) in edges
            assert child["relation_name"] == rec.relations["name"][relation]
            if child["item"]:
                assert child["liked"] == (child["entity"] in liked)
            assert 0 < child["weight"] <= 1
            check(child, further)

    check(root, items.index("item5"))
    assert any(child["children"] for child in root["children"])
    assert any(further["item"] for child in root["children"] for further in child["children"])


def test_models_without_a_receptive_field_have_none(trained: Trained):
    for name in ("svd", "ripplenet", "popularity"):
        explanation = kgrec.load(trained(f"model={name}")).explain("user3", "item5")
        assert explanation.receptive_field() is None
        assert explanation.to_dict()["receptive_field"] is None
