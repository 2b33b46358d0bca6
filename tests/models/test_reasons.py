"""Reasons: shares of single removals, sums where they are exact, and a contract for every model."""

import math

import pytest
import torch
from conftest import ROOT, composed, small
from hydra.utils import instantiate

from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.errors import SettingError
from kgrec.models import kgcn
from kgrec.models.kgcn import paths
from kgrec.models.libfm import LibFM
from kgrec.models.reasons import EXACT, LEAVE_ONE_OUT, NONE, POPULARITY, SIMILAR
from kgrec.models.ripplenet import RippleNet

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))
SIMILAR_ALONE = ("svd", "ncf", "bprmf", "lightgcn", "cke", "libfm", "libfm_transe")


@pytest.fixture
def dataset():
    return clean(small(), RandomSplit())


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


@pytest.fixture
def model(name, dataset, tmp_path):
    torch.manual_seed(0)
    cfg = composed(f"model={name}")
    cfg.paths.cache = str(tmp_path)
    model = instantiate(cfg.model, dataset)
    model.precompute(dataset)
    return model


def pair(dataset, user=7):
    """An item outside the user's history, and the history."""
    history = dataset.train.items[dataset.train.users == user]
    item = next(i for i in range(dataset.num_items) if i not in history.tolist())
    return user, item, history


def test_every_model_gives_reasons_that_its_method_can_give(name, model, dataset):
    user, item, history = pair(dataset)
    reasons = model.explain(user, item, history)
    score = float(model.score(torch.tensor([user]), torch.tensor([item])).detach())
    assert reasons.score == pytest.approx(score, abs=1e-5)
    assert reasons.method in (EXACT, LEAVE_ONE_OUT, SIMILAR, POPULARITY, NONE)
    assert (reasons.method == SIMILAR) == (name in SIMILAR_ALONE)
    for term in reasons.terms:
        assert math.isfinite(term.weight)
        assert (term.share is None) == (reasons.method == SIMILAR)
        if term.item is not None:
            assert term.item in history.tolist()
    if reasons.method == EXACT:
        total = sum(term.share for term in reasons.terms)
        assert total == pytest.approx(reasons.together, abs=1e-5)
        assert total + sum(reasons.parts.values()) == pytest.approx(score, abs=1e-5)
    keys = [t.weight if t.share is None else t.share for t in reasons.terms]
    assert keys == sorted(keys, reverse=True)


def test_the_top_reasons_are_the_first_and_the_others_are_counted(model, dataset):
    everything = model.explain(*pair(dataset))
    best = model.explain(*pair(dataset), top=2)
    assert best.terms == everything.terms[:2]
    assert len(best.terms) + best.left_out == len(everything.terms) + everything.left_out


def test_similar_items(name, model, dataset):
    vectors = model.item_vectors()
    if name in (
        "all_positive",
        "popularity",
        "popularity_balance",
        "popularity_prior",
        "unseen_item",
    ):
        assert vectors is None
        with pytest.raises(SettingError, match="expected a model that compares items"):
            model.similar_to(3)
        return
    similarities = model.similar_to(3)
    assert similarities.shape == (dataset.num_items,)
    if vectors is not None:
        assert len(vectors) == dataset.num_items
        expected = torch.cosine_similarity(vectors[3].float(), vectors[5].float(), dim=0)
        torch.testing.assert_close(similarities[5], expected)


@pytest.mark.parametrize("name", ["ease", "itemknn"])
def test_a_share_is_what_the_score_loses_without_the_history_item(name, model, dataset):
    user, item, history = pair(dataset)
    reasons = model.explain(user, item, history)
    assert reasons.terms
    for term in reasons.terms:
        kept = ~((model.users == user) & (model.items == term.item))
        users, items = model.users, model.items
        model.users, model.items = users[kept], items[kept]
        without = float(model.score(torch.tensor([user]), torch.tensor([item])).detach())
        model.users, model.items = users, items
        assert term.share == pytest.approx(reasons.score - without, abs=1e-5)


def make_kgcn(dataset, **settings):
    torch.manual_seed(1)
    model = kgcn.KGCN.from_dataset(dataset, d=4, **settings)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return model


def literal(model, user, item, removed=()):
    """ŷ by recursion over the unrolled tree of layers, without the path ``removed``."""
    u = model.user_embedding.weight[user]
    pi = model.user_relation_scores(u[None])[0]

    def edges(entity):
        start, stop = model.indptr[entity : entity + 2].tolist()
        relations, neighbors = model.relations[start:stop], model.neighbors[start:stop]
        n = stop - start
        weights = pi[relations].softmax(0) if model.attention else torch.full((n,), 1 / max(n, 1))
        if model.scaling == "released" and model.attention:
            weights = weights / n
        return list(zip(relations.tolist(), neighbors.tolist(), weights, strict=True))

    def vector(layer, path):
        entity = path[-1][1] if path else item
        if layer == 0:
            return model.entity_embedding.weight[entity]
        pooled = torch.zeros(model.d)
        for relation, neighbor, weight in edges(entity):
            longer = (*path, (relation, neighbor))
            if longer != removed:
                pooled = pooled + weight * vector(layer - 1, longer)
        return model.layers[layer - 1](vector(layer - 1, path)[None], pooled[None])[0]

    with torch.no_grad():
        return float(u @ vector(model.H, ()))


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("aggregator", ["sum", "concat", "neighbor", "avg"])
@pytest.mark.parametrize(("H", "K"), [(1, 3), (1, "all"), (2, 3), (3, 2)])
def test_shares_of_paths_equal_the_tree_without_them(dataset, H, K, aggregator, scaling):
    model = make_kgcn(dataset, H=H, K=K, aggregator=aggregator, scaling=scaling)
    user, item, history = pair(dataset)
    reasons = model.explain(user, item, history)
    assert reasons.method == LEAVE_ONE_OUT
    assert reasons.left_out == 0
    assert {len(term.steps) for term in reasons.terms} == set(range(1, H + 1))
    assert literal(model, user, item) == pytest.approx(reasons.score, abs=1e-5)
    for term in reasons.terms:
        without = literal(model, user, item, tuple(map(tuple, term.steps)))
        assert term.share == pytest.approx(reasons.score - without, abs=1e-5)
    pi = model.user_relation_scores(model.user_embedding.weight[user][None])[0]
    assert torch.equal(reasons.relation_scores, pi)


def test_shares_add_up_where_the_activation_is_linear(dataset):
    model = make_kgcn(dataset, H=1, K="all")
    model.layers[0].activation = lambda x: x
    reasons = model.explain(*pair(dataset))
    assert len(reasons.terms) > 1
    assert sum(t.share for t in reasons.terms) == pytest.approx(reasons.together, abs=1e-5)
    weights = sum(t.weight for t in reasons.terms)
    assert weights == pytest.approx(1)


def test_paths_beyond_the_limits_are_counted(dataset, monkeypatch):
    model = make_kgcn(dataset, H=2, K="all")
    everything = model.explain(*pair(dataset))
    monkeypatch.setattr(paths, "MOST_PATHS", 2)
    some = model.explain(*pair(dataset))
    assert len(some.terms) == 4
    assert some.left_out == len(everything.terms) - 4
    heaviest = max(t.weight for t in everything.terms if len(t.steps) == 1)
    assert heaviest in [t.weight for t in some.terms]
    by_path = {t.steps: t.share for t in everything.terms}
    for term in some.terms:
        assert term.share == pytest.approx(by_path[term.steps], abs=1e-6)
    monkeypatch.setattr(paths, "MOST_EXTENSIONS", 1)
    assert len(model.explain(*pair(dataset)).terms) == 4


def test_an_item_without_neighbours_has_no_reason(dataset):
    model = make_kgcn(dataset, H=2, K=3)
    user, item, history = pair(dataset)
    degrees = model.indptr.diff()
    degrees[item] = 0
    start, stop = model.indptr[item : item + 2].tolist()
    keep = torch.ones(len(model.neighbors), dtype=torch.bool)
    keep[start:stop] = False
    model.neighbors, model.relations = model.neighbors[keep], model.relations[keep]
    model.indptr = torch.cat([torch.zeros(1, dtype=torch.int64), degrees.cumsum(0)])
    reasons = model.explain(user, item, history)
    assert reasons.terms == ()
    assert reasons.left_out == 0


def test_attributes_of_libfm_add_up(dataset):
    torch.manual_seed(0)
    model = LibFM.from_dataset(dataset, attributes=True)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    user, item, history = pair(dataset)
    reasons = model.explain(user, item, history)
    assert reasons.method == EXACT
    graph = dataset.graph.neighborhood()
    assert len(reasons.terms) == int(graph.degrees[item])
    total = sum(t.share for t in reasons.terms) + sum(reasons.parts.values())
    assert total == pytest.approx(reasons.score, abs=1e-5)
    # Without a user's interest in an attribute, the score changes by its share.
    term = reasons.terms[0]
    number = model.attributes[model.offsets[item] + term.neighbor]
    x = 1 / len(reasons.terms)
    u, v = model.user_embedding.weight[user], model.attribute_embedding.weight[number]
    expected = x * float((u @ v + model.attribute_weights.weight[number, 0]).detach())
    assert term.share == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("update", ["plus_transform", "replace", "plus", "replace_transform"])
@pytest.mark.parametrize("all_hops", [True, False])
def test_shares_of_ripple_sets(dataset, update, all_hops):
    torch.manual_seed(0)
    model = RippleNet.from_dataset(dataset, d=4, H=2, memory=6, update=update, all_hops=all_hops)
    model.precompute(dataset)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    user, item, history = pair(dataset)
    reasons = model.explain(user, item, history)
    slots = model.ripples[user].long()

    def score(triple=None, attention=None):
        """The score, the vectors by which triples were weighted; without a triple."""
        v, sums, vectors = model.entity_embedding.weight[item], [], []
        for hop in range(2):
            heads = model.entity_embedding.weight[model.heads[slots[hop]]]
            matrices = model.relation_matrices[model.relations[slots[hop]]]
            vectors.append(v)
            asking = v if attention is None else attention[hop]
            p = ((matrices @ heads[:, :, None])[..., 0] @ asking).softmax(0)
            if triple is not None:
                p = torch.where(slots[hop] == triple, 0.0, p)
            sums.append(p @ model.entity_embedding.weight[model.tails[slots[hop]]])
            v = sums[-1] if update.startswith("replace") else v + sums[-1]
            v = v if model.transform is None else model.transform(v)
        return float((sum(sums if all_hops else sums[-1:]) * v).sum()), vectors

    with torch.no_grad():
        whole, attention = score()
        assert whole == pytest.approx(reasons.score, abs=1e-4)
        triples = torch.unique(slots).tolist()
        expected = [whole - score(triple, attention)[0] for triple in triples]
    assert [t.share for t in reasons.terms] == pytest.approx(sorted(expected)[::-1], abs=1e-4)
    edges = {(int(model.heads[t]), int(model.relations[t]), int(model.tails[t])) for t in triples}
    for term in reasons.terms:
        assert term.item in history.tolist()
        entity = term.item
        for relation, tail in term.steps:
            assert (entity, relation, tail) in edges
            entity = tail


def test_popularity_says_how_many(dataset):
    from kgrec.models.controls import Popularity

    model = Popularity.from_dataset(dataset)
    model.precompute(dataset)
    (term,) = model.explain(*pair(dataset)).terms
    item = pair(dataset)[1]
    assert term.weight == int(dataset.train.item_degrees()[item])
