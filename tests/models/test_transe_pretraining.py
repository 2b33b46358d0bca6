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
    return all(torch.equal(a, b) for a, b in tensors) and one.figures == other.figures


def test_links_that_were_held_out_are_found():
    before = torch.random.get_rng_state()
    found = train_transe(planted(), d=16, epochs=200, held_out=0.1)
    assert torch.equal(before, torch.random.get_rng_state())
    assert found.figures["hits@10"] > 0.9
    assert found.figures["mean_rank"] < 5
    untrained = train_transe(planted(), d=16, epochs=0, held_out=0.1)
    assert untrained.figures["hits@10"] < 0.2
    assert untrained.figures["mean_rank"] > 40


def test_an_entity_of_no_triple_has_no_vector():
    graph = KnowledgeGraph(*torch.tensor([[0, 1], [0, 0], [1, 3]]), 5, 1)
    found = train_transe(graph, d=4, epochs=3, held_out=0)
    assert (found.entities.norm(dim=1) > 0).tolist() == [True, True, False, True, False]
    assert set(found.figures) == {"loss"}
    empty = KnowledgeGraph(*torch.zeros(3, 0, dtype=torch.int64), 5, 1)
    assert not train_transe(empty, d=4, epochs=3).entities.any()


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    pretrained(tmp_path)
    (found,) = (path for path in tmp_path.iterdir() if path.is_dir())
    return found


def pretrained(folder: Path | None, **settings) -> Pretrained:
    settings = {"d": 4, "epochs": 2, "held_out": 0.1, "seed": 0} | settings
    return pretrained_transe(planted(), **settings, cache=folder, name="toy")


def test_what_is_kept_is_what_was_trained(entry, monkeypatch):
    expected = pretrained(None)
    monkeypatch.setattr("kgrec.models.transe_pretraining.train_transe", None)
    assert same(pretrained(entry.parent), expected)
    (listed,) = cache.entries(entry.parent)
    assert (listed.name, listed.usable, listed.counts["triples"]) == ("toy-transe", True, 320)


@pytest.mark.parametrize("change", [{"d": 5}, {"epochs": 3}, {"held_out": 0.2}, {"seed": 1}])
def test_other_settings_are_another_entry(change, entry):
    expected = pretrained(None, **change)
    assert same(pretrained(entry.parent, **change), expected)
    assert len(cache.entries(entry.parent)) == 2


def test_so_is_other_code(entry, monkeypatch):
    monkeypatch.setattr(cache, "code_digest", lambda *modules: "".join(modules))
    pretrained(entry.parent)
    assert [listed.usable for listed in cache.entries(entry.parent)].count(True) == 1
    assert len(cache.entries(entry.parent)) == 2


def test_a_file_cut_short_is_made_anew(entry, caplog):
    expected = pretrained(None)
    path = entry / "tensors.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert same(pretrained(entry.parent), expected)
    assert "prepared again" in caplog.text
    caplog.clear()
    assert same(pretrained(entry.parent), expected)
    assert caplog.text == ""
