"""Two processes with half of the rows each give the weights of one process with all rows."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from kgrec.training.distributed import close
from kgrec.training.lazy_adam import LazyAdam
from kgrec.training.sparse_gradients import ask_for_sparse_gradients, average_sparse_gradients


class Scores(nn.Module):
    """Two tables and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items = nn.Embedding(5, 4), nn.Embedding(9, 4)
        self.layer = nn.Linear(4, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.layer(self.users(rows[:, 0]) * self.items(rows[:, 1])).sigmoid()


# (steps, rows, 2); the second half of the first step touches rows that the first does not.
ROWS = torch.tensor([[[0, 0], [1, 8], [2, 3], [2, 3]], [[0, 1], [4, 1], [0, 1], [3, 7]]])


def train(rank: int, world_size: int, folder: str) -> None:
    """Trains on a share of every step, and saves the weights."""
    torch.set_num_threads(1)
    model = Scores()
    tables = ask_for_sparse_gradients(model)
    wrapped: nn.Module = model
    if world_size > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
        )
        wrapped = DistributedDataParallel(model)
    optimizer = LazyAdam(model.parameters(), lr=0.1, weight_decay=0.01)
    for rows in ROWS:
        optimizer.zero_grad()
        wrapped(rows.chunk(world_size)[rank]).mean().backward()
        average_sparse_gradients(tables)
        optimizer.step()
    torch.save(model.state_dict(), f"{folder}/{world_size}-{rank}.pt")
    del wrapped
    close()


@pytest.mark.slow
def test_replicas_are_equal_and_equal_one_process(tmp_path: Path):
    train(0, 1, str(tmp_path))
    mp.spawn(train, args=(2, str(tmp_path)), nprocs=2, daemon=True)
    one, first, second = (
        torch.load(tmp_path / name, weights_only=True) for name in ("1-0.pt", "2-0.pt", "2-1.pt")
    )
    for name, weights in one.items():
        torch.testing.assert_close(first[name], weights)
        assert torch.equal(first[name], second[name]), name


def test_every_embedding_is_sparse_and_hidden_from_ddp():
    model = nn.Sequential(
        nn.Embedding(3, 2), nn.Linear(2, 2), nn.ModuleDict({"x": nn.Embedding(4, 2)})
    )
    tables = ask_for_sparse_gradients(model)
    assert [table.shape[0] for table in tables] == [3, 4]
    assert model[0].sparse
    assert model._ddp_params_and_buffers_to_ignore == ["0.weight", "2.x.weight"]
