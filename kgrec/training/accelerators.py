"""Whether the accelerator and the devices that a run asks for exist on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kgrec.errors import ConfigError

NAMES = ("auto", "cpu", "gpu", "cuda", "mps")


def check_accelerator(accelerator: str | None, devices: int | Sequence[int]) -> None:
    """Checks accelerator and devices before any data are read.

    Args:
        accelerator: ``trainer.accelerator``; None: as auto.
        devices: number of devices, or their indices.

    Raises:
        ConfigError: the accelerator is unknown or not there, or it has too few devices.
    """
    name = accelerator or "auto"
    if name not in NAMES:
        raise ConfigError(
            f"trainer.accelerator: found {name!r}, expected one of {', '.join(NAMES)}"
        )
    gpus, has_mps = torch.cuda.device_count(), torch.backends.mps.is_available()
    if (name == "cuda" or (name == "gpu" and not has_mps)) and gpus == 0:
        raise ConfigError(
            f"trainer.accelerator: found {name}, expected cpu or auto: {_why_no_gpu()}"
        )
    if name == "mps" and not has_mps:
        raise ConfigError(
            "trainer.accelerator: found mps, expected cpu or auto: this machine has no Apple GPU "
            "that PyTorch can use"
        )
    if name != "cpu" and gpus:
        _check_gpus(devices, gpus)
    elif name != "cpu" and has_mps:
        if devices not in (1, [0]):
            raise ConfigError(
                f"trainer.devices: found {devices}, expected 1: an Apple machine has one GPU"
            )
    elif not isinstance(devices, int):
        raise ConfigError(
            f"trainer.devices: found {list(devices)}, expected a number: the run would use the "
            "CPU, and a list names GPUs"
        )


def _check_gpus(devices: int | Sequence[int], gpus: int) -> None:
    if isinstance(devices, int):
        if devices > gpus:
            raise ConfigError(f"trainer.devices: found {devices}, expected at most {gpus} (GPUs)")
        return
    chosen = list(devices)
    valid = all(type(index) is int and 0 <= index < gpus for index in chosen)
    if not valid or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"trainer.devices: found {chosen}, expected different GPUs of {list(range(gpus))}"
        )


def _why_no_gpu() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return (
            f"PyTorch {torch.__version__} is built without CUDA; install a CUDA build of PyTorch "
            "to use a GPU"
        )
    return "PyTorch finds no GPU; see nvidia-smi and CUDA_VISIBLE_DEVICES"
