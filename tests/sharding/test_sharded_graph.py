"""Processes that share a graph read the neighbours of one process, and move the bytes foretold."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from kgrec.data import knowledge_graph
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.errors import CheckpointError
from kgrec.models.kgcn import KGCN
from kgrec.models.kgcn.graph_state import shared_state, whole_state
from kgrec.models.kgcn.samplers import make_sampler
from kgrec.models.kgcn.shards import GroupedShards, SampledShards, shared
from kgrec.sharding.building import Shares, sharded_tables
from kgrec.sharding.exchange import MOVED, Moved
from kgrec.sharding.table import ShardedTable, read
from kgrec.sharding.traffic import (
    Read,
    bytes_of_read,
    bytes_of_step,
    expected_bytes,
    expected_distinct,
    reads_of_kgcn,
)
from kgrec.training.callbacks import EpochLog

D, B, USERS, ENTITIES, K, H = 8, 150, 400, 3000, 3, 2
CASES: list[tuple[int | str, str]] = [(K, "sum"), (K, "avg"), ("all", "sum")]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def graph(entities: int, triples: int) -> KnowledgeGraph:
    """Few entities have many neighbours, some have none."""
    draws = seeded(1)
    heads = torch.randint(0, entities - 3, (triples,), generator=draws)
    tails = ((entities - 3) * torch.rand(triples, generator=draws) ** 3).long()
    relations = torch.randint(0, 4, (triples,), generator=draws)
    return KnowledgeGraph(heads, relations, tails, entities, 4)


def even_graph() -> KnowledgeGraph:
    """All entities have about as many neighbours."""
    heads, draws = torch.arange(ENTITIES).repeat(30), seeded(2)
    tails = torch.randint(0, ENTITIES, heads.shape, generator=draws)
    return KnowledgeGraph(heads, heads % 4, tails, ENTITIES, 4)


def whole(parts: list[Any]) -> Neighborhood:
    """S(v) from the tables of all processes, as a checkpoint of one process has it."""
    state = {}
    for name, table in parts[0].named_parameters():
        state[f"shards.{name}"] = torch.empty(table.shape, dtype=table.dtype)
        for rank, part in enumerate(parts):
            state[f"shards.{name}"][rank :: len(parts)] = part.get_parameter(name).local
    of_one = whole_state(state)
    back = shared_state(of_one, state)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    return Neighborhood(**of_one)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_processes_draw_the_neighbours_of_one_process(ranks, monkeypatch):
    around = graph(40, 150).neighborhood()
    assert 0 in around.degrees
    for K in (1, 4, 30):
        assert bool((around.degrees > K).any()) != (int(around.degrees.max()) < K)
        expected = around.sample(K, seeded(0))
        monkeypatch.setattr(knowledge_graph, "BLOCK", 13)  # several blocks
        parts = [SampledShards(around, K, seeded(0), Shares(r, ranks)) for r in range(ranks)]
        assert all(map(torch.equal, whole(parts), expected))
        for part in parts:
            part.draw(around, seeded(5))
        monkeypatch.undo()
        again = around.sample(K, seeded(5))
        assert all(map(torch.equal, whole(parts), again))
        assert [t.shape for t in parts[0].whole] == [t.shape for t in expected]
        assert max(len(part.neighbors.local) for part in parts) <= -(-40 // ranks)


@pytest.mark.parametrize("ranks", [1, 3])
def test_processes_share_all_neighbours(ranks):
    around = graph(40, 150).neighborhood()
    parts = [GroupedShards(around, 20, Shares(r, ranks)) for r in range(ranks)]
    assert all(map(torch.equal, whole(parts), around))


@pytest.mark.parametrize(
    "state",
    [
        {"shards.neighbors": torch.zeros(3, 1, dtype=torch.int64)},
        {"shards.ends": torch.zeros(3, 2, dtype=torch.int64)},
        {"a.shards.ends": torch.ones(3, 2).int(), "a.shards.edges": torch.ones(3, 1).int()},
        {"shards.neighbors": None},
    ],
)
def test_tables_of_a_stranger_that_do_not_fit(state):
    with pytest.raises(CheckpointError, match=r"shards\.\w+: found no table of neighbours"):
        whole_state(state)


def test_which_graphs_are_shared(caplog):
    around, uniform = graph(40, 150).neighborhood(), make_sampler("uniform")
    assert shared(around, 4, seeded(0), 20, uniform) is None  # one process
    with sharded_tables(0, 2, min_rows=41):  # small tables stay whole
        assert shared(around, 4, seeded(0), 20, uniform) is None
    with sharded_tables(0, 2):
        assert isinstance(shared(around, 4, seeded(0), 20, uniform), SampledShards)
        assert isinstance(shared(around, "all", seeded(0), 20, uniform), GroupedShards)
        assert shared(around, 0, seeded(0), 20, uniform) is None  # the model refuses K
        assert not caplog.text
        assert shared(around, 4, seeded(0), 20, make_sampler("ppr")) is None
    assert "sampler: PageRank reads the whole graph, so every process keeps" in caplog.text


def test_expected_distinct_rows():
    draws = seeded(3)
    counts = [len(torch.randint(0, 50, (70,), generator=draws).unique()) for _ in range(300)]
    assert expected_distinct(70, 50) == pytest.approx(sum(counts) / 300, rel=0.02)
    weights = torch.arange(1.0, 51)
    drawn = [
        len(torch.multinomial(weights, 70, True, generator=draws).unique()) for _ in range(300)
    ]
    assert expected_distinct(70, 50, weights) == pytest.approx(sum(drawn) / 300, rel=0.02)
    assert expected_distinct(70, 50, torch.ones(50)) == pytest.approx(expected_distinct(70, 50))
    assert expected_distinct(5, 10**9) == pytest.approx(5)


def test_expected_bytes_of_a_read():
    for W in (2, 3, 8):
        ids = [torch.randint(0, 5000, (2000,), generator=seeded(W + r)) for r in range(W)]
        exact = bytes_of_read(ids, 4 * D).double().mean()
        assert expected_bytes(Read(2000, 5000, 4 * D), W) == pytest.approx(float(exact), rel=0.03)
    assert bytes_of_step([], 4, dense_bytes=100) == 150
    # A count; then 2 ids, 1 row and 2 gradients of 10 bytes, and 1 id, 2 rows and 1 gradient back.
    ids = torch.tensor([0, 1, 1, 3])
    assert bytes_of_read([ids, ids[:1]], 10).tolist() == [8 + 16 + 10 + 20, 8 + 8 + 20 + 10]


def test_an_epoch_logs_what_it_moved(caplog, monkeypatch):
    caplog.set_level("INFO")
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(log_dict=lambda values, **_: logged.update(values), device="cpu")
    alone = SimpleNamespace(reduce=lambda number, reduce_op: number)
    trainer: Any = SimpleNamespace(
        global_step=5, current_epoch=0, callback_metrics={}, strategy=alone
    )
    log = EpochLog()
    log.on_train_epoch_start(trainer, module)
    monkeypatch.setattr(log, "_epoch_start", log._epoch_start - 10)
    trainer.global_step = 9
    for name, value in {"reads": 8, "sent": 6_000_000, "seconds": 2.5}.items():
        monkeypatch.setattr(MOVED, name, getattr(MOVED, name) + value)
    log.on_validation_start(trainer, module)
    monkeypatch.setattr(MOVED, "sent", 10**9)  # the validation is no part of the epoch
    log.on_train_epoch_end(trainer, module)
    assert logged["speed/exchange_mb_per_step"] == 1.5
    assert logged["speed/exchange_share"] == pytest.approx(0.25, abs=0.01)
    assert "exchange 1.5 MB a step, 25%" in caplog.text
    resumed = EpochLog()
    resumed.load_state_dict(log.state_dict())  # a run may end without another epoch
    assert resumed.exchange == log.exchange
    assert resumed.exchange["speed/exchange_mb_per_step"] == 1.5
    logged.clear()
    log.on_train_epoch_start(trainer, module)
    trainer.global_step = 12
    log.on_train_epoch_end(trainer, module)
    assert set(logged) == {"speed/seconds_per_epoch"}  # no read: one process


def ids_of(rank: int) -> Tensor:
    return torch.randint(0, 50, (30 + 5 * rank,), generator=seeded(rank))


def batch(rank: int) -> tuple[Tensor, Tensor]:
    users = torch.randint(0, USERS, (B,), generator=seeded(10 + rank))
    return users, torch.randint(0, ENTITIES, (B,), generator=seeded(20 + rank))


def bytes_of_model(W: int) -> Tensor:
    """Bytes that each process sends in a step of KGCN, from the ids that it reads."""
    torch.manual_seed(0)
    drawn = KGCN.from_dataset(dataset(), K=K, H=H, d=D).neighbors.view(-1, K)
    users, items = zip(*(batch(r) for r in range(W)), strict=True)
    near = [drawn[ids].flatten() for ids in items]
    far = [drawn[ids].flatten() for ids in near]
    every = [torch.cat(levels) for levels in zip(items, near, far, strict=True)]
    of_neighbors = [bytes_of_read(ids, 2 * K * 4, trained=False) for ids in (items, near)]
    return bytes_of_read(users, 4 * D) + sum(of_neighbors) + bytes_of_read(every, 4 * D)


def dataset() -> Any:
    return SimpleNamespace(graph=even_graph(), num_users=USERS, num_items=ENTITIES, num_relations=4)


def moved_since(before: Moved) -> tuple[int, int]:
    difference = MOVED - before
    assert difference.seconds > 0
    return difference.sent, difference.received


def copy_of_moved() -> Moved:
    return MOVED - Moved()


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    for W in (3, 2):
        if rank < W:
            dist.init_process_group("gloo", f"file://{folder}/{W}", rank=rank, world_size=W)
            torch.save(results(rank, W), f"{folder}/{W}-{rank}.pt")
            dist.barrier()
            dist.destroy_process_group()


def results(rank: int, W: int) -> dict[str, Any]:
    """What one of W processes counts and scores."""
    numbers = torch.arange(50.0 * D).view(50, D)
    shares = (rank, W)
    trained = ShardedTable(50, torch.nn.Parameter(numbers[rank::W].clone()), *shares)
    kept = ShardedTable(50, numbers[rank::W].int(), *shares)
    before, ids = copy_of_moved(), ids_of(rank)
    rows = read(trained, ids)
    rows.sum().backward()
    moved = {"trained": moved_since(before)}
    before = copy_of_moved()
    moved["kept"] = (torch.equal(read(kept, ids), numbers[ids].int()), *moved_since(before))
    assert torch.equal(rows, numbers[ids])
    found: dict[str, Any] = {"moved": moved, "scores": [], "expected": []}
    data, (users, items) = dataset(), batch(rank)
    for neighbors, aggregator in CASES:
        models = []
        for shards in (True, False):
            torch.manual_seed(0)
            settings: Any = {"K": neighbors, "H": H, "d": D, "aggregator": aggregator}
            if shards:
                with sharded_tables(*shares):
                    models.append(KGCN.from_dataset(data, **settings))
            else:
                models.append(KGCN.from_dataset(data, **settings))
        before = copy_of_moved()
        scores = models[0].score(users, items)
        scores.sum().backward()
        found["moved"][neighbors, aggregator] = moved_since(before)
        found["scores"].append(scores.detach())
        found["expected"].append(models[1].score(users, items).detach())
        assert models[0].recipe() == models[1].recipe()
    return found


def test_what_moves_is_what_the_formula_says(tmp_path: Path):
    mp.start_processes(process, (str(tmp_path),), nprocs=3, start_method="fork")
    for W in (2, 3):
        results = [torch.load(tmp_path / f"{W}-{r}.pt", weights_only=True) for r in range(W)]
        every = [ids_of(r) for r in range(W)]
        trained, kept = bytes_of_read(every, 4 * D), bytes_of_read(every, 4 * D, trained=False)
        for r, result in enumerate(results):
            assert result["moved"]["trained"][0] == trained[r]
            assert result["moved"]["kept"][:2] == (True, kept[r])
            for scores, expected in zip(result["scores"], result["expected"], strict=True):
                torch.testing.assert_close(scores, expected)
        for name in ("trained", "kept", *CASES):
            moved = [result["moved"][name][-2:] for result in results]
            sent, received = (sum(column) for column in zip(*moved, strict=True))
            assert sent == received > 0
            if name in CASES[:2]:
                assert [sent for sent, _ in moved] == bytes_of_model(W).tolist()
                # Less than expected, because a neighbour of a neighbour may be the item itself.
                step = bytes_of_step(reads_of_kgcn(B, USERS, ENTITIES, D, K, H), W)
                assert sent / W == pytest.approx(step, rel=0.08)
