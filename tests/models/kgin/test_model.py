"""KGIN against loops over users, intents, entities and relations."""

import math

import pytest
import torch

from kgrec.data.batches import PairwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.models.kgin.independence import INDEPENDENCE
from kgrec.models.kgin.model import KGIN, VARIANTS

U, V, E, R, P, D = 4, 4, 7, 2, 3, 3  # V items
POSITIVES = [(0, 0), (0, 2), (1, 2), (2, 0), (2, 1), (2, 2)]  # user 3 and item 3 have none
# Entity 6 has no triple, entity 4 has three neighbours by one relation, entity 1 a self-loop.
TRIPLES = [(0, 0, 4), (1, 0, 4), (2, 0, 4), (0, 1, 5), (2, 1, 1), (1, 1, 1), (3, 0, 5)]

Vector = list[float]


def model(variant: str = "released", H: int = 2, **settings) -> KGIN:
    torch.manual_seed(0)
    edges = [*torch.tensor(POSITIVES).T, *torch.tensor(TRIPLES).T]
    settings = {"d": D, "intents": P, "independence_weight": 0.3} | settings
    made = KGIN(U, V, E, R, *edges, H=H, variant=variant, **settings).double()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return made


def softmax(logits: Vector) -> Vector:
    total = sum(map(math.exp, logits))
    return [math.exp(logit) / total for logit in logits]


def dot(x: Vector, y: Vector) -> float:
    return sum(a * b for a, b in zip(x, y, strict=True))


def length(x: Vector) -> float:
    return math.sqrt(dot(x, x))


def alphas(made: KGIN) -> list[Vector]:
    return [softmax(row) for row in made.intent_weights.tolist()]


def intents(made: KGIN) -> list[Vector]:
    """e_p = Σ_r α(r, p) e_r."""
    e_r = made.relation_embedding.tolist()
    return [
        [sum(alpha[r] * e_r[r][k] for r in range(2 * R)) for k in range(D)]
        for alpha in alphas(made)
    ]


def gate(made: KGIN, user: Vector) -> Vector:
    """Σ_p β(u, p) e_p; in the variant of the code 1 more, with β of the free vectors."""
    e_p = intents(made)
    keys = e_p if made.variant == "paper" else made.intent_keys.tolist()
    beta = softmax([dot(key, user) for key in keys])
    mixed = [sum(beta[p] * e_p[p][k] for p in range(P)) for k in range(D)]
    return mixed if made.variant == "paper" else [1 + x for x in mixed]


def finished(made: KGIN, vector: Vector) -> Vector:
    size = length(vector)
    return vector if made.variant == "paper" or not size else [x / size for x in vector]


def literal(made: KGIN, start: list[Vector], histories: list[list[int]]):
    """Layers 0 … H of users and of entities."""
    e_r, users = made.relation_embedding.tolist(), [start]
    near: list[list[tuple[int, int]]] = [[] for _ in range(E)]
    for head, relation, tail in TRIPLES:
        near[head].append((relation, tail))
        near[tail].append((relation + R, head))
    entities = [made.entity_embedding.tolist()]
    for _ in range(made.H):
        e_u, e_v = [], []
        for own, user in zip(histories, users[-1], strict=True):
            g, vector = gate(made, user), [0.0] * D
            for item in own:
                for k in range(D):
                    vector[k] += g[k] * entities[-1][item][k] / len(own)
            e_u.append(finished(made, vector))
        for edges in near:
            vector = [0.0] * D
            for relation, other in edges:
                for k in range(D):
                    vector[k] += e_r[relation][k] * entities[-1][other][k] / len(edges)
            e_v.append(finished(made, vector))
        users.append(e_u)
        entities.append(e_v)
    return users, entities


def added(layers: list[list[Vector]]) -> torch.Tensor:
    return torch.tensor(layers, dtype=torch.float64).sum(dim=0)


def own_items(user: int) -> list[int]:
    return [item for u, item in POSITIVES if u == user]


def of_trained_users(made: KGIN):
    return literal(made, made.user_embedding.tolist(), [own_items(u) for u in range(U)])


def cosine(x: Vector, y: Vector) -> float:
    return dot(x, y) / (length(x) * length(y))


def distance_covariance(x: Vector, y: Vector) -> float:
    n = len(x)

    def centred(z: Vector) -> list[Vector]:
        a = [[abs(z[i] - z[j]) for j in range(n)] for i in range(n)]
        rows = [sum(a[i]) / n for i in range(n)]
        columns = [sum(a[i][j] for i in range(n)) / n for j in range(n)]
        return [
            [a[i][j] - rows[i] - columns[j] + sum(rows) / n for j in range(n)] for i in range(n)
        ]

    return math.sqrt(sum(map(dot, centred(x), centred(y))) / n**2)


def dependence(kind: str, vectors: list[Vector]) -> float:
    n = len(vectors)
    if kind == "mutual_information":
        shares = [softmax([cosine(x, y) / 0.2 for y in vectors]) for x in vectors]
        return sum(-math.log(shares[p][p]) for p in range(n))
    total = 0.0
    for p in range(n):
        for q in range(p + 1, n):
            x, y = vectors[p], vectors[q]
            if kind == "cosine":
                total += cosine(x, y) ** 2
            else:
                scale = math.sqrt(distance_covariance(x, x) * distance_covariance(y, y))
                total += distance_covariance(x, y) / scale
    return total


@pytest.mark.parametrize("H", [1, 2, 3])
@pytest.mark.parametrize("variant", VARIANTS)
def test_propagation_is_that_of_a_loop(variant, H):
    made = model(variant, H)
    users, entities = map(added, of_trained_users(made))
    encoded = made.encode()
    torch.testing.assert_close(encoded.users.detach(), users, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(encoded.entities.detach(), entities, rtol=1e-9, atol=1e-12)
    pairs = torch.tensor([0, 3, 2]), torch.tensor([3, 2, 0])
    scores = (users[pairs[0]] * entities[pairs[1]]).sum(-1)
    torch.testing.assert_close(made.score(*pairs).detach(), scores, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("independence", INDEPENDENCE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_loss_is_that_of_a_loop(variant, independence):
    made = model(variant, independence=independence)
    users, entities = map(added, of_trained_users(made))
    batch = PairwiseBatch(torch.tensor([0, 3, 2]), torch.tensor([2, 1, 0]), torch.tensor([3, 0, 3]))
    compared = intents(made) if variant == "paper" else made.intent_weights.tolist()
    expected = 0.3 * dependence(independence, compared)
    for user, positive, negative in zip(*(column.tolist() for column in batch), strict=True):
        margin = float(users[user] @ (entities[positive] - entities[negative]))
        expected -= math.log(1 / (1 + math.exp(-margin))) / 3
    assert float(made.loss(batch).detach()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_finite_differences(variant):
    made = model(variant)
    batch = PairwiseBatch(torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([3, 3]))
    names, values = zip(*made.named_parameters(), strict=True)

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(made, given, (batch,), strict=False)

    made.forward = made.loss  # type: ignore[method-assign]
    assert torch.autograd.gradcheck(loss, [v.detach().requires_grad_() for v in values])


def test_vectors_without_variance_have_a_finite_gradient():
    for measure in INDEPENDENCE.values():
        vectors = torch.ones(3, 4).requires_grad_()
        measure(vectors).backward()
        assert vectors.grad is not None
        assert vectors.grad.isfinite().all()


def test_a_mean_is_over_the_edges_that_are_kept():
    made = model()
    vectors, e_r = made.entity_embedding.detach(), made.relation_embedding.detach()
    for means, args in ((made.likes(), ()), (made.neighbors(), (e_r,))):
        keep_all = torch.ones(len(means.owners)).double()
        assert torch.equal(means.kept(keep_all).of(vectors, *args), means.of(vectors, *args))
    users = made.likes().owners
    kept = torch.ones(len(POSITIVES)).double()
    kept[1], kept[users == 1] = 0, 0  # user 0 keeps item 0 alone, user 1 nothing
    means = made.likes().kept(kept).of(vectors)
    torch.testing.assert_close(means[0], vectors[0])
    torch.testing.assert_close(means[1], torch.zeros(D).double())
    torch.testing.assert_close(means[2], vectors[:3].mean(dim=0))
    neighbors = made.neighbors()
    kept = torch.zeros(2 * len(TRIPLES)).double()
    kept[torch.nonzero(neighbors.owners == 4)[1:]] = 1  # without the edge to item 0
    means = neighbors.kept(kept).of(vectors, e_r)
    torch.testing.assert_close(means[4], e_r[R] * (vectors[1] + vectors[2]) / 2)
    assert (means[:4] == 0).all()


@pytest.mark.parametrize("key", ["node_dropout", "message_dropout"])
def test_dropout_depends_on_the_epoch_and_is_in_training_alone(key):
    made, plain = model(**{key: 0.5}), model()
    batch = PairwiseBatch(torch.tensor([0, 2]), torch.tensor([2, 1]), torch.tensor([3, 3]))

    def losses(epoch: int) -> list[float]:
        made.resample(torch.Generator().manual_seed(epoch))
        return [float(made.loss(batch).detach()) for _ in range(5)]

    first = losses(0)
    assert len(set(first)) > 1  # every step has a draw of its own
    assert losses(0) == first != losses(1)
    assert torch.equal(made.encode().users, plain.encode().users)
    assert torch.equal(made.eval().loss(batch), plain.loss(batch))


def test_message_dropout_keeps_the_mean():
    made, draws = model("paper", message_dropout=0.25), torch.Generator().manual_seed(0)
    dropped = made._finished(torch.ones(200, 200), draws)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("variant", VARIANTS)
def test_new_users_propagate_from_a_vector_of_zeros(variant):
    made, histories = model(variant), [[1, 3], [2]]
    history = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 3, 2]), 2, V)
    folded = made.fold_in(history)
    users, entities = map(added, literal(made, [[0.0] * D] * 2, histories))
    scores = folded.score_all(torch.tensor([0, 1]))
    torch.testing.assert_close(scores, users @ entities[:V].T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shares_of_history_items_and_weights_of_relations_are_those_of_a_loop(variant):
    made, user, item = model(variant), 2, 3
    users, entities = of_trained_users(made)
    target, own = added(entities)[item].tolist(), own_items(user)
    reasons = made.explain(user, item, torch.tensor([0, 2]))  # item 1 is not in the history
    shares = {}
    for positive in own:
        share = 0.0
        for layer in range(made.H):
            g = gate(made, users[layer][user])
            parts = {j: [a * b for a, b in zip(g, entities[layer][j], strict=True)] for j in own}
            whole = [sum(parts[j][k] for j in own) for k in range(D)]
            size = len(own) if variant == "paper" else length(whole)
            share += dot(parts[positive], target) / size
        shares[positive] = share
    assert {t.item: t.share for t in reasons.terms} == pytest.approx({0: shares[0], 2: shares[2]})
    assert reasons.parts["other positives"] == pytest.approx(shares[1])
    assert reasons.parts["user"] == pytest.approx(dot(users[0][user], target))
    assert reasons.score == pytest.approx(dot(added(users)[user].tolist(), target))
    keys = intents(made) if variant == "paper" else made.intent_keys.tolist()
    beta, alpha = softmax([dot(key, users[0][user]) for key in keys]), alphas(made)
    expected = [sum(beta[p] * (alpha[p][r] + alpha[p][r + R]) for p in range(P)) for r in range(R)]
    assert reasons.relation_scores.tolist() == pytest.approx(expected)
    assert sum(expected) == pytest.approx(1)


def test_a_user_without_a_positive_is_explained_by_its_own_vector():
    reasons = model().explain(3, 0, torch.tensor([], dtype=torch.int64))
    assert reasons.terms == ()
    assert reasons.parts["user"] == pytest.approx(reasons.score)


def test_a_graph_without_triples_leaves_the_vectors_of_items():
    edges = [*torch.tensor(POSITIVES).T, *torch.empty(3, 0, dtype=torch.int64)]
    made = KGIN(U, V, V, R, *edges, d=D)
    assert torch.equal(made.item_vectors(), made.entity_embedding)
    made.encode().users.sum().backward()
    assert made.entity_embedding.grad is not None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("intents", 0, "found 0, expected an integer >= 1"),
        ("node_dropout", 1.0, "found 1.0, expected a finite number >= 0 and < 1"),
        ("independence", "mi", "found 'mi', expected one of distance, mutual_information, cosine"),
    ],
)
def test_settings_that_cannot_work(key, value, message):
    with pytest.raises(ConfigError, match=f"{key}: {message}"):
        model(**{key: value})
