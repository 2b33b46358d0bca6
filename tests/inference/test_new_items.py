"""Items that were added after the training."""

import polars as pl
import pytest
import torch
from conftest import Trained

import kgrec
from kgrec.errors import DataError


@pytest.fixture(params=["1", "2"])
def hops(request):
    return request.param


def neighbors(rec, item):
    """Triples of an item, as (relation, entity) of raw ids."""
    ids, triples = rec.data.ids, rec.data.triples
    own = triples[triples[:, 0] == item]
    return [(ids.relations["relation"][r], ids.entities["entity"][t]) for _, r, t in own.tolist()]


def copies(rec, item, name="copy"):
    """Triples of a new item with the neighbours of an old one."""
    rows = [(name, r, t, "A copy") for r, t in neighbors(rec, item)]
    return pl.DataFrame(rows, schema=["head", "relation", "tail", "name"], orient="row")


def test_a_new_item_scores_as_an_item_with_a_vector_of_zeros(trained: Trained, hops):
    run = trained("model.K=all", f"model.H={hops}")
    rec = kgrec.load(run)
    item = next(i for i in range(40) if neighbors(rec, i))
    added = kgrec.load(run, extra_triples=copies(rec, item))
    assert len(added.items) == len(rec.items) + 1
    assert added.items["name"][-1] == "A copy"
    assert added.notes == ["extra triples: 1 new item"]
    # Old items score as before.
    users, items = rec.users["user"].head(5), rec.items["item"]
    for user in users:
        assert torch.allclose(
            torch.tensor(added.score(user, items)["score"].to_list()),
            torch.tensor(rec.score(user, items)["score"].to_list()), atol=1e-6,
        )  # fmt: skip
    # With its own vector set to 0, the old item is the new one, unless it is its own neighbour.
    with torch.no_grad():
        if hops == "1":
            rec.model.entity_embedding.weight[item] = 0
            old = rec.score(users, rec.items["item"][item])["score"].to_list()
            assert added.score(users, "copy")["score"].to_list() == pytest.approx(old, abs=1e-6)
    frame = added.recommend(users, k=len(added.items))
    ranked = dict(frame.filter(pl.col("item") == "copy").select("user", "score").iter_rows())
    scored = added.score(users, "copy")
    for user, score in scored.select("user", "score").iter_rows():
        assert ranked[user] == pytest.approx(score, abs=1e-5)


def test_a_new_item_may_be_found_by_its_title(trained: Trained):
    run = trained("model.K=4")
    rec = kgrec.load(run)
    item = next(i for i in range(40) if neighbors(rec, i))
    added = kgrec.load(run, extra_triples=copies(rec, item))
    assert added.score("user3", "a copy")["item"].to_list() == ["copy"]
    assert added.history("user3").equals(rec.history("user3"))


def test_an_entity_of_the_training_becomes_an_item(trained: Trained):
    run = trained("model.K=all")
    rec = kgrec.load(run)
    entity = rec.data.ids.entities["entity"][len(rec.items)]
    item = next(i for i in range(40) if neighbors(rec, i))
    relation, tail = next((r, t) for r, t in neighbors(rec, item) if t != entity)
    triples = pl.DataFrame({"head": [entity], "relation": [relation], "tail": [tail]})
    added = kgrec.load(run, extra_triples=triples)
    old = rec.model.entity_embedding.weight[len(rec.items)]
    assert torch.equal(added.model.entity_embedding.weight[len(rec.items)], old)
    degrees = rec.data.graph.neighborhood().degrees
    known = int(degrees[len(rec.items)])
    assert added.items["triples"][-1] >= known
    assert added.recommend("user3", k=len(added.items))["item"].n_unique() > 0


def test_what_says_nothing_of_a_new_item_is_left_out_and_counted(trained: Trained, tmp_path):
    run = trained("model.K=all")
    rec = kgrec.load(run)
    item = next(i for i in range(40) if neighbors(rec, i))
    relation, tail = neighbors(rec, item)[0]
    old = rec.items["item"][0]
    file = tmp_path / "new.csv"
    file.write_text(
        "head,relation,tail\n"
        f"n1,{relation},{tail}\nn1,{relation},nothing\nn1,made up,{tail}\n{old},{relation},{tail}\n"
        f",{relation},{tail}\n"
    )
    notes = kgrec.load(run, extra_triples=file).notes
    assert notes == [
        "extra triples: 1 new item",
        "extra triples: 1 left out, because of blank cells",
        "extra triples: 1 left out, because of heads that are items already",
        "extra triples: 1 left out, because of unknown relations",
        "extra triples: 1 left out, because of unknown tails",
    ]
    file.write_text(f"head,relation,tail\nn1,{relation},nothing\n")
    with pytest.raises(DataError, match=r"found no triple of a new item.*1 with unknown tails"):
        kgrec.load(run, extra_triples=file)
    with pytest.raises(DataError, match="extra triples: found no column tail"):
        kgrec.load(run, extra_triples=pl.DataFrame({"head": ["a"], "relation": ["b"]}))
    new = kgrec.load(run, extra_triples=copies(rec, item).lazy())
    with pytest.raises(DataError, match="item copy: found an item without a vector"):
        new.similar_items("copy")
    with pytest.raises(DataError, match="found svd, expected a model that scores items without"):
        kgrec.load(trained("model=svd"), extra_triples=copies(rec, item))
