"""Scores without the named neighbour: the edge leaves the graph and attention is computed anew."""

import pytest
import torch
from conftest import small

from kgrec.data.dataset import RecDataset
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.inference.fidelity import _without, fidelity
from kgrec.models.kgcn import KGCN


@pytest.fixture
def dataset() -> RecDataset:
    return clean(small(), RandomSplit())


def model_of(dataset: RecDataset, H: int) -> KGCN:
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, K="all", H=H, d=4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


@pytest.mark.parametrize("H", [1, 2])
def test_an_edge_less_is_a_model_of_a_smaller_graph(H, dataset):
    model = model_of(dataset, H)
    nobody = torch.empty(0, dtype=torch.int64)
    items, entities, expected = [0, 5, 9], [], []
    for item in items:
        terms = [t for t in model.explain(3, item, nobody).terms if len(t.steps) == 1]
        entities.append(terms[0].steps[0].entity)
        row = slice(int(model.indptr[item]), int(model.indptr[item + 1]))
        kept = torch.ones(len(model.neighbors), dtype=torch.bool)
        kept[row] = model.neighbors[row] != entities[-1]
        gone = int((~kept).sum())
        assert gone >= 1
        indptr = model.indptr.clone()
        indptr[item + 1 :] -= gone
        smaller = KGCN(
            dataset.num_users, dataset.num_items, dataset.num_relations, indptr,
            model.neighbors[kept], model.relations[kept], d=4, H=H,
        )  # fmt: skip
        state = {n: v for n, v in model.state_dict().items() if n in dict(model.named_parameters())}
        smaller.load_state_dict(state, strict=False)
        expected.append(smaller.score_of(3, item))
    with torch.no_grad():
        assert _without(model, 3, items, entities) == pytest.approx(expected, abs=1e-5)
    assert model.score_of(3, 0) != pytest.approx(expected[0])  # the model itself stays


def test_the_named_neighbour_matters_more_than_another(dataset):
    model = model_of(dataset, 1)
    users = torch.arange(10)
    items = torch.stack([torch.randperm(dataset.num_items)[:5] for _ in users])
    items[0, -1] = -1
    result = fidelity(model, users, items)
    assert result.pairs == 49
    assert result.named > result.random
    assert result.better > 0.5
    assert result == fidelity(model, users, items)


def test_items_with_one_neighbour_have_nothing_to_compare(dataset):
    graph = KnowledgeGraph(torch.tensor([0]), torch.tensor([0]), torch.tensor([5]), 6, 1)
    model = KGCN(2, 3, 1, *graph.neighborhood(), d=2)
    with pytest.raises(ValueError, match="no item with two neighbours"):
        fidelity(model, torch.tensor([0]), torch.tensor([[0, 1]]))
