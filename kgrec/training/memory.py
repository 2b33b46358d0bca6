"""Does it fit? Estimated from real degrees, before training rather than in the middle of it."""

from __future__ import annotations

import psutil
import torch
from torch import Tensor

from kgrec.errors import ConfigError
from kgrec.models.recommender import Recommender

GIB = 2**30
# Parameter, gradient and Adam's two moments.
COPIES_OF_PARAMETERS = 4


def available_bytes(device: torch.device) -> int:
    """Free memory of a device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def training_bytes(recommender: Recommender, items: Tensor, batch_size: int) -> float:
    """Estimated bytes of one training step.

    Args:
        recommender: the model.
        items: (n,) items as training meets them.
        batch_size: rows a step.
    """
    parameters = sum(p.numel() * p.element_size() for p in recommender.parameters())
    rows = min(batch_size, 2 * len(items))
    return rows * _mean(recommender, items) + COPIES_OF_PARAMETERS * parameters


def check_memory(
    recommender: Recommender, items: Tensor, batch_size: int, device: torch.device
) -> None:
    """Refuses a batch that would not fit.

    Raises:
        ConfigError: the estimate exceeds what is free; says what to lower.
    """
    needed, free = training_bytes(recommender, items, batch_size), available_bytes(device)
    if needed > free:
        raise ConfigError(
            f"batch_size: found {batch_size:,}, whose training step needs about "
            f"{needed / GIB:.1f} GiB ({_mean(recommender, items) / 2**20:.2f} MiB a row), expected "
            f"at most the {free / GIB:.1f} GiB that are free on {device}; lower batch_size, "
            "or the model's receptive field (model.K, model.H) and size (model.d)"
        )


def evaluation_batch_size(recommender: Recommender, items: Tensor, budget: int = GIB) -> int:
    """How many rows to score at once so that ``budget`` bytes are enough."""
    return int(max(64, min(65_536, budget / max(1.0, _mean(recommender, items)))))


def _mean(recommender: Recommender, items: Tensor) -> float:
    return float(recommender.bytes_per_row(items).double().mean())
