"""KGCN with two ends: its scores are those of the equations, and ends=item is KGCN."""

import logging
from dataclasses import replace

import pytest
import torch
from reference_kgcn import dot
from reference_kgcn import score as literal_score

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.errors import SettingError
from kgrec.models.kgcn import KGCN
from kgrec.models.kgcn.aggregators import Sum
from kgrec.models.kgcn.two_ends import USER_PART, KGCNTwoEnds
from kgrec.models.reasons import LEAVE_ONE_OUT, NONE
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender

USERS, ITEMS, D = 4, 3, 3
# Items 0-2 and attributes 3, 4; item 2 has no neighbour.
GRAPH = KnowledgeGraph(
    torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1]), torch.tensor([3, 4, 3, 0]), 5, 2
)
# Users 0-3 and values 4, 5; user 3 has no neighbour, users 0 and 2 are linked.
USER_GRAPH = KnowledgeGraph(
    torch.tensor([0, 1, 2, 1, 0]),
    torch.tensor([0, 0, 1, 1, 2]),
    torch.tensor([4, 4, 5, 5, 2]),
    6,
    3,
)
PAIRS = torch.tensor([0, 1, 2, 3, 3, 0]), torch.tensor([0, 1, 2, 0, 2, 2])


def make(ends: str, spread: float = 1.0, **settings: object) -> KGCNTwoEnds:
    """A model in float64 whose parameters are all of a size that matters."""
    torch.manual_seed(0)
    around, of_users = GRAPH.neighborhood(), USER_GRAPH.neighborhood()
    if isinstance(K := settings.get("user_K"), int):
        of_users = of_users.sample(K, generator(0, "test"))
    user_graph = () if ends == "item" else (3, *of_users)
    model = KGCNTwoEnds(USERS, ITEMS, 2, *around, *user_graph, ends=ends, d=D, **settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.2, 0.7 * spread)
    return model


def literal_end(end: KGCN, reader: torch.Tensor, own: torch.Tensor, node: int) -> list:
    """One end's representation of a node, by Algorithm 1 of the paper, one scalar at a time.

    The literal score is the product of the attending vector and the representation. So the
    representation's coordinates are read by changing nothing but the last product.
    """
    ends, graph = end.indptr.tolist(), end.neighborhood
    edges = list(zip(graph.relations.tolist(), graph.neighbors.tolist(), strict=True))
    layers = [([list(row) for row in a.linear.weight], list(a.linear.bias)) for a in end.layers]
    parts = []
    for coordinate in range(D):
        # The last layer alone decides what is read: all rows but one are zero.
        W, b = layers[-1]
        only = [row if i == coordinate else [0 * w for w in row] for i, row in enumerate(W)]
        bias = [x if i == coordinate else 0 * x for i, x in enumerate(b)]
        product = literal_score(
            list(reader), node, [list(row) for row in own],
            [list(row) for row in end.relation_embedding],
            {v: edges[ends[v] : ends[v + 1]] for v in range(len(ends) - 1)},
            [*layers[:-1], (only, bias)], "sum" if end.attention else "avg", end.scaling,
        )  # fmt: skip
        parts.append(product / reader[coordinate])
    return parts


def literal(model: KGCNTwoEnds, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Scores by the equations of the module, pair by pair."""
    scores = []
    for user, item in zip(users.tolist(), items.tolist(), strict=True):
        u, v = model.user_embedding.weight[user], model.entity_embedding.weight[item]
        left, right = list(u), list(v)
        if model.ends != "user":
            right = literal_end(model, u, model.entity_embedding.weight, item)
        if model.ends != "item":
            left = literal_end(model.user_end, v, model.user_embedding.weight, user)
        scores.append(dot(left, right))
        if model.item_bias is not None:
            scores[-1] = scores[-1] + model.item_bias.weight[item, 0]
    return torch.stack(scores)


@pytest.mark.parametrize("ends", ["item", "user", "both"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"H": 2, "user_H": 2},
        {"aggregator": "avg", "item_bias": True},
        {"scaling": "released", "user_K": 2},
    ],
    ids=str,
)
def test_scores_and_gradients_are_those_of_the_equations(ends, settings):
    model = make(ends, **settings)
    scores, expected = model.score(*PAIRS), literal(model, *PAIRS)
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(Recommender.score_all(model, PAIRS[0]), model.score_all(PAIRS[0]))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    both = [
        torch.autograd.grad(s.square().sum(), list(trained.values()), allow_unused=True)
        for s in (scores, expected)
    ]
    for name, mine, theirs in zip(trained, *both, strict=True):
        zero = torch.zeros_like(trained[name])
        first, second = (zero if g is None else g for g in (mine, theirs))
        torch.testing.assert_close(first, second, msg=name)


@pytest.fixture
def with_users(dataset: RecDataset) -> RecDataset:
    """The data set with two attributes for every user but user 3, and links between users."""
    U = dataset.num_users
    users = torch.tensor([u for u in range(U) if u != 3])
    heads = torch.cat([users, users, torch.tensor([0, 1])])
    tails = torch.cat([U + users % 3, U + 3 + users % 2, torch.tensor([5, 6])])
    relations = torch.cat([0 * users, 0 * users + 1, torch.tensor([2, 2])])
    return replace(dataset, user_graph=KnowledgeGraph(heads, relations, tails, U + 5, 3))


def parts(rows: LabelledRows) -> PointwiseBatch:
    return PointwiseBatch(rows.users, rows.items, rows.labels)


def test_ends_item_is_kgcn(with_users):
    torch.manual_seed(5)
    mine = KGCNTwoEnds.from_dataset(with_users, ends="item", K=3, H=2)
    torch.manual_seed(5)
    kgcn = KGCN.from_dataset(with_users, K=3, H=2)
    assert mine.state_dict().keys() == kgcn.state_dict().keys()
    for name, tensor in kgcn.state_dict().items():
        assert torch.equal(mine.state_dict()[name], tensor), name
    users, items, labels = parts(with_users.val)
    assert torch.equal(mine.score(users, items), kgcn.score(users, items))
    assert torch.equal(mine.score_all(users, mine.encode()), kgcn.score_all(users, kgcn.encode()))
    batch = PointwiseBatch(users, items, labels)
    assert torch.equal(mine.loss(batch), kgcn.loss(batch))


@pytest.mark.parametrize("ends", ["user", "both"])
def test_every_used_parameter_is_trained_and_the_checkpoint_has_each_table_once(with_users, ends):
    torch.manual_seed(0)
    model = KGCNTwoEnds.from_dataset(with_users, ends=ends)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    batch, losses = parts(with_users.val), []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    for name, parameter in model.named_parameters():
        used = ends == "both" or name.startswith(("user_", "of_users", "entity_embedding"))
        assert parameter.requires_grad == used
        assert not used or parameter.grad.abs().sum() > 0, name
    tables = [t for t in model.state_dict().values() if len(t) == with_users.num_users + 5]
    assert len(tables) == 1
    again = rebuild(model.recipe(), model.state_dict())
    users, items, _ = parts(with_users.test)
    assert torch.equal(again.score(users, items), model.score(users, items))


def test_a_user_without_neighbours_has_none():
    model = make("user")
    u, v = model.user_embedding.weight[3], model.entity_embedding.weight
    expected = v[:ITEMS] @ model.user_end.layers[0](u[None], torch.zeros(1, D).double())[0]
    torch.testing.assert_close(model.score_all(torch.tensor([3]))[0], expected)


@pytest.mark.parametrize("ends", ["user", "both"])
@pytest.mark.parametrize("spread", [1.0, 60.0])
def test_ranking_equals_scoring_pairs_at_any_spread_and_with_repeated_users(ends, spread):
    for settings in ({}, {"H": 2, "user_H": 2}, {"aggregator": f"{__name__}.Doubled"}):
        model = make(ends, spread, **settings)
        users = torch.tensor([2, 0, 3, 0])
        everything = model.score_all(users, model.encode())
        torch.testing.assert_close(everything, Recommender.score_all(model, users))


class Doubled(Sum):
    """An aggregator of the user's own, which ranking calls."""

    def forward(self, own: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        return super().forward(2 * own, pooled)


def test_neighbourhoods_of_both_ends_are_drawn_again(with_users):
    model = KGCNTwoEnds.from_dataset(with_users, K=2, user_K=2, neighbors="resampled")
    before = model.neighbors.clone(), model.user_end.neighbors.clone()
    model.resample(generator(1, "epoch"))
    assert not torch.equal(model.neighbors, before[0])
    assert not torch.equal(model.user_end.neighbors, before[1])


def test_reasons_are_paths_and_the_part_of_the_user_graph():
    model = make("both")
    reasons = model.explain(0, 0, torch.tensor([1]))
    with torch.no_grad():
        score = model.score(torch.tensor([0]), torch.tensor([0]))
        v, u = model.entity_embedding.weight[:1], model.user_embedding.weight[:1]
        item = model.represent(u, torch.tensor([0]))[0]
        alone = model.user_end.layers[0](u, torch.zeros_like(u))[0]
        u_v = model.user_end.represent(v, torch.tensor([0]))[0]
        item_alone = model.layers[0](v, torch.zeros_like(v))[0]
    assert reasons.method == LEAVE_ONE_OUT
    assert reasons.score == pytest.approx(float(score))
    assert reasons.parts[USER_PART] == pytest.approx(float((u_v - alone) @ item))
    assert reasons.together == pytest.approx(float(u_v @ (item - item_alone)))
    assert {term.steps[0].entity for term in reasons.terms} == {1, 3, 4}
    lone = make("user").explain(3, 0, torch.tensor([1]))
    assert (lone.method, lone.terms, lone.parts) == (NONE, (), {USER_PART: 0.0})


def test_without_a_user_graph_user_is_refused_and_both_is_item(dataset, caplog):
    with pytest.raises(SettingError, match=r"ends: found 'user' .*dataset.user_graph=use"):
        KGCNTwoEnds.from_dataset(dataset, ends="user")
    with caplog.at_level(logging.WARNING):
        model = KGCNTwoEnds.from_dataset(dataset)
    assert model.arguments["ends"] == "item"
    assert "found no user graph" in caplog.text


def test_a_history_is_for_the_item_end_alone(with_users):
    KGCNTwoEnds.from_dataset(with_users, ends="item", history="own")
    with pytest.raises(SettingError, match="history: found 'own' with ends=both, expected null"):
        KGCNTwoEnds.from_dataset(with_users, history="own")


@pytest.mark.parametrize("ends", ["user", "both"])
def test_new_users_have_no_neighbours_in_the_user_graph(with_users, ends):
    model = KGCNTwoEnds.from_dataset(with_users, ends=ends)
    rows = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 5])
    folded = model.fold_in(Interactions.from_pairs(*rows, 2, with_users.num_items))
    assert folded.user_embedding.weight.shape == (2, 32)
    assert folded.user_end.indptr.tolist() == [0, 0, 0]
    users = torch.tensor([1, 0])
    torch.testing.assert_close(folded.score_all(users), Recommender.score_all(folded, users))
    again = rebuild(folded.recipe(), folded.state_dict())
    assert torch.equal(again.score_all(users), folded.score_all(users))
    assert len(model.user_embedding.weight) == with_users.num_users + 5


def test_a_new_item_is_scored_by_its_neighbours_and_another_item_as_before():
    model = make("both")
    edges = Neighborhood(torch.tensor([0, 2]), torch.tensor([3, 4]), torch.tensor([0, 1]))
    more, users = model.add_items(edges, torch.tensor([-1])), torch.arange(USERS)
    scores = more.score_all(users)
    torch.testing.assert_close(scores[:, :ITEMS], model.score_all(users))
    torch.testing.assert_close(scores, Recommender.score_all(more, users))
    with pytest.raises(SettingError, match="ends: found 'user', expected item or both"):
        make("user").add_items(edges, torch.tensor([-1]))


def test_relations_of_the_knowledge_graph_are_reweighed():
    model, users = make("both"), torch.arange(USERS)
    with torch.no_grad():
        heavy = model.reweighed(torch.tensor([3.0, 1.0]))
        assert not torch.equal(heavy.score_all(users), model.score_all(users))
        assert torch.equal(heavy.score_all(users, model.encode()), heavy.score_all(users))
        torch.testing.assert_close(heavy.score_all(users), Recommender.score_all(heavy, users))
    assert not make("user").weighs_relations
    with pytest.raises(SettingError, match="ends: found 'user', expected item or both"):
        make("user").reweighed(torch.ones(2))


def test_the_memory_estimate_counts_the_user_end(with_users):
    items = torch.arange(with_users.num_items)
    one, two = (KGCNTwoEnds.from_dataset(with_users, ends=ends) for ends in ("item", "both"))
    assert (two.bytes_per_row(items) > one.bytes_per_row(items)).all()
