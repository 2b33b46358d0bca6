"""The same command gives the same metrics, bit for bit, whatever else differs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SMALL, Train, Trained

MODELS = ("kgcn", "lightckg", "lightgcn", "ripplenet")


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    """Metrics without times and memory, which no run can repeat."""
    kept = {k: v for k, v in metrics.items() if "seconds" not in k and "memory" not in k}
    assert "test/auc" in kept
    return kept


def of(folder: Path) -> dict[str, float]:
    return timeless(json.loads((folder / "metrics.json").read_text()))


@pytest.mark.parametrize(
    "words",
    ["memory_budget=8 GB", "threads=2", "steps_per_call=1"],
)
def test_a_setting_of_the_machine_does_not_change_a_bit(words, train: Train, trained: Trained):
    other = train("model=kgcn", words)
    assert other.code == 0, other.out
    assert timeless(other.metrics) == of(trained("model=kgcn"))


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_main_models_repeat_bit_for_bit(model, train: Train):
    first = train(f"model={model}", folder="first")
    again = train(f"model={model}", folder="again")
    pieces = train(f"model={model}", "memory_budget=1 MB", folder="pieces")
    assert (first.code, again.code, pieces.code) == (0, 0, 0), pieces.out
    assert timeless(first.metrics) == timeless(again.metrics)
    # The gradients of pieces add up to that of the step; floats are rounded in another order.
    assert timeless(pieces.metrics) == pytest.approx(timeless(first.metrics), rel=1e-5)


@pytest.mark.slow
def test_launchers_and_hash_seeds_do_not_change_a_bit(tmp_path: Path, train: Train):
    words = ["-m", *SMALL, f"model={','.join(MODELS)}", "sweep=s"]
    ways = {"1": [], "2": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]}
    for seed, launcher in ways.items():
        folder = tmp_path / seed
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, str(ROOT / "train.py"), *words, *launcher],
            cwd=folder, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    for model in MODELS:
        alone = train(f"model={model}", folder=f"alone-{model}")
        for seed in ways:
            assert of(tmp_path / seed / "logs/sweeps/s" / f"model={model}") == of(alone.folder)
