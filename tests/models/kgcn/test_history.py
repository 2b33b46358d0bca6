"""The settings ``history`` and ``item_bias``, compared with a literal re-implementation."""

import math

import pytest
import torch
from conftest import small
from kgcn_cases import GRAPH, ITEMS, RELATIONS, USERS, D, literal
from torch import nn
from torch.testing import assert_close

from kgrec.data.batches import PointwiseBatch
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.errors import SettingError
from kgrec.exporting.embeddings import vectors
from kgrec.models.folding import Rows
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgnn_ls import KGNNLS
from kgrec.models.recipes import rebuild
from kgrec.models.recommender import Recommender
from kgrec.training.lazy_adam import LazyAdam

# User 1 has one positive; user 2 has none.
POSITIVES = torch.tensor([[0, 0], [0, 1], [0, 3], [1, 2]])
OPTIONS = [(False, "own"), (False, "shared"), (True, None), (True, "shared"), (True, "own")]


def make(item_bias=False, history=None, H=1, kind=KGCN, **settings) -> KGCN:
    torch.manual_seed(0)
    users, items = POSITIVES.T.contiguous() if history else (None, None)
    model = kind(
        USERS, ITEMS, RELATIONS, *GRAPH.neighborhood(), d=D, H=H, item_bias=item_bias,
        history=history, history_users=users, history_items=items, **settings,
    ).double()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.2, 0.7)
    return model


def expected_scores(model: KGCN, users, items, training: bool) -> torch.Tensor:
    """Scores by the literal algorithm of KGCN, with user vectors that are made one by one."""
    scores = []
    for user, item in zip(users, items, strict=True):
        u = model.user_embedding.weight[user]
        if model.history is not None:
            y = model.history.embedding
            table = model.entity_embedding.weight if y is None else y.weight
            own = [i for x, i in POSITIVES.tolist() if x == user and not (training and i == item)]
            for i in own:
                u = u + table[i] / math.sqrt(len(own))
        with_u = nn.Module()
        with_u.weight = u[None]
        score = literal(Replaced(model, with_u), [0], [item])[0]
        if model.item_bias is not None:
            score = score + model.item_bias.weight[item, 0]
        scores.append(score)
    return torch.stack(scores)


class Replaced:
    """A model with another table of users."""

    def __init__(self, model, user_embedding):
        self.model, self.user_embedding = model, user_embedding

    def __getattr__(self, name):
        return getattr(self.model, name)


EVERY = [(user, item) for user in range(USERS) for item in range(ITEMS)]


@pytest.mark.parametrize("small_table", [0, 2**16])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("item_bias", "history"), OPTIONS)
def test_scores_and_gradients_equal_a_literal_computation(
    item_bias, history, training, small_table, monkeypatch
):
    monkeypatch.setattr("kgrec.models.lookup.SMALL_TABLE", small_table)
    model = make(item_bias, history)
    users, items = zip(*EVERY, strict=True)
    score = model.training_score if training else model.score
    scores = score(torch.tensor(users), torch.tensor(items))
    expected = expected_scores(model, users, items, training)
    assert_close(scores, expected, rtol=1e-9, atol=1e-12)
    weights = torch.linspace(0.5, 1.5, len(users), dtype=torch.float64)
    parameters = list(model.parameters())
    ours = torch.autograd.grad((scores * weights).sum(), parameters)
    theirs = torch.autograd.grad((expected * weights).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("kind", [KGCN, KGNNLS])
@pytest.mark.parametrize("history", ["own", "shared"])
def test_the_loss_of_a_positive_does_not_read_its_own_vector(history, kind):
    model = make(True, history, kind=kind)
    if history == "shared":  # neither does v^u
        model.represent = lambda u, items: torch.ones_like(u)
    table = model.entity_embedding if history == "shared" else model.history.embedding

    def touched(user, item):
        batch = PointwiseBatch(*torch.tensor([[user], [item]]), torch.ones(1).double())
        (grad,) = torch.autograd.grad(KGCN.loss(model, batch), [table.weight])
        return torch.nonzero(grad.any(dim=1)).flatten().tolist()

    assert touched(0, 1) == [0, 3]  # a positive
    assert touched(0, 2) == [0, 1, 3]  # a negative
    assert touched(1, 2) == []  # the only positive of a user


def test_label_propagation_leaves_the_item_out_of_the_history():
    model = make(history="own", kind=KGNNLS, H=2)
    (grad,) = torch.autograd.grad(
        model.propagate(torch.tensor([0]), torch.tensor([1])).sum(),
        [model.history.embedding.weight],
        materialize_grads=True,
    )
    assert not grad[1].any()


def test_gradients_may_be_sparse():
    dense, sparse = make(True, "own"), make(True, "own")
    for module in sparse.modules():
        if isinstance(module, nn.Embedding):
            module.sparse = True
    users, items = torch.tensor(EVERY).T
    batch = PointwiseBatch(users, items, (items % 2).double())
    for model in (dense, sparse):
        model.loss(batch).backward()
    for a, b in zip(dense.parameters(), sparse.parameters(), strict=True):
        assert_close(a.grad, b.grad.to_dense())
    assert sparse.history.embedding.weight.grad.is_sparse
    LazyAdam(sparse.parameters()).step()


def test_off_by_default_and_nothing_is_drawn_for_it():
    dataset = clean(small(), RandomSplit())
    torch.manual_seed(0)
    plain = KGCN.from_dataset(dataset)
    assert plain.item_bias is None
    assert plain.history is None
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, item_bias=True, history="own")
    names = set(model.state_dict()) - set(plain.state_dict())
    assert names == {
        "item_bias.weight", "history.embedding.weight", "history.users", "history.items",
    }  # fmt: skip
    for name, tensor in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert not model.item_bias.weight.any()
    assert model.item_bias.weight.ndim == 2  # weight decay acts on it


@pytest.fixture
def dataset():
    return clean(small(), RandomSplit())


def trained_like(dataset, kind=KGCN, **settings) -> KGCN:
    """A model whose parameters are far from their initial values."""
    torch.manual_seed(0)
    model = kind.from_dataset(dataset, d=8, **settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("kind", [KGCN, KGNNLS])
@pytest.mark.parametrize(("item_bias", "history"), [(True, "own"), (True, "shared")])
def test_all_items_recipes_and_weights_of_relations(item_bias, history, kind, dataset):
    model = trained_like(dataset, kind, H=2, K=3, item_bias=item_bias, history=history)
    users = torch.tensor([0, 7, 7])
    expected = Recommender.score_all(model, users)
    assert_close(model.score_all(users, model.encode()), expected)
    with torch.no_grad():
        model.relation_embedding.mul_(1e3)  # a spread that is scored pair by pair
        assert_close(model.score_all(users, model.encode()), Recommender.score_all(model, users))
        model.relation_embedding.div_(1e3)
    again = rebuild(model.recipe(), model.state_dict())
    assert_close(again.score_all(users, again.encode()), expected)
    weights = torch.linspace(0.5, 2, dataset.num_relations)
    other = model.reweighed(weights)
    assert_close(other.score_all(users, model.encode()), Recommender.score_all(other, users))


@pytest.mark.parametrize("history", ["own", "shared"])
def test_reasons(history, dataset):
    model = trained_like(dataset, H=1, K="all", item_bias=True, history=history)
    model.layers[0].activation = lambda x: x
    reasons = model.explain(3, 5, torch.tensor([]))
    (u,) = model.user_vectors(torch.tensor([3])).detach()
    assert_close(reasons.relation_scores, model.user_relation_scores(u[None])[0].detach())
    own = model.layers[0](model.entity_vectors()[5:6], torch.zeros(1, 8))[0].detach()
    assert reasons.parts == {"item": pytest.approx(float(model.item_bias.weight[5].detach()))}
    total = sum(term.share for term in reasons.terms)
    assert total == pytest.approx(reasons.together, abs=1e-5)
    assert float(u @ own) + total + reasons.parts["item"] == pytest.approx(reasons.score, abs=1e-5)


@pytest.mark.parametrize("history", ["own", "shared"])
def test_new_users_have_the_vector_of_their_history_before_any_step(history, dataset, monkeypatch):
    model = trained_like(dataset, item_bias=True, history=history)
    new = Interactions.from_pairs(*torch.tensor([[0, 3], [0, 8], [1, 5]]).T, 2, 40)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    folded = model.fold_in(new)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(folded.history.items, torch.tensor([3, 8, 5]))
    assert folded.user_embedding.weight.any()
    saved = rebuild(folded.recipe(), folded.state_dict()).eval()
    users = torch.arange(2)
    assert_close(saved.score_all(users, saved.encode()), Recommender.score_all(folded, users))
    monkeypatch.setattr("kgrec.models.folding.BLOCK_BYTES", 1)
    by_blocks = model.fold_in(new)
    assert_close(by_blocks.score_all(users), folded.score_all(users), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("kgrec.models.folding.STEPS", 1)
    monkeypatch.setattr("kgrec.models.folding.LEARNING_RATE", 0.0)
    table = model.item_vectors() if history == "shared" else model.history.embedding.weight
    expected = torch.stack([(table[3] + table[8]) / math.sqrt(2), table[5]])
    assert_close(model.fold_in(new).all_user_vectors(), expected.detach())


def test_the_steps_of_new_users_leave_the_scored_item_out(dataset):
    model = trained_like(dataset, history="own")
    new = Interactions.from_pairs(torch.zeros(2, dtype=torch.int64), torch.tensor([3, 8]), 1, 40)
    folded = model.fold_in(new)
    rows = Rows.draw(new, seed=0)._replace(
        users=torch.tensor([0]), items=torch.tensor([3]), weights=torch.ones(1),
        pairs=torch.tensor([], dtype=torch.int64),
    )  # fmt: skip
    y = folded.history.embedding.weight
    u = folded.user_embedding.weight + y[8]
    score = (u * folded.represent(u, torch.tensor([3]))).sum() + 0.0
    assert_close(rows.loss(folded, None), 0.5 * nn.functional.softplus(-score))


@pytest.mark.parametrize("history", ["own", "shared"])
def test_a_new_item_has_the_mean_bias_and_may_be_in_a_history(history, dataset):
    model = trained_like(dataset, K="all", item_bias=True, history=history)
    entity = torch.tensor([model.num_items + 1])
    edges = Neighborhood(torch.tensor([0, 1]), entity, torch.tensor([0]))
    added = model.add_items(edges, torch.tensor([-1]))
    users = torch.tensor([0, 7])
    assert_close(added.item_bias.weight[-1, 0], model.item_bias.weight.mean())
    scores = added.score_all(users, added.encode())
    assert_close(scores[:, :-1], model.score_all(users, model.encode()))
    assert_close(scores, Recommender.score_all(added, users))
    new = Interactions.from_pairs(*torch.tensor([[0, 3], [0, 40]]).T, 1, 41)
    folded = added.fold_in(new)
    y = model.item_vectors() if history == "shared" else model.history.embedding.weight
    known = folded.user_embedding.weight[0] + y[3].detach() / math.sqrt(2)
    assert_close(folded.all_user_vectors()[0], known)
    saved = rebuild(folded.recipe(), folded.state_dict()).eval()
    assert_close(saved.score_all(torch.tensor([0])), folded.score_all(torch.tensor([0])))


@pytest.mark.parametrize("kind", [KGCN, KGNNLS])
@pytest.mark.parametrize("history", ["own", "shared"])
def test_the_loss_reaches_every_parameter_and_falls(history, kind, dataset):
    torch.manual_seed(0)
    model = kind.from_dataset(dataset, item_bias=True, history=history)
    users, items = dataset.train.users[:200], dataset.train.items[:200]
    batch = PointwiseBatch(users.repeat(2), torch.cat([items, (items + 7) % 40]),
                           torch.tensor([1.0, 0.0]).repeat_interleave(200))  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(parameter.grad.any() for parameter in model.parameters())
    assert losses[-1] < 0.9 * losses[0]


def test_vectors_of_users_contain_their_histories(dataset):
    model = trained_like(dataset, history="own")
    assert torch.equal(vectors(model)["user"], model.all_user_vectors())
    assert not torch.equal(vectors(model)["user"], model.user_embedding.weight)


def test_the_memory_estimate_counts_the_history(dataset):
    items = dataset.train.items[:5]
    plain, own = KGCN.from_dataset(dataset), KGCN.from_dataset(dataset, history="own")
    assert (own.bytes_per_row(items) > plain.bytes_per_row(items) + 24 * 32).all()


@pytest.mark.parametrize("kind", [KGCN, KGNNLS])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": True}, "history: found True, expected own, shared or null"),
        ({"history": "all"}, "history: found 'all', expected own, shared or null"),
        ({"item_bias": "no"}, "item_bias: found 'no', expected true or false"),
    ],
)
def test_settings_that_cannot_work(settings, message, kind, dataset):
    with pytest.raises(SettingError, match=message):
        kind.from_dataset(dataset, **settings)


def test_a_history_needs_training_positives():
    with pytest.raises(SettingError, match="history: found 'own' without history_users"):
        KGCN(USERS, ITEMS, RELATIONS, *GRAPH.neighborhood(), history="own")
