"""Real runs, in processes of their own: what a user would type, and what it must reach."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, SMALL

pytestmark = pytest.mark.slow

HERE = Path(os.environ.get("KGREC_DATA_DIR", "/nonexistent"))


def run(folder: Path, *overrides: str, program: list[str] | None = None) -> dict[str, float]:
    """Runs train.py in ``folder`` and returns its metrics."""
    command = program or [sys.executable, str(ROOT / "train.py")]
    done = subprocess.run(
        [*command, *overrides, "hydra.run.dir=run"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("WANDB")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr
    return json.loads((folder / "run" / "metrics.json").read_text())


def mean_auc(tmp_path: Path, *overrides: str) -> tuple[float, float]:
    """Test AUC of the model and of popularity, means of three seeds."""
    found = []
    for seed in (2019, 2020, 2021):
        (tmp_path / str(seed)).mkdir()
        found.append(run(tmp_path / str(seed), *overrides, f"seed={seed}", "logger=csv"))
    return (
        statistics.mean(m["test/auc"] for m in found),
        statistics.mean(m["popularity/test/auc"] for m in found),
    )


def needs(name: str) -> None:
    if not (HERE / name).is_dir():
        pytest.skip(f"KGREC_DATA_DIR names no {name}")


def test_the_main_job_of_the_readme(tmp_path):
    metrics = run(tmp_path)
    assert metrics["test/auc"] >= 0.905
    assert metrics["popularity/test/auc"] == pytest.approx(0.883, abs=0.005)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "run"]
    # The README shows what this command prints.
    shown = re.search(r"│ kgcn +│ (\S+) │", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert shown is not None
    assert metrics["test/auc"] == pytest.approx(float(shown[1]), abs=0.003)


def test_music_as_released(tmp_path):
    needs("music")
    auc, popularity = mean_auc(tmp_path, "experiment=released_music")
    assert 0.788 <= auc <= 0.812
    assert popularity == pytest.approx(0.795, abs=0.004)


def test_music_with_the_paper_s_equations(tmp_path):
    needs("music")
    assert mean_auc(tmp_path, "dataset=music")[0] >= 0.82


def test_music_tuned(tmp_path):
    needs("music")
    assert mean_auc(tmp_path, "dataset=music", "settings=tuned")[0] >= 0.850


def test_book_as_released(tmp_path):
    needs("book")
    metrics = run(tmp_path, "experiment=released_book", "logger=csv")
    assert 0.67 <= metrics["test/auc"] <= 0.71
    assert metrics["popularity/test/auc"] == pytest.approx(0.746, abs=0.005)


def test_book_tuned(tmp_path):
    needs("book")
    metrics = run(tmp_path, "dataset=book", "settings=tuned", "logger=csv")
    assert metrics["test/auc"] >= 0.755


def test_a_wheel_trains_from_an_empty_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "kgrec/conf/train.yaml" in names
    assert "kgrec/py.typed" in names
    assert "kgrec/reports/templates/dataset.html" in names
    assert "kgrec/reports/templates/sweep.js" in names
    assert "hydra_plugins/kgrec_sweepers.py" in names
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    script = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import kgrec; "
        f"assert kgrec.__file__.startswith({str(site)!r}); from kgrec.cli import main; main()"
    )
    metrics = run(empty, *SMALL, program=[sys.executable, "-c", script, "train"])
    assert 0 < metrics["test/auc"] < 1
    assert sorted(p.name for p in empty.iterdir()) == ["run"]


def test_a_movie_sized_data_set_has_the_sizes_of_table_1(tmp_path):
    """20,000,263 ratings, from raw files to ready, in a process of its own."""
    script = """
import json, sys
from pathlib import Path
from kgrec.data.synthetic.twins import synthetic
data = synthetic(like="movie", data_dir=".", cache=sys.argv[1])
# Of this program alone; ru_maxrss begins with the memory of the process that started it.
(line,) = [l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l]
peak = 1024 * int(line.split()[1]) / 1e9
print(json.dumps([data.counts(), data.published_counts, len(data.rated), peak]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, "cache"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    counts, published, rated, gigabytes = json.loads(done.stdout.splitlines()[-1])
    assert counts == published
    assert rated > counts["positives"]
    assert gigabytes < 1.5


def test_ten_processes_prepare_a_data_set_once(tmp_path):
    script = """
import logging, sys
from kgrec.data.synthetic.twins import synthetic
logging.basicConfig(level=logging.INFO)
print(len(synthetic(like="music", data_dir=".", cache="cache").positives))
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(10)
    ]  # fmt: skip
    outputs = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 10, outputs
    assert {out.strip() for out, _ in outputs} == {"21173"}
    assert sum("preparing synthetic-music" in err for _, err in outputs) == 1
    assert sum("synthetic data like music" in err for _, err in outputs) == 1


def test_a_model_finds_what_is_planted_in_a_twin(tmp_path):
    """At movie's density; the twins of music and book are too sparse for it."""
    metrics = run(
        tmp_path, "dataset=synthetic", "dataset.like=movie", "dataset.scale=0.0625",
        "settings=none", "batch_size=4096", "epochs=8", "logger=csv", "dataset.seed=1",
    )  # fmt: skip
    assert metrics["test/auc"] > metrics["popularity/test/auc"] + 0.004
