from pathlib import Path

import pytest
import torch

from kgrec.data import cache
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.models.transe_pretraining import Pretrained, pretrained_transe, train_transe


def planted() -> KnowledgeGraph:
    """80 heads in 10 classes; each of 4 relations leads all of a class to one tail of its own."""
    head, relation = torch.arange(80).repeat(4), torch.arange(4).repeat_interleave(80)
    return KnowledgeGraph(head, relation, 80 + 10 * relation + head % 10, 120, 4)


def same(one: Pretrained, other: Pretrained) -> bool:
    tensors = zip(one[:2], other[:2], strict=True)
    return all(torch.equal(a, b) for a, b in tensors) and one.metrics == other.metrics


def test_held_out_links_are_predicted():
    before = torch.random.get_rng_state()
    trained = train_transe(planted(), d=16, epochs=200, held_out=0.1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert trained.metrics["hits@10"] > 0.9
    assert trained.metrics["mean_rank"] < 5
    untrained = train_transe(planted(), d=16, epochs=0, held_out=0.1)
    assert untrained.metrics["hits@10"] < 0.2
    assert untrained.metrics["mean_rank"] > 40


def test_an_entity_without_a_triple_has_the_zero_vector():
    graph = KnowledgeGraph(*torch.tensor([[0, 1], [0, 0], [1, 3]]), 5, 1)
    trained = train_transe(graph, d=4, epochs=3, held_out=0)
    assert (trained.entities.norm(dim=1) > 0).tolist() == [True, True, False, True, False]
    assert set(trained.metrics) == {"loss"}
    empty = KnowledgeGraph(*torch.zeros(3, 0, dtype=torch.int64), 5, 1)
    assert not train_transe(empty, d=4, epochs=3).entities.any()


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    pretrained(tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    return folder


def pretrained(folder: Path | None, **settings) -> Pretrained:
    settings = {"d": 4, "epochs": 2, "held_out": 0.1, "seed": 0} | settings
    return pretrained_transe(planted(), **settings, cache=folder, name="toy")


def test_the_cache_returns_the_trained_vectors(entry, monkeypatch):
    expected = pretrained(None)
    monkeypatch.setattr("kgrec.models.transe_pretraining.train_transe", None)
    assert same(pretrained(entry.parent), expected)
    (listed,) = cache.entries(entry.parent)
    assert (listed.name, listed.usable, listed.counts["triples"]) == ("toy-transe", True, 320)


@pytest.mark.parametrize("change", [{"d": 5}, {"epochs": 3}, {"held_out": 0.2}, {"seed": 1}])
def test_other_settings_have_another_cache_entry(change, entry):
    expected = pretrained(None, **change)
    assert same(pretrained(entry.parent, **change), expected)
    assert len(cache.entries(entry.parent)) == 2


def test_other_code_has_another_cache_entry(entry, monkeypatch):
    monkeypatch.setattr(cache, "code_digest", lambda *modules: "".join(modules))
    pretrained(entry.parent)
    assert [listed.usable for listed in cache.entries(entry.parent)].count(True) == 1
    assert len(cache.entries(entry.parent)) == 2


def test_a_damaged_file_is_trained_again(entry, caplog):
    expected = pretrained(None)
    path = entry / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert same(pretrained(entry.parent), expected)
    assert "prepared again" in caplog.text
    caplog.clear()
    assert same(pretrained(entry.parent), expected)
    assert caplog.text == ""
