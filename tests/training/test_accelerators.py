"""Accelerators and devices that this machine lacks are named before data are read."""

import pytest
import torch
from conftest import Train

from kgrec.errors import ConfigError
from kgrec.training.accelerators import check_accelerator


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Sets how many GPUs there are, and whether there is an Apple GPU."""

    def make(gpus: int = 0, mps: bool = False, cuda: str | None = "12.8") -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.version, "cuda", cuda)

    return make


@pytest.mark.parametrize(
    ("gpus", "mps", "accelerator", "devices"),
    [
        (0, False, "auto", 1), (0, False, None, 1), (0, False, "cpu", 4), (2, False, "cpu", 1),
        (2, False, "auto", 2), (2, False, "gpu", [1]), (2, False, "cuda", [0, 1]),
        (0, True, "mps", 1), (0, True, "gpu", [0]), (0, True, "cpu", 3),
    ],
)  # fmt: skip
def test_devices_that_are_there(gpus, mps, accelerator, devices, machine):
    machine(gpus, mps)
    check_accelerator(accelerator, devices)


@pytest.mark.parametrize(
    ("gpus", "mps", "accelerator", "devices", "message"),
    [
        (0, False, "gpu", 1, "accelerator: found gpu, expected cpu or auto: PyTorch finds no GPU"),
        (0, False, "cuda", 1, "accelerator: found cuda, expected cpu or auto: PyTorch finds no"),
        (0, True, "cuda", 1, "accelerator: found cuda, expected cpu or auto"),
        (1, False, "mps", 1, "accelerator: found mps, expected cpu or auto: this machine has no"),
        (0, False, "tpu", 1, "accelerator: found 'tpu', expected one of auto, cpu, gpu, cuda, mps"),
        (0, False, "gpus", 1, "accelerator: found 'gpus', expected one of auto, cpu, gpu, cuda"),
        (2, False, "gpu", 3, r"devices: found 3, expected at most 2 \(GPUs\)"),
        (2, False, "auto", [7], r"devices: found \[7\], expected different GPUs of \[0, 1\]"),
        (2, False, "gpu", [0, 0], r"devices: found \[0, 0\], expected different GPUs"),
        (2, False, "gpu", [-1], r"devices: found \[-1\], expected different GPUs"),
        (0, False, "auto", [7], r"devices: found \[7\], expected a number: the run would use the"),
        (2, False, "cpu", [0], r"devices: found \[0\], expected a number: the run would use the"),
        (0, True, "mps", [1], r"devices: found \[1\], expected 1: an Apple machine has one GPU"),
        (0, True, "auto", 2, "devices: found 2, expected 1: an Apple machine has one GPU"),
    ],
)
def test_devices_that_are_not_there(gpus, mps, accelerator, devices, message, machine):
    machine(gpus, mps)
    with pytest.raises(ConfigError, match=f"^trainer.{message}"):
        check_accelerator(accelerator, devices)


def test_a_pytorch_without_cuda_is_named(machine):
    machine(cuda=None)
    with pytest.raises(ConfigError, match="is built without CUDA; install a CUDA build"):
        check_accelerator("gpu", 1)


@pytest.mark.parametrize(
    "setting", ["trainer.accelerator=gpu", "trainer.accelerator=tpu", "trainer.devices=[7]"]
)
def test_it_is_one_line_before_data_are_read(setting, train: Train, machine):
    machine()
    run = train("dataset=custom", "dataset.root=nowhere", "logger=csv", setting, small=False)
    assert run.code == 1
    (line,) = (run.out + run.err).splitlines()
    assert line.startswith(f"error: {setting.partition('=')[0]}: found ")
