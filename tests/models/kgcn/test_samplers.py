"""Samplers: what they draw, that corrected draws are unbiased, and that all of KGCN reads them."""

import copy
import math

import pytest
import torch
from conftest import ROOT, Train, composed, small
from hydra.utils import instantiate
from kgcn_cases import GRAPH, ITEMS, RELATIONS, USERS, D

from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.errors import SettingError
from kgrec.models.kgcn import KGCN, all_items
from kgrec.models.kgcn.correction import Correction, relation_counts
from kgrec.models.kgcn.neighborhood import Attention, view
from kgrec.models.kgcn.samplers import SAMPLERS, Current, Draw, make_sampler
from kgrec.models.kgcn.samplers.importance import stratified
from kgrec.models.kgcn.samplers.pagerank import personalized_pagerank
from kgrec.models.kgnn_ls import KGNNLS
from kgrec.models.lookup import weighted_sums
from kgrec.models.recipes import rebuild
from kgrec.runs.checkpoints import load_recommender

NOBODY = torch.empty(0, dtype=torch.int64)
CORRECTED = [name for name in SAMPLERS if make_sampler(name).corrected]
# One item's neighbours: entities 1 … 6 after the copies, and their relations.
AROUND, BY = [1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 2]


@pytest.fixture(scope="module")
def dataset():
    return clean(small(), RandomSplit())


def copies(n: int) -> Neighborhood:
    """n items with the same six neighbours, so that one draw is n draws; neighbours have none."""
    owners = torch.arange(n).repeat_interleave(len(AROUND))
    return Neighborhood.from_edges(
        owners, torch.tensor(AROUND).repeat(n) + n - 1, torch.tensor(BY).repeat(n), n + 6
    )


def state(n: int) -> Current:
    """Relation scores of three users, and vectors of :func:`copies` of very different norms."""
    torch.manual_seed(0)
    sizes = torch.tensor([5.0, 0.1, 1.0, 0.1, 2.0, 0.1])[:, None]
    vectors = torch.cat(
        [torch.zeros(n, 4), sizes * torch.nn.functional.normalize(torch.randn(6, 4))]
    )
    return Current(torch.randn(3, 3).double(), vectors.double())


def sums(graph: Neighborhood, draw: Draw, current: Current, user: int, n: int) -> torch.Tensor:
    """(n, d) S_u(v) of n items by KGCN's own view of a draw."""
    correction = None
    if draw.weights is not None:
        correction = Correction(draw.weights.double(), relation_counts(graph))
    attention = Attention(current.scores[user].expand(n, -1), False, torch.float64)
    leaves, groups = view(draw.neighborhood, correction).last(attention, None, torch.arange(n))
    pooled = weighted_sums(current.vectors, leaves)
    return pooled if groups is None else weighted_sums(pooled, groups)


def test_the_mean_over_all_draws_is_the_sum_over_the_full_neighbourhood():
    """q is a multiple of 1/10, so ten equally likely points give every draw of K = 2."""
    graph, current, n = copies(25), state(25), 25
    q = torch.tensor([1, 2, 1, 3, 1, 2], dtype=torch.float64) / 10
    grid = (torch.arange(5, dtype=torch.float64) + 0.5) / 5
    draw = stratified(graph, q.repeat(n), torch.cat([torch.cartesian_prod(grid, grid),
                                                     torch.zeros(6, 2).double()]))  # fmt: skip
    assert draw.neighborhood.degrees[:n].tolist() == [2] * n
    for user in range(3):
        full = sums(graph, Draw(graph), current, user, n)[0]
        estimates = sums(graph, draw, current, user, n)
        assert (estimates - full).norm(dim=1).min() > 1e-3  # no draw is exact by itself
        # Weights are stored in single precision.
        torch.testing.assert_close(estimates.mean(dim=0), full, rtol=1e-6, atol=1e-7)
        naive = sums(graph, Draw(draw.neighborhood), current, user, n)
        assert (naive.mean(dim=0) - full).norm() > 1e-2 * full.norm()  # Eq. 2 over the draw


PROPOSALS = [
    "importance",
    {"name": "importance", "proposal": "relation_balanced"},
    {"name": "importance", "proposal": "degree", "power": -0.5},
    "adaptive",
]


@pytest.mark.parametrize("spec", PROPOSALS, ids=str)
def test_many_draws_of_every_proposal_have_the_mean_of_the_full_neighbourhood(spec):
    n = 4000
    graph, current = copies(n), state(n)
    draw = make_sampler(spec).draw(graph, 3, generator(0, "test"), current)
    for user in range(3):
        full = sums(graph, Draw(graph), current, user, 1)[0]
        estimates = sums(graph, draw, current, user, n)
        error = estimates.std(dim=0) / math.sqrt(n)
        assert ((estimates.mean(dim=0) - full).abs() < 4 * error + 1e-9).all()
        assert (error > 0).all()


def test_the_adaptive_proposal_has_less_variance():
    n = 2000
    graph, current = copies(n), state(n)
    variance = {}
    for name in CORRECTED:
        draw = make_sampler(name).draw(graph, 3, generator(0, "test"), current)
        of_users = [sums(graph, draw, current, user, n).var(dim=0).sum() for user in range(3)]
        variance[name] = float(sum(of_users))
    assert variance["adaptive"] < 0.25 * variance["importance"]


def test_small_neighbourhoods_are_exact():
    graph, current = copies(2), state(2)
    for name in CORRECTED:
        draw = make_sampler(name).draw(graph, 6, generator(0, "test"), current)
        assert all(map(torch.equal, draw.neighborhood, graph))
        assert torch.equal(draw.weights, torch.ones(12))


@pytest.mark.parametrize(
    ("spec", "weights"),
    [
        ("relation_balanced", [2, 2, 2, 3, 3, 6]),
        ({"name": "degree", "power": 0.5}, [2, 1, 1, 1, 1, 1]),
        ({"name": "degree", "power": -0.5}, [0.5, 1, 1, 1, 1, 1]),
        ({"name": "degree", "power": 0}, [1, 1, 1, 1, 1, 1]),
    ],
    ids=str,
)
def test_draws_are_in_proportion_to_the_weights(spec, weights):
    n = 6000
    graph = copies(n)
    ends = torch.tensor([[n, 1], [n, 2], [n, 3], [n, 4]]).T  # entity 1 has four neighbours
    owners = torch.cat([torch.repeat_interleave(graph.degrees), ends[0]])
    graph = Neighborhood.from_edges(
        owners, torch.cat([graph.neighbors, ends[1]]),
        torch.cat([graph.relations, torch.zeros(4, dtype=torch.int64)]), n + 6,
    )  # fmt: skip
    drawn = make_sampler(spec).draw(graph, 1, generator(0, "test")).neighborhood
    shares = torch.bincount(drawn.neighbors[:n] - n, minlength=6) / n
    expected = torch.tensor(weights, dtype=torch.float32)
    torch.testing.assert_close(shares, expected / expected.sum(), rtol=0, atol=0.025)
    several = make_sampler(spec).draw(graph, 4, generator(0, "test")).neighborhood
    rows = several.neighbors[: 4 * n].view(n, 4)
    assert (rows.sort(dim=1).values.diff(dim=1) > 0).all()  # without replacement


def test_personalized_pagerank_is_that_of_the_linear_equations(dataset):
    graph = dataset.graph.neighborhood()
    E, alpha, tolerance = dataset.num_entities, 0.15, 1e-5
    step = torch.zeros(E, E, dtype=torch.float64)
    owners = torch.repeat_interleave(graph.degrees)
    step.index_put_((graph.neighbors, owners), torch.ones(len(owners)).double(), accumulate=True)
    step = step / graph.degrees.clamp(min=1)
    exact = alpha * torch.linalg.inv(torch.eye(E) - (1 - alpha) * step)  # (node, source)
    sources = torch.tensor([0, 7, 45])
    keys, values = personalized_pagerank(graph, sources, alpha, tolerance)
    approximation = torch.zeros(3 * E, dtype=torch.float64)
    approximation[keys] = values
    short = exact[:, sources].T - approximation.view(3, E)
    assert (short > -1e-12).all()
    assert (short <= tolerance * graph.degrees + 1e-12).all()
    drawn = make_sampler({"name": "ppr", "tolerance": 1e-7}).draw(graph, 3, generator(0, "test"))
    for entity in range(E):
        row = slice(*drawn.neighborhood.indptr[entity : entity + 2].tolist())
        every = slice(*graph.indptr[entity : entity + 2].tolist())
        kept = exact[drawn.neighborhood.neighbors[row], entity].sort(descending=True).values
        best = exact[graph.neighbors[every], entity].sort(descending=True).values[:3]
        torch.testing.assert_close(kept, best, rtol=1e-4, atol=0)


def literal(model: KGCN, user: int, item: int) -> torch.Tensor:
    """ŷ from corrected draws: Σ_k a_k π̃(u, r_k) e_k in each layer, π̃ over the full graph."""
    u, full = model.user_embedding.weight[user], GRAPH.neighborhood()

    def power(relation: int) -> torch.Tensor:
        divisor = model.d if model.scaling == "released" else 1
        return torch.exp(u @ model.relation_embedding[relation] / divisor)

    def vector(layer: int, entity: int) -> torch.Tensor:
        if layer == 0:
            return model.entity_embedding.weight[entity]
        every = full.relations[full.indptr[entity] : full.indptr[entity + 1]].tolist()
        total = sum(map(power, every)) * (len(every) if model.scaling == "released" else 1)
        pooled = torch.zeros(model.d, dtype=torch.float64)
        for k in range(int(model.indptr[entity]), int(model.indptr[entity + 1])):
            attention = (
                power(int(model.relations[k])) / total if model.attention else 1 / len(every)
            )
            weight = attention * float(model.edge_weights[k])
            pooled = pooled + weight * vector(layer - 1, int(model.neighbors[k]))
        return model.layers[layer - 1](vector(layer - 1, entity)[None], pooled[None])[0]

    return u @ vector(model.H, item)


def corrected(H: int, aggregator: str, scaling: str) -> KGCN:
    """A KGCN in float64 with corrected draws of K = 2."""
    torch.manual_seed(0)
    whole = GRAPH.neighborhood()
    draw = make_sampler("importance").draw(whole, 2, generator(0, "test"))
    model = KGCN(
        USERS, ITEMS, RELATIONS, *draw.neighborhood, d=D, H=H, aggregator=aggregator,
        scaling=scaling, K=2, sampler="importance", edge_weights=draw.weights,
        counts=relation_counts(whole),
    ).double()  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.2, 0.7)
    assert len(model.neighbors) < len(whole.neighbors)
    return model


@pytest.mark.parametrize("scaling", ["paper", "released"])
@pytest.mark.parametrize("aggregator", ["sum", "concat", "avg"])
@pytest.mark.parametrize("H", [1, 2])
def test_corrected_draws_score_as_the_literal_estimate(H, aggregator, scaling, monkeypatch):
    model = corrected(H, aggregator, scaling)
    expected = torch.tensor(
        [
            [float(literal(model, user, item).detach()) for item in range(ITEMS)]
            for user in range(USERS)
        ],
        dtype=torch.float64,
    )
    tolerance = {"rtol": 1e-9, "atol": 1e-12}
    users = torch.arange(USERS)
    pairs = model.score(users.repeat_interleave(ITEMS), torch.arange(ITEMS).repeat(USERS))
    torch.testing.assert_close(pairs.view(USERS, ITEMS), expected, **tolerance)
    for cost in (0, 10**9):  # the first layer edge by edge; as a product
        monkeypatch.setattr(all_items, "EDGE_COST", cost)
        torch.testing.assert_close(model.score_all(users, model.encode()), expected, **tolerance)
    reasons = model.explain(1, 0, NOBODY)
    assert reasons.score == pytest.approx(float(expected[1, 0]), abs=1e-9)
    if H == 1:  # without an edge the rest stays, as its weight is no share of the others
        for term in reasons.terms:
            step = term.steps[0]
            row = slice(int(model.indptr[0]), int(model.indptr[1]))
            gone = (model.neighbors[row] == step.entity) & (model.relations[row] == step.relation)
            kept = model.edge_weights.clone()
            kept[row][gone] = 0
            without = float(literal(_with_weights(model, kept), 1, 0).detach())
            assert term.share == pytest.approx(reasons.score - without, abs=1e-9)


@pytest.mark.parametrize("aggregator", ["sum", "avg"])
@pytest.mark.parametrize("H", [1, 2])
def test_gradients_of_corrected_draws_equal_those_of_the_literal_estimate(H, aggregator):
    model = corrected(H, aggregator, "paper")
    users, items = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, 2, 3, 0])
    expected = torch.stack(
        [literal(model, int(u), int(v)) for u, v in zip(users, items, strict=True)]
    )
    factors, parameters = torch.arange(1.0, 6.0).double(), list(model.parameters())
    ours, theirs = (
        torch.autograd.grad((scores * factors).sum(), parameters, allow_unused=True)
        for scores in (model.score(users, items), expected)
    )
    for gradient, reference in zip(ours, theirs, strict=True):
        if reference is not None:  # with the aggregator avg, no relation has a gradient
            torch.testing.assert_close(gradient, reference, rtol=1e-9, atol=1e-12)


def _with_weights(model: KGCN, weights: torch.Tensor) -> KGCN:
    again = copy.deepcopy(model)
    again.edge_weights = weights
    return again


def test_a_wide_spread_of_attention_is_exact():
    """The denominator has relations that no drawn neighbour has; one may outweigh the others."""
    model = corrected(1, "sum", "paper")
    with torch.no_grad():
        model.relation_embedding.mul_(60)
    users = torch.arange(USERS)
    ranked = model.score_all(users, model.encode())
    expected = [
        [float(literal(model, user, item).detach()) for item in range(ITEMS)]
        for user in range(USERS)
    ]
    torch.testing.assert_close(ranked, torch.tensor(expected).double())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_model_with_any_sampler_keeps_the_contract(sampler, dataset):
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, K=3, H=2, d=4, sampler=sampler)
    model.precompute(dataset)
    sizes = model.indptr.clone()
    model.resample(generator(0, "test"))
    assert torch.equal(model.indptr, sizes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    users, items = torch.arange(5), torch.arange(dataset.num_items)
    everything = model.score_all(users, model.encode())
    for user in users:
        torch.testing.assert_close(everything[user], model.score(user.expand_as(items), items))
    model.score(users, users).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    again = rebuild(model.recipe(), model.state_dict())
    assert torch.equal(again.score(users, users), model.score(users, users))
    assert all(model.bytes_per_row(items) > 0)
    same = model.reweighed(torch.full((dataset.num_relations,), 2.0))
    torch.testing.assert_close(same.score_all(users), everything)
    reasons = model.explain(0, 1, NOBODY)
    assert reasons.score == pytest.approx(float(everything[0, 1]), abs=1e-5)
    history = Interactions.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([1, 2, 3]), 2, 40)
    assert torch.isfinite(model.fold_in(history).score_all(torch.arange(2))).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_new_items_have_neighbours_by_the_sampler(sampler, dataset):
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, K=3, d=4, sampler=sampler)
    model.precompute(dataset)
    attributes = torch.arange(41, 47)
    few = Neighborhood(torch.tensor([0, 3, 3]), attributes[:3], torch.tensor([0, 1, 1]))
    many = Neighborhood(torch.tensor([0, 0, 6]), attributes, torch.tensor([0, 0, 0, 1, 1, 2]))
    users, known = torch.arange(5), torch.tensor([-1, -1])
    for edges in (few, many):
        if edges is many and make_sampler(sampler).reads_graph:
            with pytest.raises(SettingError, match=r"found .*6 neighbours of a new item.*K=3"):
                model.add_items(edges, known)
            continue
        added = model.add_items(edges, known)
        scores = added.score_all(users)
        torch.testing.assert_close(scores[:, :40], model.score_all(users))
        for item in (40, 41):
            torch.testing.assert_close(scores[:, item], added.score(users, torch.full((5,), item)))
        if make_sampler(sampler).corrected:  # all neighbours are at hand
            of_new = slice(*added.indptr[[40, 42]].tolist())
            assert torch.equal(added.neighbors[of_new], edges.neighbors + 2)
            assert added.edge_weights[of_new].eq(1).all()
            assert relation_counts(edges)[:, 1:].tolist() == [
                row[1:] for row in added.counts.tolist() if 40 <= row[0] < 42
            ]
        again = rebuild(added.recipe(), added.state_dict())
        assert torch.equal(again.score(users, users), added.score(users, users))


def test_the_default_draws_as_before(dataset):
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, K=3)
    expected = dataset.graph.neighborhood().sample(3, generator(0, "neighbors"))
    assert all(map(torch.equal, model.neighborhood, expected))
    assert model.edge_weights is None
    full = KGCN.from_dataset(dataset, K=3, sampler="full")
    assert full.arguments["K"] == "all"
    assert all(map(torch.equal, full.neighborhood, dataset.graph.neighborhood()))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("neighbors", ["static", "resampled"])
def test_what_is_drawn_again_in_every_epoch(sampler, neighbors, dataset):
    model = KGCN.from_dataset(dataset, K=3, d=4, sampler=sampler, neighbors=neighbors)
    model.precompute(dataset)
    before = [part.clone() for part in model.neighborhood]
    model.resample(generator(3, "neighbors", 1))
    kind = make_sampler(sampler)
    redrawn = kind.adaptive or (neighbors == "resampled" and not kind.deterministic)
    assert redrawn != all(map(torch.equal, before, model.neighborhood))
    after = [part.clone() for part in model.neighborhood]
    model.resample(generator(3, "neighbors", 1))  # as a run that resumes
    assert all(map(torch.equal, after, model.neighborhood))


def test_adaptive_draws_follow_the_vectors(dataset):
    model = KGCN.from_dataset(dataset, K=3, d=4, sampler="adaptive")
    item, entity = 0, int(model.neighbors[0])
    with torch.no_grad():
        model.entity_embedding.weight[entity] *= 1e4
    for epoch in range(5):
        model.resample(generator(0, "neighbors", epoch))
        row = slice(int(model.indptr[item]), int(model.indptr[item + 1]))
        weights = model.edge_weights[row][model.neighbors[row] == entity]
        # One of six neighbours has nearly all of the proposal, but for the uniform draws.
        assert weights.tolist() == pytest.approx(
            [1 / (3 * (0.8 + 0.2 / 6))] * len(weights), rel=0.01
        )
        assert len(weights) >= 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("best", "sampler: found 'best', expected one of uniform, full, "),
        ({"power": 1}, "sampler: found {'power': 1}, expected one of "),
        (
            {"name": "uniform", "power": 1},
            "sampler.power: found an argument of uniform, expected no",
        ),
        ({"name": "degree", "K": 1}, "sampler.K: found an argument of degree, expected power"),
        ({"name": "degree", "power": "1"}, "sampler.power: found '1', expected a number from -5"),
        ({"name": "degree", "power": math.nan}, "sampler.power: found nan, expected a number"),
        ({"name": "ppr", "restart": 0}, "sampler.restart: found 0, expected "),
        ({"name": "ppr", "tolerance": 1}, "sampler.tolerance: found 1, expected "),
        ({"name": "importance", "proposal": "x"}, "sampler.proposal: found 'x', expected one of"),
        ({"name": "adaptive", "mixture": 0}, "sampler.mixture: found 0, expected "),
    ],
    ids=str,
)
def test_a_sampler_that_cannot_work_is_one_clear_error(spec, message, dataset):
    with pytest.raises(SettingError) as caught:
        KGCN.from_dataset(dataset, sampler=spec)
    assert str(caught.value).startswith(message)


def test_what_does_not_go_together(dataset):
    with pytest.raises(SettingError, match="sampler: found 'degree' with K=all, expected an int"):
        KGCN.from_dataset(dataset, K="all", sampler="degree")
    with pytest.raises(SettingError, match="sampler: found 'adaptive', whose weights do not sum"):
        KGNNLS.from_dataset(dataset, sampler="adaptive")
    assert KGNNLS.from_dataset(dataset, sampler="degree").arguments["sampler"] == "degree"


def test_a_sampler_with_arguments_from_the_command_line(dataset):
    cfg = composed("model=kgcn", "model.sampler={name:degree,power:0.5}")
    assert instantiate(cfg.model, dataset).sampler.power == 0.5


@pytest.mark.parametrize(
    "sampler",
    ["adaptive", *(pytest.param(s, marks=pytest.mark.slow) for s in SAMPLERS if s != "adaptive")],
)
def test_a_run_leaves_a_checkpoint_that_scores_without_the_data(sampler, train: Train):
    run = train("model=kgcn", f"model.sampler={sampler}", "model.K=3")
    assert run.code == 0, run.err
    model = load_recommender(run.folder / "checkpoints" / "best.ckpt")
    assert model.sampler.__class__ is SAMPLERS[sampler]
    assert (model.correction is not None) == (sampler in CORRECTED)
    assert torch.isfinite(model.score(torch.tensor([0, 1]), torch.tensor([2, 3]))).all()


def test_every_sampler_is_in_the_configuration_and_the_documentation():
    for path in ("conf/model/kgcn.yaml", "docs/samplers.md"):
        text = (ROOT / path).read_text(encoding="utf-8")
        assert all(name in text for name in SAMPLERS)
