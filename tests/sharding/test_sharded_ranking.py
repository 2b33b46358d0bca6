"""Processes that each rank a share of the items rank as one process does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import ROOT, SMALL, small
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from hypothesis import given, settings
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from sharding.threads import Threads
from torch import Tensor
from training.test_ddp import command

from kgrec.data.datamodule import KGDataModule
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.errors import KgrecError
from kgrec.evaluation.sharded_ranking import merged, top_k_of_shards
from kgrec.evaluation.topk import top_k
from kgrec.models.blend import Blend
from kgrec.models.bprmf import BPRMF
from kgrec.models.cke import CKE
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgcn.ranking import too_wide
from kgrec.models.kgcn.two_ends import KGCNTwoEnds
from kgrec.models.kgnn_ls import KGNNLS
from kgrec.models.libfm import LibFM
from kgrec.models.ncf import NCF
from kgrec.models.recommender import Recommender
from kgrec.models.ripplenet import RippleNet
from kgrec.models.svd import SVD
from kgrec.runs.checkpoints import load_recommender
from kgrec.runs.folder import RunFolder
from kgrec.sharding.building import sharded_tables
from kgrec.training.testing import Evaluator


class Catalogue:
    """Scores of a few values, so that many are equal, and all that a ranking depends on."""

    def __init__(self, seed: int, users: int, items: int, levels: int, excluded: float) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.scores = torch.randint(levels, (users, items), generator=draw).float()
        mask = torch.rand(users, items, generator=draw) < excluded
        self.exclude = Interactions.from_pairs(*mask.nonzero().T, users, items)
        self.users = torch.randint(users, (users + 2,), generator=draw)
        self.order = torch.randperm(items, generator=draw)
        self.ranked = torch.randperm(items, generator=draw)[: items // 2].sort().values
        self.calls: dict[int, list[Any]] = {}

    def scorer(self, items: Tensor) -> Any:
        calls = self.calls.setdefault(dist.get_rank(), []) if dist.is_initialized() else []
        calls.append(len(items))

        def scores(users: Tensor) -> Tensor:
            calls.append(users.tolist())
            return self.scores[users[:, None], items]

        return scores

    def by_one_process(self, k: int, order: Tensor | None, ranked: Tensor | None) -> Any:
        scores = self.scores.clone()
        if ranked is not None:
            hidden = torch.ones(scores.shape[1], dtype=torch.bool)
            hidden[ranked] = False
            scores[:, hidden] = -torch.inf
        args = self.users, k, scores.shape[1], self.exclude
        return top_k(lambda users: scores[users], *args, order=order)


def table(scores: Tensor) -> Any:
    """A scorer that reads the scores of all users and items."""
    return lambda items: lambda users: scores[users[:, None], items]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_equals_one_process_with_ties_exclusions_and_few_items(data):
    items = data.draw(st.integers(1, 13), "items")
    catalogue = Catalogue(
        data.draw(st.integers(0, 2**20), "seed"), data.draw(st.integers(1, 6), "users"), items,
        data.draw(st.sampled_from([1, 2, 4, 1000]), "levels"),
        data.draw(st.sampled_from([0, 0.4, 1]), "excluded"),
    )  # fmt: skip
    k = data.draw(st.integers(1, items), "k")
    order = catalogue.order if data.draw(st.booleans(), "ordered") else None
    ranked = catalogue.ranked if data.draw(st.booleans(), "subset") else None
    budget = data.draw(st.sampled_from([1.0, 200.0, 2.0**20]), "budget")
    at_once = data.draw(st.sampled_from([1, 3, 100]), "items at once")
    ranks = data.draw(st.integers(1, 4), "processes")
    values, best = catalogue.by_one_process(k, order, ranked)

    def rank(number: int) -> Any:
        args = catalogue.scorer, catalogue.users, k, items, catalogue.exclude, order, ranked
        return top_k_of_shards(*args, budget, at_once)

    for result in Threads(ranks).run(rank):
        assert result[1].tolist() == best.tolist()
        assert result[0].tolist() == values.tolist()
    calls = list(catalogue.calls.values())
    assert all(of_rank == calls[0] for of_rank in calls)  # so that tables are read together


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_lists_are_merged_by_score_then_place(data):
    entry = st.tuples(st.integers(-2, 2), st.integers(0, 9))
    lists = data.draw(st.lists(st.lists(entry, min_size=2, max_size=4), min_size=1, max_size=3))
    tensors = [
        (torch.tensor([[float(v) for v, _ in part]]), torch.tensor([[p for _, p in part]]))
        for part in lists
    ]
    values, places = merged(tensors, 2)
    expected = sorted((-v, p) for part in lists for v, p in part)[:2]
    assert [
        (-v, p) for v, p in zip(values[0].tolist(), places[0].tolist(), strict=True)
    ] == expected


def test_without_a_process_group_one_process_ranks_all_items():
    catalogue = Catalogue(3, 5, 11, 3, 0.3)
    args = catalogue.users, 4, 11, catalogue.exclude, catalogue.order
    values, items = top_k_of_shards(catalogue.scorer, *args)
    expected = catalogue.by_one_process(4, catalogue.order, None)
    assert torch.equal(values, expected[0])
    assert torch.equal(items, expected[1])


def test_pairs_of_other_processes_items_may_be_missing():
    catalogue = Catalogue(4, 6, 12, 3, 0.5)

    def rank(number: int) -> Any:
        own = catalogue.exclude.take(catalogue.exclude.items % 3 == number)
        return top_k_of_shards(catalogue.scorer, catalogue.users, 5, 12, own)

    for result in Threads(3).run(rank):
        assert torch.equal(result[1], catalogue.by_one_process(5, None, None)[1])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_score_that_is_no_number_ends_all_processes(number):
    scores = torch.rand(4, 9)
    scores[2, number] = torch.nan
    every = torch.arange(4)

    def rank(_: int) -> Any:
        return top_k_of_shards(table(scores), every, 2, 9)

    errors = Threads(3).run(rank)
    assert [type(error) for error in errors] == [KgrecError] * 3
    assert {str(error) for error in errors} == {
        "found scores that are not numbers, expected numbers to rank by"
    }


def test_an_excluded_score_may_be_no_number():
    scores = torch.tensor([[1.0, torch.nan, 3.0]])
    pair = Interactions(torch.tensor([0]), torch.tensor([1]), 1, 3)

    def rank(_: int) -> Any:
        args = torch.arange(1), 3, 3, pair
        return top_k_of_shards(table(scores), *args)[1].tolist()

    assert Threads(2).run(rank) == [[[2, 0, -1]]] * 2


@pytest.mark.parametrize(("users", "ranked"), [(0, None), (3, 0), (0, 0)])
def test_nothing_to_rank(users, ranked):
    catalogue = Catalogue(0, 3, 5, 2, 0.0)
    subset = None if ranked is None else torch.arange(ranked)

    def rank(_: int) -> Any:
        return top_k_of_shards(catalogue.scorer, torch.arange(users), 2, 5, ranked=subset)

    for values, items in Threads(2).run(rank):
        assert values.tolist() == [[-torch.inf] * 2] * users
        assert items.tolist() == [[-1, -1]] * users


@pytest.mark.parametrize("k", [0, 6])
def test_a_cutoff_that_cannot_be(k):
    with pytest.raises(ValueError, match=f"k: found {k}, expected 1 to 5"):
        top_k_of_shards(Catalogue(0, 3, 5, 2, 0.0).scorer, torch.arange(3), k, 5)


def test_no_block_is_larger_than_the_budget_or_much_smaller_than_others():
    seen: list[tuple[int, int]] = []

    def scorer(items: Tensor) -> Any:
        def scores(users: Tensor) -> Tensor:
            seen.append((len(users), len(items)))
            return torch.rand(len(users), len(items))

        return scores

    top_k_of_shards(scorer, torch.arange(51), 5, 100, memory_budget=8 * 50 * 12, items_at_once=50)
    assert {items for _, items in seen} == {50}
    assert {users for users, _ in seen} == {7, 8}
    assert sum(users for users, _ in seen) == 2 * 51


# ------------------------------------------------------------------ models


def with_users() -> RecDataset:
    """Users are linked in a ring, and have one of 5 attributes by another relation."""
    dataset = clean(small(), RandomSplit())
    users = torch.arange(dataset.num_users)
    graph = KnowledgeGraph(
        users.repeat(2), torch.tensor([0, 1]).repeat_interleave(len(users)),
        torch.cat([(users + 1) % len(users), len(users) + users % 5]), len(users) + 5, 2,
    )  # fmt: skip
    return replace(dataset, user_graph=graph)


class Pairs(SVD):
    """A model that has no faster way than pairs."""

    scorer = Recommender.scorer


DATA = with_users()
USERS, ITEMS = DATA.num_users, DATA.num_items
MODELS: dict[str, Any] = {
    "svd": SVD.from_dataset,
    "bprmf": BPRMF.from_dataset,
    "cke": CKE.from_dataset,
    "libfm": LibFM.from_dataset,
    "ncf": NCF.from_dataset,
    "ripplenet": RippleNet.from_dataset,
    "kgcn H=1": lambda data: KGCN.from_dataset(data, K=3),
    "kgcn H=2": lambda data: KGCN.from_dataset(data, K="all", H=2, item_bias=True),
    "kgcn edges": lambda data: KGCN.from_dataset(data, K=1, H=2, d=512, aggregator="concat"),
    "kgcn avg": lambda data: KGCN.from_dataset(data, K=3, aggregator="avg", history="own"),
    "kgcn importance": lambda data: KGCN.from_dataset(data, K=3, sampler="importance"),
    "kgnn_ls": lambda data: KGNNLS.from_dataset(data, K=3),
    "both ends": lambda data: KGCNTwoEnds.from_dataset(data, K=3, H=2, item_bias=True),
    "user end": lambda data: KGCNTwoEnds.from_dataset(data, ends="user"),
    "item end": lambda data: KGCNTwoEnds.from_dataset(data, K=3, ends="item"),
    "blend": lambda data: Blend.from_dataset(data, *BLENDED),
    "pairs": Pairs.from_dataset,
}
BLENDED = (
    {"class": "kgrec.models.svd.SVD"}, {"class": "kgrec.models.ease.EASE", "l2": [300.0]},
)  # fmt: skip


def built(name: str, ranks: int) -> list[Recommender]:
    """The model of one process, then those of each of several processes."""
    models = []
    for rank in (None, *range(ranks)):
        torch.manual_seed(0)
        if rank is None:
            model = MODELS[name](DATA)
        else:
            with sharded_tables(rank, ranks):
                model = MODELS[name](DATA)
        model.precompute(DATA)
        models.append(model.eval())
    return models


@pytest.mark.parametrize("name", MODELS)
def test_models_score_a_share_of_the_items_as_one_process(name, monkeypatch):
    monkeypatch.setattr("kgrec.models.recommender.PAIRS", 100)
    one, *models = built(name, 3)
    with torch.no_grad():
        expected = one.score_all(torch.arange(USERS))
    check_scores(models, expected)
    ranked = Threads(3).run(lambda rank: ranking(models[rank].scorer))
    for scores, items in ranked:
        check_lists(scores, items, expected)


def ranking(scorer: Any) -> tuple[Tensor, Tensor]:
    """The best 8 items of all users, whose scores take many blocks."""
    args = torch.arange(USERS), 8, ITEMS, DATA.train, torch.arange(ITEMS).flip(0)
    return top_k_of_shards(scorer, *args, memory_budget=2000, items_at_once=10)


def check_lists(scores: Tensor, items: Tensor, expected: Tensor) -> None:
    """The lists are those of one process, but for items whose scores differ by rounding alone."""
    everyone = torch.arange(USERS)
    order = torch.arange(ITEMS).flip(0)
    values, best = top_k(lambda users: expected[users], everyone, 8, ITEMS, DATA.train, order=order)
    torch.testing.assert_close(scores, values, rtol=1e-5, atol=1e-6)
    gaps = (values[:, 1:] - values[:, :-1]).abs() > 1e-5
    edge = torch.ones(USERS, 1, dtype=torch.bool)
    clear = torch.cat([edge, gaps], 1) & torch.cat([gaps, ~edge], 1)  # on both sides
    assert clear.double().mean() > 0.5
    assert torch.equal(items[clear], best[clear])


def check_scores(models: list[Recommender], expected: Tensor) -> None:
    def scores(rank: int) -> Tensor:
        with torch.no_grad():
            own = torch.arange(rank, 39, 3)  # as many items on every process
            scores_of = models[rank].scorer(own)
            parts = torch.arange(USERS).split(25)
            return torch.cat([scores_of(part) for part in parts])

    for rank, result in enumerate(Threads(3).run(scores)):
        torch.testing.assert_close(result, expected[:, rank:39:3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["kgcn H=1", "both ends"])
def test_attention_that_is_too_wide_for_exponentials_is_exact(name):
    """Such pairs are scored one by one, as many times on every process."""
    one, *models = built(name, 3)
    with torch.no_grad():
        vectors = one.user_vectors(torch.arange(USERS))
        widen(one.user_relation_scores(vectors), [m.relation_embedding for m in (one, *models)])
        if isinstance(one, KGCNTwoEnds):
            ends = [m.of_users for m in (one, *models)]
            scores = ends[0].user_relation_scores(one.item_vectors())
            wide = widen(scores, [end.relation_embedding for end in ends])
            assert len({int(wide[rank:39:3].sum()) for rank in range(3)}) > 1
        expected = one.score_all(torch.arange(USERS))
    check_scores(models, expected)


def widen(scores: Tensor, relations: list[Tensor]) -> Tensor:
    """Scales vectors of relations until the scores (B, R) of two rows are too wide."""
    spreads = scores.amax(dim=1) - scores.amin(dim=1)
    scale = 80 / spreads.topk(3).values.mean()
    torch._foreach_mul_(relations, float(scale))
    wide = too_wide(scores * scale)
    assert 1 <= int(wide.sum()) <= 2
    return wide


# ------------------------------------------------------------------ processes

SPAWNED = ("svd", "kgcn H=2", "both ends")


def process(rank: int, port: int, folder: str) -> None:
    """One of three processes."""
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=3)
    for name in SPAWNED:
        model = built(name, 3)[1 + rank]
        torch.save(ranking(model.scorer), f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_three_processes_rank_as_one(tmp_path: Path):
    args = find_free_network_port(), str(tmp_path)
    mp.start_processes(process, args, nprocs=3, start_method="fork")
    for name in SPAWNED:
        with torch.no_grad():
            expected = built(name, 0)[0].score_all(torch.arange(USERS))
        results = [torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(3)]
        for scores, items in results:
            assert torch.equal(scores, results[0][0])
            assert torch.equal(items, results[0][1])
        check_lists(*results[0], expected)


@pytest.mark.slow
def test_the_processes_of_a_run_test_its_checkpoint_as_one_process(tmp_path: Path):
    settings = ["trainer=sharded", "optimizer=lazy_adam", "hydra.run.dir=run", "protocol=clean"]
    done = command(*settings, "ranking.validation=true", "model.H=2", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    folder = RunFolder(tmp_path / "run")
    metrics = folder.metrics()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", [*SMALL, "protocol=clean", "paths.run=x"])
    dataset = instantiate(cfg.protocol)(instantiate(cfg.dataset), instantiate(cfg.split))
    data = KGDataModule(dataset, 64, 64, seed=cfg.seed)
    ks = [k for k in cfg.ranking.ks if k <= dataset.num_items]
    one_cpu = {"accelerator": "cpu", "devices": 1}
    evaluator = Evaluator(data, {}, ks, rank_validation=True, device=one_cpu)
    evaluation = evaluator.evaluate(load_recommender(folder.checkpoint("best"), ()))
    assert {"val/recall@20", "test/ndcg@20", "test/auc", "test/matched/auc"} <= set(metrics)
    assert len(evaluation.metrics) > 40
    for name, value in evaluation.metrics.items():
        assert metrics[name] == pytest.approx(value, rel=1e-6, nan_ok=True), name
