"""Each job has a device of its own, and a killed job leaves its device free."""

import contextlib
import subprocess
import sys
import threading

import pytest
from omegaconf import OmegaConf

from kgrec.errors import ConfigError
from kgrec.sweeps import device_pool as devices
from kgrec.sweeps import job
from kgrec.sweeps.device_pool import free_device

GPUS = ["0", "1", "2", "3"]


def test_no_two_jobs_have_one_gpu(tmp_path):
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(free_device("auto", 4, tmp_path, GPUS)).devices for _ in GPUS]
    assert sorted(taken) == [[0], [1], [2], [3]]
    with free_device("gpu", 1, tmp_path, GPUS) as again:
        assert again.devices == [0]


def test_a_job_takes_an_allowed_gpu(tmp_path):
    with free_device("gpu", 1, tmp_path, GPUS, [1, 3]) as first:
        with free_device("gpu", 1, tmp_path, GPUS, [1, 3]) as second:
            assert (first.devices, second.devices) == ([1], [3])
        with free_device("gpu", 1, tmp_path, GPUS) as other:
            assert other.devices == [0]
    refused = pytest.raises(ConfigError, match=r"trainer.devices: found \[4\], expected some of")
    with refused, free_device("gpu", 1, tmp_path, GPUS, [4]):
        pass


def test_a_job_waits_until_a_gpu_is_free(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.01)
    taken, release, second_devices = threading.Event(), threading.Event(), []

    def hold() -> None:
        with free_device("auto", 1, tmp_path, ["a"]):
            taken.set()
            release.wait()

    def ask() -> None:
        with free_device("auto", 1, tmp_path, ["a"]) as device:
            second_devices.append(device.devices)

    first, second = threading.Thread(target=hold), threading.Thread(target=ask)
    first.start()
    taken.wait()
    second.start()
    second.join(timeout=0.2)
    assert second_devices == []
    release.set()
    second.join(timeout=5)
    first.join()
    assert second_devices == [[0]]


def test_a_job_that_waits_for_a_gpu_holds_no_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(devices, "CORES", 4)
    waits, threads = threading.Event(), []
    monkeypatch.setattr(devices.log, "info", lambda *arguments: waits.set())

    def wait_for_gpu() -> None:
        with free_device("gpu", 2, tmp_path, ["a"]) as device:
            threads.append(device.threads)

    waiting = threading.Thread(target=wait_for_gpu)
    with free_device("gpu", 2, tmp_path, ["a"]) as first:
        assert first.threads == 2
        waiting.start()
        assert waits.wait(timeout=5)
        with free_device("cpu", 2, tmp_path) as other:
            assert other.threads == 2  # the cores that the waiting job does not hold
    waiting.join(timeout=5)
    assert threads == [2]


@pytest.mark.slow
def test_the_gpu_of_a_killed_job_is_free(tmp_path):
    script = f"""
import time
from pathlib import Path
from kgrec.sweeps.device_pool import free_device
with free_device("gpu", 1, Path({str(tmp_path)!r}), ["only"]):
    print("holding", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        process.kill()
        process.wait()
    with free_device("gpu", 1, tmp_path, ["only"]) as device:
        assert (device.devices, device.name) == ([0], "GPU only")


def test_cores_are_divided_among_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "CORES", 8)
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(free_device("cpu", 3, tmp_path)) for _ in range(5)]
    assert [device.threads for device in taken] == [2, 2, 2, 2, 1]  # at least one, without waiting
    assert {device.devices for device in taken} == {1}
    with free_device("cpu", 1, tmp_path) as alone:
        assert alone.threads == 8
    with free_device("auto", 1, tmp_path, []) as without_gpu:
        assert without_gpu.name == "CPU, 8 threads"


@pytest.mark.parametrize(
    ("visible", "count", "names"),
    [(None, 2, ["0", "1"]), ("4,6", 2, ["4", "6"]), ("GPU-ab, GPU-cd", 2, ["GPU-ab", "GPU-cd"]),
     ("7,x", 1, ["7"]), ("", 0, []), ("3", 2, ["0", "1"])],
)  # fmt: skip
def test_gpus_are_named_as_the_machine_names_them(visible, count, names, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(devices.torch.cuda, "device_count", lambda: count)
    assert devices.gpu_names() == names
    assert devices.jobs_at_once() == (count or devices.CORES)


@pytest.mark.parametrize(
    ("launcher", "jobs"),
    [
        ({"ray": {"remote": {}}}, 8), ({"ray": {"remote": {"num_cpus": 4}}}, 2),
        ({"ray": {"remote": {"num_cpus": 0.5}}}, 8), ({"n_jobs": 3}, 3), ({}, 1),
    ],
)  # fmt: skip
def test_jobs_side_by_side_on_one_machine(monkeypatch, launcher, jobs):
    """Ray counts one CPU for a job that does not say."""
    monkeypatch.setattr(job, "CORES", 8)
    monkeypatch.setattr(job.HydraConfig, "get", lambda: OmegaConf.create({"launcher": launcher}))
    assert job.side_by_side("cpu") == jobs
