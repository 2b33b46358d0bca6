"""Reproducible random draws: each depends only on (seed, purpose, epoch)."""

from __future__ import annotations

import hashlib

import torch

# Devices without float64.
SINGLE_PRECISION = ("mps",)


def widest_float(device: torch.device) -> torch.dtype:
    """float64, or float32 on a device that has no float64."""
    return torch.float32 if device.type in SINGLE_PRECISION else torch.float64


def generator(
    seed: int, purpose: str, epoch: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one purpose, equal on every rank and in every resumed run.

    No state is carried from one epoch to the next, so a resumed run needs no saved generator.

    Args:
        seed: seed of the run or of the data set.
        purpose: content of the draw ("split", "negatives", …); draws for different purposes are
            independent.
        epoch: number of the epoch, for draws that differ by epoch.
        device: device of the generator; a GPU draws other numbers than a CPU.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
