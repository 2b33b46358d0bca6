import math

import pytest
import torch

from kgrec.data.batches import PairwiseBatch, TripleBatch
from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.models.kgat.model import KGAT
from kgrec.models.reasons import Step

# 3 users, 4 items of 6 entities, 2 relations; nodes 0 to 2 are users, 3 to 8 entities.
POSITIVES = [(0, 0), (0, 2), (1, 2), (2, 0), (2, 1)]
TRIPLES = [(0, 0, 4), (0, 1, 5), (1, 0, 4), (2, 1, 2), (5, 0, 3)]  # one is a self-loop
INTERACT, R = 2, 3  # relations of the graph with "interact"; relation r has the inverse r + R
EDGES = [(u, INTERACT, 3 + i) for u, i in POSITIVES] + [(3 + h, r, 3 + t) for h, r, t in TRIPLES]
EDGES = EDGES + [(tail, relation + R, head) for head, relation, tail in EDGES]

PAIRS = PairwiseBatch(*torch.tensor([[0, 1, 2], [0, 2, 1], [1, 3, 2]]))
# The corruptions: a tail, a head, and the same triple.
BATCH = TripleBatch(*torch.tensor([[0, 5, 2], [0, 0, 1], [4, 3, 2], [0, 1, 2], [2, 3, 2]]))

AGGREGATORS = ["bi-interaction", "gcn", "graphsage"]
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def model(**settings) -> KGAT:
    torch.manual_seed(0)
    heads, relations, tails = torch.tensor(EDGES[: len(EDGES) // 2]).T
    settings = {"d": 3, "layers": [4, 2]} | settings
    made = KGAT(3, 4, 6, 2, heads, relations, tails, **settings).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def times(vector: list[float], matrix: list[list[float]]) -> list[float]:
    """The row vector times the matrix."""
    return [
        sum(x * row[k] for x, row in zip(vector, matrix, strict=True))
        for k in range(len(matrix[0]))
    ]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def literal_attention(made: KGAT) -> dict[tuple[int, int, int], float]:
    """Eq. 4 and 5."""
    e, relation = made.kge.entity_embedding.weight.tolist(), made.kge.relation_embedding.weight
    logits = {}
    for h, r, t in EDGES:
        W = made.kge.matrices[r].tolist()
        moved = zip(times(e[h], W), relation[r].tolist(), strict=True)
        logits[h, r, t] = dot(times(e[t], W), [math.tanh(x + y) for x, y in moved])
    totals = {h: sum(math.exp(x) for (g, _, _), x in logits.items() if g == h) for h, _, _ in EDGES}
    return {edge: math.exp(x) / totals[edge[0]] for edge, x in logits.items()}


def dense(layer: torch.nn.Linear, inputs: list[float]) -> list[float]:
    """LeakyReLU of the linear layer."""
    rows = zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    return [y if y > 0 else 0.2 * y for y in (dot(row, inputs) + bias for row, bias in rows)]


def literal_vectors(made: KGAT, removed=(), node=None) -> list[list[float]]:
    """e* of every node, Eq. 3 and 6 to 11; ``node`` does not read its edges ``removed``."""
    attention = literal_attention(made)
    kind = made.arguments["aggregator"]
    layers = [made.kge.entity_embedding.weight.tolist()]

    def aggregate(layer, own, others, h, without=()):
        e_N = [0.0] * len(own)
        for edge in EDGES:
            if edge[0] == h and edge not in without:
                e_N = [x + attention[edge] * y for x, y in zip(e_N, others[edge[2]], strict=True)]
        if kind == "graphsage":
            return dense(layer.linear, own + e_N)
        both = list(zip(own, e_N, strict=True))
        out = dense(layer.linear, [x + y for x, y in both])
        if kind == "bi-interaction":
            more = dense(layer.product, [x * y for x, y in both])
            out = [x + y for x, y in zip(out, more, strict=True)]
        return out

    own = None if node is None else [layers[0][node]]
    for layer in made.layers:
        if own is not None:
            own.append(aggregate(layer, own[-1], layers[-1], node, removed))
        layers.append([aggregate(layer, layers[-1][h], layers[-1], h) for h in range(9)])

    def joined(parts):
        unit = [[x / math.sqrt(dot(part, part)) for x in part] for part in parts[1:]]
        return sum(unit, parts[0])

    if own is not None:
        return joined(own)
    return [joined([layer[h] for layer in layers]) for h in range(9)]


def minus_log_sigmoid(x: float) -> float:
    return -math.log(1 / (1 + math.exp(-x)))


def literal_g(made: KGAT, h: int, r: int, t: int) -> float:
    """Eq. 1, of nodes."""
    e, W = made.kge.entity_embedding.weight.tolist(), made.kge.matrices[r].tolist()
    parts = (times(e[h], W), made.kge.relation_embedding.weight[r].tolist(), times(e[t], W))
    return sum((x + y - z) ** 2 for x, y, z in zip(*parts, strict=True))


def literal_loss(made: KGAT) -> tuple[float, float]:
    """Eq. 12, and Eq. 2 with a corrupted head as a corrupted tail of the inverse relation."""
    e = literal_vectors(made)
    pairs = list(zip(*(column.tolist() for column in PAIRS), strict=True))
    ranking = [minus_log_sigmoid(dot(e[u], e[3 + i]) - dot(e[u], e[3 + j])) for u, i, j in pairs]

    def g(h, r, t):
        return literal_g(made, h, r, t)

    graph = []
    for h, r, t, false_h, false_t in zip(*(column.tolist() for column in BATCH), strict=True):
        if false_h != h:
            graph.append(minus_log_sigmoid(g(3 + t, r + R, 3 + false_h) - g(3 + t, r + R, 3 + h)))
        else:
            graph.append(minus_log_sigmoid(g(3 + h, r, 3 + false_t) - g(3 + h, r, 3 + t)))
    for u, i, j in pairs:
        graph.append(minus_log_sigmoid(g(u, INTERACT, 3 + j) - g(u, INTERACT, 3 + i)))
        back = INTERACT + R
        graph.append(minus_log_sigmoid(g(3 + j, back, u) - g(3 + i, back, u)))
    return sum(ranking) / 3, sum(graph) / 9


def test_attention_is_that_of_a_loop_and_adds_up_to_1():
    made = model()
    expected, graph = literal_attention(made), made.graph
    columns = (graph.owners, graph.relations, graph.others, made.attention())
    attention = {(h, r, t): x for h, r, t, x in zip(*(c.tolist() for c in columns), strict=True)}
    assert attention == pytest.approx(expected, rel=1e-9)
    sums = torch.zeros(9, dtype=torch.float64).index_add(0, graph.owners, made.attention())
    torch.testing.assert_close(sums, (graph.degrees > 0).double())


@pytest.mark.parametrize("layers", [[4], [4, 2], [2, 3, 3]])
@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_scores_are_those_of_a_loop(aggregator, layers):
    made = model(aggregator=aggregator, layers=layers)
    e = torch.tensor(literal_vectors(made), dtype=torch.float64)[:7]
    torch.testing.assert_close(made.encode().detach(), e, **CLOSE)
    torch.testing.assert_close(made.score_all(torch.arange(3)).detach(), e[:3] @ e[3:].T, **CLOSE)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_the_loss_is_that_of_a_loop(aggregator):
    made = model(aggregator=aggregator, kg_weight=0.7)
    ranking, graph = literal_loss(made)
    assert float(made.loss(PAIRS, BATCH).detach()) == pytest.approx(ranking + 0.7 * graph, rel=1e-9)


def test_gradients_are_those_of_finite_differences_with_the_attention_of_the_epoch():
    made = model(dropout=0.0)
    made.resample(torch.Generator().manual_seed(0))
    names = [name for name, _ in made.named_parameters()]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        state = dict(zip(names, values, strict=True))
        return torch.func.functional_call(made, state, (PAIRS, BATCH), strict=False)

    made.forward = made.loss  # type: ignore[method-assign]
    values = [parameter.detach().requires_grad_() for parameter in made.parameters()]
    assert torch.autograd.gradcheck(loss, values)


def test_attention_stays_in_an_epoch_and_changes_with_the_next():
    made = model(dropout=0.0)
    made.resample(torch.Generator())
    with torch.no_grad():
        made.kge.matrices.mul_(-1)  # changes attention
        flipped = model(dropout=0.0)
        flipped.kge.matrices.mul_(-1)
    stale = float(made.loss(PAIRS, BATCH).detach())
    assert stale != pytest.approx(float(flipped.loss(PAIRS, BATCH).detach()))
    assert torch.equal(made.encode(), flipped.encode())  # an evaluation has that of the parameters
    made.resample(torch.Generator())
    assert float(made.loss(PAIRS, BATCH).detach()) == pytest.approx(
        float(flipped.loss(PAIRS, BATCH).detach())
    )


def test_dropout_follows_the_generator_and_spares_the_evaluation():
    made, evaluated = model(dropout=0.5), model(dropout=0.5).encode()

    def losses(seed: int) -> list[float]:
        made.resample(torch.Generator().manual_seed(seed))
        return [float(made.loss(PAIRS, BATCH).detach()) for _ in range(3)]

    first = losses(0)
    assert len(set(first)) == 3
    assert losses(0) == first
    assert losses(1) != first
    assert torch.equal(made.encode(), evaluated)


def test_dropout_keeps_the_mean():
    made = model(dropout=0.3, layers=[400])
    made.resample(torch.Generator().manual_seed(0))
    plain = made.propagated(made.attention())[-1]
    dropped = made.propagated(made.attention(), dropped=True)[-1]
    kept = dropped != 0
    assert float(kept.double().mean()) == pytest.approx(0.7, abs=0.03)
    torch.testing.assert_close(dropped[kept], plain[kept] / 0.7)


def test_new_users_attend_to_their_items():
    made = model()
    history = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 3, 0]), 2, 4)
    folded = made.fold_in(history)
    e = made.kge.entity_embedding.weight.tolist()
    W, e_r = made.kge.matrices[INTERACT].tolist(), made.kge.relation_embedding.weight[INTERACT]
    layers = made.propagated(made.attention())
    for user, items in ((0, [1, 3]), (1, [0])):
        logits = [dot(times(e[3 + i], W), [math.tanh(x) for x in e_r.tolist()]) for i in items]
        weights = [math.exp(x) / sum(map(math.exp, logits)) for x in logits]
        own, vector = [0.0] * 3, [0.0] * 3
        for layer, table in zip(made.layers, layers, strict=False):
            rows = [table[3 + i].tolist() for i in items]
            e_N = times(weights, rows)
            both = list(zip(own, e_N, strict=True))
            parts = [dense(layer.linear, [x + y for x, y in both])]
            parts += [dense(layer.product, [x * y for x, y in both])]
            own = [x + y for x, y in zip(*parts, strict=True)]
            vector = vector + [x / math.sqrt(dot(own, own)) for x in own]
        expected = torch.tensor(vector, dtype=torch.float64)
        torch.testing.assert_close(folded.user_factors(torch.tensor(user)), expected, **CLOSE)


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_a_share_is_what_the_score_loses_without_the_neighbor(aggregator):
    made = model(aggregator=aggregator)
    user, item = 0, 2
    reasons = made.explain(user, item, torch.tensor([0, 1]))  # item 1 is no training positive
    e, attention = literal_vectors(made), literal_attention(made)
    score = dot(e[user], e[3 + item])
    assert reasons.score == pytest.approx(score)
    loop = [(5, 1, 5), (5, 1 + R, 5)]  # a self-loop is one neighbour
    expected = {
        (0, ()): ([(0, INTERACT, 3)], user),
        (None, (Step(1, 2),)): (loop, 3 + item),
    }
    assert {(term.item, term.steps) for term in reasons.terms} == set(expected)
    for term in reasons.terms:
        edges, node = expected[term.item, term.steps]
        assert term.weight == pytest.approx(sum(attention[edge] for edge in edges))
        other = e[3 + item] if node == user else e[user]
        without = dot(literal_vectors(made, edges, node), other)
        assert term.share == pytest.approx(score - without)
    ends = [literal_vectors(made, edges, node) for edges, node in expected.values()]
    assert reasons.together == pytest.approx(score - dot(*ends))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"d": 0}, r"d: found 0, expected an integer >= 1"),
        ({"layers": []}, r"layers: found \[\], expected a list of 1 to 64 integers >= 1"),
        ({"layers": [4, 0]}, r"layers: found \[4, 0\], expected a list of 1 to 64 integers >= 1"),
        ({"aggregator": "sum"}, r"aggregator: found 'sum', expected one of bi-interaction, gcn, g"),
        ({"dropout": 1.0}, r"dropout: found 1.0, expected a finite number >= 0 and < 1"),
        ({"kg_weight": -1}, r"kg_weight: found -1, expected a finite number >= 0"),
    ],
)
def test_settings_that_cannot_work(change, message):
    with pytest.raises(ConfigError, match=message):
        model(**change)
