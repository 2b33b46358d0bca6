"""Random draws that can be repeated: every one comes from (seed, purpose, epoch)."""

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
    """A generator for one purpose, alike on every rank and in every resumed run.

    Because nothing is carried over from one epoch to the next, resuming needs no saved
    generator state.

    Args:
        seed: the run's or the data set's seed.
        purpose: what is drawn ("split", "negatives", …); other purposes draw independently.
        epoch: for what is drawn anew each epoch.
        device: where is drawn; a GPU draws other numbers than a CPU.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
