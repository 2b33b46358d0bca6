import pytest
import torch
from conftest import small

from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.models.propagation import CollaborativeGraph, FromBuffers, propagate

# Head, relation, tail: node 4 has no edge, node 3 is its own neighbour, 0 and 1 have two edges.
TRIPLES = [(0, 0, 1), (1, 1, 0), (0, 1, 2), (3, 0, 3), (2, 0, 3)]


def graph() -> CollaborativeGraph:
    return CollaborativeGraph.from_triples(*torch.tensor(TRIPLES).T, num_nodes=5, num_relations=2)


def edges(made: CollaborativeGraph) -> list[tuple[int, int, int]]:
    columns = (made.owners, made.relations, made.others)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_every_triple_is_an_edge_in_both_directions():
    made = graph()
    expected = TRIPLES + [(tail, relation + 2, head) for head, relation, tail in TRIPLES]
    assert sorted(edges(made)) == sorted(expected)
    assert made.degrees.tolist() == [3, 2, 2, 3, 0]
    assert made.num_nodes == 5
    for place, (owner, relation, other) in enumerate(edges(made)):
        back = edges(made)[int(made.reverse[place])]
        assert back == (other, (relation + 2) % 4, owner)
        assert int(made.reverse[made.reverse[place]]) == place


def test_a_graph_without_edges():
    none = torch.tensor([], dtype=torch.long)
    made = CollaborativeGraph.from_triples(none, none, none, num_nodes=3, num_relations=1)
    assert propagate(torch.ones(3, 2), made, torch.ones(0)).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("known", [False, True])
def test_sums_and_gradients_are_those_of_a_dense_matrix(known):
    made = graph()
    torch.manual_seed(0)
    vectors = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(10, dtype=torch.float64, requires_grad=True)
    reversed_weights = weights.detach()[made.reverse] if known else None
    dense = torch.zeros(5, 5, dtype=torch.float64)
    dense = dense.index_put((made.owners, made.others), weights, accumulate=True)
    outputs = propagate(vectors, made, weights, reversed_weights), dense @ vectors
    torch.testing.assert_close(*outputs)
    factor = torch.randn(5, 3, dtype=torch.float64)
    results = [torch.autograd.grad((y * factor).sum(), (vectors, weights)) for y in outputs]
    torch.testing.assert_close(*results)


def test_weights_without_a_gradient_keep_no_vectors():
    vectors = torch.randn(5, 3, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda tensor: tensor):
        propagate(vectors, graph(), torch.ones(10)).sum()
    assert [tuple(tensor.shape) for tensor in kept] == [(10,)]


def test_the_collaborative_graph_has_users_first_and_one_relation_more():
    data = paper(small(), RandomSplit())
    made = CollaborativeGraph.from_data(data.train, data.graph)
    users, R = data.num_users, data.num_relations
    assert made.num_nodes == users + data.num_entities
    assert made.num_relations == R + 1
    positives = zip(data.train.users.tolist(), data.train.items.tolist(), strict=True)
    columns = (data.graph.heads, data.graph.relations, data.graph.tails)
    triples = zip(*(column.tolist() for column in columns), strict=True)
    expected = {(u, R, users + i) for u, i in positives}
    expected |= {(users + h, r, users + t) for h, r, t in triples}
    assert {edge for edge in edges(made) if edge[1] <= R} == expected
    assert len(made.others) == 2 * len(expected)


def test_symmetric_weights():
    weights = graph().symmetric_weights(torch.float64)
    assert float(weights[0]) == pytest.approx((3 * 2) ** -0.5)
    torch.testing.assert_close(weights, weights[graph().reverse])


def test_a_kept_value_follows_its_tensors():
    calls, kept, tensor = [], FromBuffers[int](), torch.zeros(2)

    def compute() -> int:
        calls.append(1)
        return len(calls)

    assert [kept.get(compute, tensor) for _ in range(2)] == [1, 1]
    assert kept.get(compute, tensor.add_(1)) == 2
    assert kept.get(compute, tensor, setting="other") == 3
    assert kept.get(compute, tensor.clone(), setting="other") == 4
