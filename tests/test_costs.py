"""The cost model of docs/scale.md counts what sharded training has and sends."""

from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conftest import ROOT

from kgrec.sharding.table import local_part
from kgrec.sharding.traffic import bytes_of_read


@pytest.fixture
def costs() -> Iterator[SimpleNamespace]:
    """Modules of benchmarks/costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        from costs import machines, model, simulate, steps

        modules: dict[str, ModuleType] = {
            "machines": machines, "model": model, "simulate": simulate, "steps": steps,
        }  # fmt: skip
        yield SimpleNamespace(**modules)


@pytest.mark.parametrize("ranks", [1, 3])
def test_memory_is_that_of_a_model_and_its_optimizer(costs: SimpleNamespace, ranks: int) -> None:
    sizes = costs.model.Sizes(101, 40, 20, relations=3, d=8, K=4, H=2, batch=6, ranks=ranks)
    module = costs.steps.build(sizes, 0)
    parameters = [local_part(p) for p in module.recommender.parameters()]
    trained = [p for p in parameters if p.is_floating_point()]
    optimizer = module.configure_optimizers()
    for p in trained:
        table = p.ndim == 2 and len(p) > 10  # of users or entities
        p.grad = torch.ones_like(p).to_sparse(1) if table else torch.ones_like(p)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
    graph = (
        list(module.recommender.neighborhood)
        if ranks == 1
        else [module.recommender.shards.neighbors.local]
    )
    memory = costs.model.memory(sizes)
    assert memory["parameters"] == sum(p.nbytes for p in trained)
    assert memory["moments"] == sum(t.nbytes for t in moments)
    assert memory["graph"] == sum(t.nbytes for t in graph)


@pytest.mark.parametrize("trained", [True, False])
def test_bytes_of_evenly_spread_ids_are_exact(costs: SimpleNamespace, trained: bool) -> None:
    W, n, row_bytes = 4, 24, 4 * 8  # a quarter of the ids is on each rank
    ids = [rank + 3 * torch.arange(n) for rank in range(W)]
    read = costs.model.Read(n, row_bytes, trained)
    assert bytes_of_read(ids, row_bytes, trained).tolist() == [sum(read.sent(W))] * W


def test_expected_ids_and_bytes_are_those_of_drawn_steps(costs: SimpleNamespace) -> None:
    sizes = costs.model.Sizes(20_000, 5000, 5000, d=8, K=4, H=2, batch=1024, ranks=4)
    drawn = costs.simulate.simulate(sizes, 0.0)
    assert drawn["expected_distinct"] == pytest.approx(drawn["distinct"], rel=0.02)
    assert drawn["expected"] == pytest.approx(drawn["sent"], rel=0.02)
    popular = costs.simulate.simulate(sizes, 1.0)
    assert popular["distinct"] < drawn["distinct"]
    assert popular["most"] < 1.1 < popular["most_in_ranges"]


def test_a_measured_kernel_costs_what_was_measured_and_lies_between(costs: SimpleNamespace) -> None:
    points = [[16, 8, 0, 3e-9], [256, 8, 0, 1e-9], [16, 32, 0, 6e-9], [256, 32, 0, 4e-9]]
    machine = costs.machines.Measured({"fixed": 1e-3, "kernels": {"sums": points}})
    assert machine.kernel("sums", 16, 8, 16) == pytest.approx(16 * 3e-9)
    assert machine.kernel("sums", 64, 8, 64) == pytest.approx(64 * 2e-9)
    assert machine.kernel("sums", 256, 20, 256) == pytest.approx(256 * 2.5e-9)
    assert machine.kernel("sums", 1024, 8, 1024) == pytest.approx(1024 * 1e-9)


def test_a_step_that_is_shared_sends_and_one_alone_does_not(costs: SimpleNamespace) -> None:
    alone = costs.model.Sizes(10**8, 10**7, 10**7, d=64, K=8)
    parts = costs.model.step(alone._replace(ranks=8), costs.machines.H100)
    assert parts["exchange"] > 0
    assert "exchange" not in costs.model.step(alone, costs.machines.H100)
    assert costs.model.sent(alone) == 0
