"""Whether Weights & Biases can be reached, found out without a prompt and without a long wait."""

from __future__ import annotations

import os
from typing import Any

# Seconds that a server has to answer.
PATIENCE = 5


def imported() -> Any:
    """The module ``wandb``, which would take an empty ``WANDB_MODE`` for a mistake."""
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)
    import wandb

    return wandb


def has_key() -> bool:
    """Whether a well-formed key is at hand: in ``WANDB_API_KEY``, the settings or ~/.netrc."""
    wandb = imported()
    try:
        return bool(wandb.login(prompt=False, verify=False))
    except (wandb.errors.Error, ValueError):  # a malformed key
        return False


def server() -> str:
    """Address of the server, ``WANDB_BASE_URL`` or W&B's own."""
    return str(imported().setup().settings.base_url)


def answers(address: str) -> bool:
    """Whether a server answers at all, directly or through a proxy."""
    import requests

    try:
        requests.head(address, timeout=PATIENCE)
    except requests.exceptions.SSLError:
        return True  # it is there; which certificates W&B trusts is its own business
    except requests.exceptions.RequestException:
        return False
    return True
