"""A table in shards has the numbers of a whole one, and reads that reach other processes."""

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from conftest import small
from lightning_fabric.plugins.environments.lightning import find_free_network_port
from torch import Tensor, nn

import kgrec.sharding.table
import kgrec.training.memory
from kgrec.config.devices import SHARDED
from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.errors import ConfigError, DivergedError
from kgrec.models.lookup import Bags, weighted_sums
from kgrec.models.svd import SVD
from kgrec.pipeline.parts import shared_rows
from kgrec.sharding.building import sharded_tables
from kgrec.sharding.table import ShardedTable, local_part
from kgrec.training.divergence import check_parameters, largest_norm
from kgrec.training.memory import check_memory
from kgrec.training.module import as_many_as_others
from kgrec.training.norms import norms
from kgrec.training.sharded import Sharded
from kgrec.training.updates import clip_by_norm, clip_by_value, gradient_norm

N, D, RANKS = 37, 4, 3


def test_the_configuration_names_the_strategy():
    assert f"{Sharded.__module__}.{Sharded.__qualname__}" == SHARDED


# -------------------------------------------------------------- draws


@pytest.mark.parametrize("shape", [(37, 8), (1, 5), (1000, 16), (341, 24), (513, 8)])
@pytest.mark.parametrize("init", [
    None, nn.init.xavier_uniform_, nn.init.xavier_normal_, nn.init.zeros_,
    lambda table: nn.init.constant_(table, 0.5), lambda table: nn.init.uniform_(table, -2.0, 3.0),
])  # fmt: skip
def test_draws_are_those_of_one_process(shape, init, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kgrec.sharding.table, "CHUNK", 4096)  # larger tables are drawn in parts

    def drawn() -> tuple[Tensor, Tensor]:
        torch.manual_seed(3)
        table = nn.Embedding(*shape)
        if init is not None:
            init(table.weight)
        return table.weight, torch.rand(1)

    whole, following = drawn()
    for rank in range(RANKS):
        with sharded_tables(rank, RANKS):
            table, other = drawn()
        assert table.shape == whole.shape
        assert torch.equal(table.local, whole[rank::RANKS])
        assert torch.equal(other, following)  # whatever is drawn afterwards is the same too


def test_small_and_given_tables_are_whole():
    with sharded_tables(0, RANKS, min_rows=10):
        given = nn.Embedding.from_pretrained(torch.zeros(20, 2))
        assert not isinstance(given.weight, ShardedTable)
        assert not isinstance(nn.Embedding(9, 2).weight, ShardedTable)
        assert isinstance(nn.Embedding(10, 2).weight, ShardedTable)
    assert not isinstance(nn.Embedding(20, 2).weight, ShardedTable)


# -------------------------------------------------------------- refusals


@pytest.mark.parametrize(("use", "named"), [
    (lambda table: table @ torch.zeros(D, 1), "matmul"),
    (lambda table: torch.cat([table, table]), "cat"),
    (lambda table: table.T, None),
    (lambda table: table[:3], "a slice"),
    (lambda table: table[:, 0], "[tuple]"),
    (lambda table: table.index_select(1, torch.tensor([0])), "index_select of columns"),
    (lambda table: table.square(), "square"),
    (lambda table: table.sum(), "sum"),
    (lambda table: table + 1, "add"),
    (torch.linalg.vector_norm, "vector_norm"),
])  # fmt: skip
def test_a_read_of_the_whole_table_is_refused(use, named):
    with sharded_tables(1, RANKS):
        table = nn.Embedding(N, D).weight
    with pytest.raises(ConfigError, match="trainer: found sharded tables and a model that") as e:
        use(table)
    assert named is None or named in str(e.value)
    assert "expected a model that reads rows by their ids, or trainer=ddp" in str(e.value)


# -------------------------------------------------------------- memory


def test_memory_counts_the_rows_of_this_process(monkeypatch: pytest.MonkeyPatch):
    dataset = paper(small(), RandomSplit())
    whole = SVD.from_dataset(dataset, d=64)
    with sharded_tables(0, 10):
        shared = SVD.from_dataset(dataset, d=64)
    assert shared_rows(whole) == "sharded tables: none, each process has the whole model"
    assert shared_rows(shared) == (
        "sharded tables: user_embedding (60 × 64), item_embedding (40 × 64); each of 10 processes "
        "has at most 10 of 100 rows, 0.00256 of 0.0256 MB"
    )
    items, device = dataset.train.items, torch.device("cpu")
    free = 4 * 100 * 64 * 4 - 1  # parameters, gradients and two moments need one byte more
    monkeypatch.setattr(kgrec.training.memory, "available_bytes", lambda _: free)
    assert check_memory(shared, items, 8, 1e9, device) == 1
    with pytest.raises(ConfigError, match=r"model: found 60 × 64 numbers in user_embedding"):
        check_memory(whole, items, 8, 1e9, device)
    monkeypatch.setattr(kgrec.training.memory, "available_bytes", lambda _: free // 10 - 1)
    with pytest.raises(ConfigError, match=r"model: found 6 × 64 numbers in user_embedding"):
        check_memory(shared, items, 8, 1e9, device)


# -------------------------------------------------------------- several processes

READS = {
    "repeated": lambda rank: torch.tensor([[5, 5, 36], [0, 5, rank]]),
    "all on one rank": lambda rank: torch.arange(1, N, RANKS),
    "of its own": lambda rank: torch.arange(rank, N, RANKS),
    "of one process alone": lambda rank: torch.tensor([7, 1, 2] if rank == 1 else []).long(),
    "none": lambda rank: torch.tensor([]).long(),
    "random": lambda rank: torch.randint(N, (3, 11), generator=torch.manual_seed(rank)),
}


class Model(nn.Module):
    """A table, a smaller one that every process has whole, and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.small, self.layer = nn.Embedding(N, D), nn.Embedding(3, D), nn.Linear(D, 1)


def built(rank: int, ranks: int) -> Model:
    """The model, with a gradient in rows of the table and in the layer."""
    with sharded_tables(rank, ranks, min_rows=4) if ranks > 1 else nullcontext():
        model = Model()
    torch.manual_seed(1)
    rows, values = torch.randperm(N)[:11], torch.randn(11, D)
    own = rows % ranks == rank
    local = local_part(model.table.weight)
    local.grad = torch.sparse_coo_tensor(
        rows[own][None] // ranks, values[own], local.shape, check_invariants=False
    )
    model.layer.weight.grad = torch.randn(1, D)
    return model


def numbers(rank: int, ranks: int) -> dict[str, Any]:
    """All that is computed from the whole table or its whole gradient."""
    model = built(rank, ranks)
    results: dict[str, Any] = {"norms": norms(model), "largest": largest_norm(model)}  # type: ignore[arg-type]
    results["gradient"] = gradient_norm(model.parameters())
    for name, clip in (("norm", clip_by_norm), ("value", clip_by_value)):
        clip((model := built(rank, ranks)).parameters(), 0.7)
        results[name] = local_part(model.table.weight).grad.to_dense()  # type: ignore[union-attr]
        results[f"{name} dense"] = model.layer.weight.grad
    check_parameters(model, 4)
    with torch.no_grad():
        if 22 % ranks == rank:
            local_part(model.table.weight)[22 // ranks, 1] = torch.inf
    try:
        check_parameters(model, 4)
    except DivergedError as error:
        results["error"] = str(error)
    return results


def reads(rank: int, ranks: int) -> dict[str, Any]:
    """Rows, and gradients of the rows of this process, of every read."""
    results = {}
    for name, ids in READS.items():
        with sharded_tables(rank, ranks):
            model = Model()
        rows = model.table(ids(rank))
        weights = torch.randn(rows.shape, generator=torch.manual_seed(9 + rank))
        (rows * weights).sum().backward()
        grad = local_part(model.table.weight).grad
        assert grad is not None
        assert grad.is_sparse
        results[name] = {"rows": rows.detach(), "grad": grad.to_dense()}
    return results


def sums(rank: int, ranks: int) -> dict[str, Tensor]:
    """Weighted sums of rows, as in mixed precision, and the gradient of the rows."""
    with sharded_tables(rank, ranks) if ranks > 1 else nullcontext():
        table = Model().table.weight
    weights = torch.linspace(0, 1, 6, dtype=torch.bfloat16).view(2, 3)
    summed = weighted_sums(table, Bags(torch.tensor([[0, 1, 2], [2, 36, 36]]), None, weights))
    summed.square().sum().backward()
    grad = local_part(table).grad
    assert grad is not None
    return {"sums": summed.detach(), "grad": grad.to_dense()}


def process(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"tcp://127.0.0.1:{port}", timedelta(seconds=60), world_size=RANKS, rank=rank
    )
    results = {"numbers": numbers(rank, RANKS), "reads": reads(rank, RANKS)}
    results["sums"] = sums(rank, RANKS)
    results["pieces"] = as_many_as_others([("rows", 0.5)] * (rank + 1), torch.device("cpu"))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process computed."""
    folder = tmp_path_factory.mktemp("processes")
    arguments = find_free_network_port(), str(folder)
    mp.start_processes(process, arguments, nprocs=RANKS, start_method="fork")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@pytest.mark.parametrize("name", READS)
def test_reads_are_those_of_a_whole_table(name, results):
    table = Model().table.weight.detach()
    expected = torch.zeros(N, D)
    for rank, result in enumerate(results):
        ids, rows = READS[name](rank), result["reads"][name]["rows"]
        assert torch.equal(rows, table[ids])
        weights = torch.randn(rows.shape, generator=torch.manual_seed(9 + rank))
        expected.index_put_((ids.flatten(),), weights.view(-1, D), accumulate=True)
    for rank, result in enumerate(results):  # as DDP: the mean over processes
        own = result["reads"][name]["grad"]
        torch.testing.assert_close(own, expected[rank::RANKS] / RANKS)


def test_weighted_sums_in_mixed_precision_are_those_of_a_whole_table(results):
    one = sums(0, 1)
    for rank, result in enumerate(results):
        torch.testing.assert_close(result["sums"]["sums"], one["sums"])
        torch.testing.assert_close(result["sums"]["grad"], one["grad"][rank::RANKS])


def test_all_processes_read_in_as_many_pieces(results):
    """The pieces of a step that are added have no weight."""
    for rank, result in enumerate(results):
        shares = [share for _, share in result["pieces"]]
        assert shares == [0.5] * (rank + 1) + [0.0] * (RANKS - rank - 1)


def test_norms_and_errors_are_those_of_one_process(results):
    one = numbers(0, 1)
    assert "found 1 of 148 numbers of the parameter table.weight that are not" in one["error"]
    for rank, result in enumerate(results):
        own = result["numbers"]
        torch.testing.assert_close(own["norms"], one["norms"])
        torch.testing.assert_close(own["gradient"], one["gradient"])
        assert own["largest"][0] == one["largest"][0] == "table.weight"
        assert own["largest"][1] == pytest.approx(one["largest"][1])
        assert own["error"] == one["error"]
        for name in ("norm", "value"):
            torch.testing.assert_close(own[name], one[name][rank::RANKS])
            torch.testing.assert_close(own[f"{name} dense"], one[f"{name} dense"])
