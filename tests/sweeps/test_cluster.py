"""The files to copy for clusters, and two machines made of network namespaces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, composed
from hydra.core.override_parser.overrides_parser import OverridesParser

from kgrec.config.checks import check

FOLDER = ROOT / "docs" / "cluster"


def words_compose(words: list[str]) -> None:
    """Checks the first job of a sweep's command."""
    parsed = OverridesParser.create().parse_overrides(words)
    first = [
        f"{override.get_key_element()}={next(override.sweep_string_iterator())}"
        if override.is_sweep_override()
        else override.input_line
        for override in parsed
        if override.get_key_element() != "sweep"
    ]
    check(composed(*first, "paths.run=x"))


def run_script(folder: Path, code: int) -> subprocess.CompletedProcess[str]:
    """Runs sweep.sbatch with stand-ins for the commands of SLURM."""
    for name, line in {
        "srun": f'printf "%s\\n" "$@"; exit {code}',
        "scontrol": 'echo "scontrol $@"',
    }.items():
        (folder / name).write_text(f"#!/bin/bash\n{line}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["bash", FOLDER / "sweep.sbatch", "sweep=depth", "model.H=1,2"],
        env=os.environ | {
            "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
            "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3",
        },
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_slurm_script_starts_a_worker(tmp_path: Path):
    done = run_script(tmp_path, 0)
    assert done.returncode == 0, done.stderr
    command, *words = done.stdout.split("train.py\n")[1].split()
    assert command == "-m"
    assert words == ["hydra.sweeper.shared=true", "sweep=depth", "model.H=1,2"]
    words_compose(words)


@pytest.mark.parametrize(("code", "again"), [(143, True), (1, False)])
def test_the_slurm_script_is_queued_again_when_its_time_is_up(tmp_path: Path, code, again):
    done = run_script(tmp_path, code)
    assert done.returncode == code
    assert ("scontrol requeue 77_3" in done.stdout) == again


def test_the_kubernetes_job_starts_workers():
    job = yaml.safe_load((FOLDER / "sweep.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"  # as backoffLimitPerIndex requires
    assert spec["parallelism"] == spec["completions"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # as backoffLimitPerIndex and podFailurePolicy require
    (worker,) = pod["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert {mount["name"] for mount in worker["volumeMounts"]} == {
        v["name"] for v in pod["volumes"]
    }
    option, *words = worker["args"]
    assert option == "-m"
    assert "hydra.sweeper.shared=true" in words
    assert any(word.startswith("sweep=") for word in words)
    words_compose(words)


def test_the_image_has_what_the_package_needs():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    assert {"kgrec", "hydra_plugins", "conf", "train.py", "pyproject.toml"} <= copied
    assert 'ENTRYPOINT ["python", "train.py"]' in lines


def test_the_ray_cluster_is_one():
    text = (FOLDER / "ray.yaml").read_text()
    cluster = yaml.safe_load(text)
    assert cluster["provider"]["type"] == "local"
    head, worker = (cluster[f"{name}_start_ray_commands"][-1] for name in ("head", "worker"))
    assert "ray start --head --port=6379" in head
    assert "ray start --address=$RAY_HEAD_IP:6379" in worker
    (command,) = re.findall(r"train\.py -m (hydra/launcher=ray .*?)'", text)
    words = [word for word in command.split() if not re.match(r"\+?hydra[./]launcher", word)]
    words_compose(words)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [["sweep", "--workers", "2", "--kills", "1", "--seed", "1"], ["training"]],
    ids=["sweep", "training"],
)
def test_two_machines_on_one(words: list[str]):
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "cluster.py"), *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.stderr.startswith("error: needs"):
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stdout + done.stderr
