"""The benchmarks run, at toy size; and the yardstick they measure against is KGCN."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from kgrec.data.protocols import paper
from kgrec.data.splits import RandomSplit
from kgrec.data.synthetic.small import generate
from kgrec.models.kgcn.model import KGCN

BENCHMARKS = {
    "speed": ["--toy", "--rounds", "1"],
    "roofline": ["--toy"],
    "scale": ["--scales", "0.03"],
    "start": ["--toy", "--rounds", "1"],
    "choices": ["--toy", "--rounds", "1"],
    "new_items": ["sum", "--toy", "--seeds", "1", "2"],
    "fold_in": ["svd", "ease", "--toy", "--seeds", "1", "2"],
    "index": ["--toy", "--models", "svd"],
    "graph_shards": ["--toy"],
    "preparation": ["--scale", "0.03", "--times", "1"],
    "samplers": ["--toy", "--seeds", "1", "--draws", "5"],
    "serve": ["--toy", "--rounds", "1", "--seconds", "1", "--clients", "4"],
    "sharded_checkpoints": ["--rows", "1000", "--d", "8"],
    "sharded_ranking": ["--items", "300", "--users", "20", "--models", "svd"],
    "sharded": ["constants", "steps", "simulate", "scale", "--toy"],
    "models": ["svd", "ripplenet", "ease", "--toy", "--rounds", "1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_it_runs_and_leaves_figures(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, f"benchmarks/{name}.py", *BENCHMARKS[name], "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    table = (tmp_path / f"{name}.md").read_text()
    assert table.strip() in done.stdout
    assert json.loads((tmp_path / f"{name}.json").read_text())["machine"]["cores"] >= 1


def test_every_benchmark_of_speed_is_run_here():
    found = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    others = {"common", "port", "kgrec_tasks", "recbole_tasks", "data"}
    others |= {"serve_faults", "serve_load", "serve_plain", "serve_servers"}  # run by serve
    of_quality = {"text", "fidelity", "pruning"}
    others |= {"kill", "kill_attempt", "kill_state"}  # run by test_kill.py
    others |= {"fuzz"}  # run by test_fuzz.py
    others |= {"cluster"}  # run by test_cluster.py
    assert found - others - of_quality == set(BENCHMARKS)


@pytest.mark.parametrize("H", [1, 2])
def test_the_usual_port_scores_as_kgrec_does(H: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from port import GatherEverything

    dataset = paper(generate(num_users=30, num_items=60, positives_per_user=5), RandomSplit())
    model = KGCN.from_dataset(dataset, K=3, H=H, d=4)
    users, items = dataset.val.users, dataset.val.items
    torch.testing.assert_close(
        GatherEverything(model).score(users, items), model.score(users, items)
    )
