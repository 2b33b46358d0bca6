"""Whether Weights & Biases can be reached, found out without a prompt and without a long wait."""

from __future__ import annotations

import os

# Seconds that a server has to answer.
PATIENCE = 5


def drop_empty_mode() -> None:
    """Takes an empty ``WANDB_MODE`` for none, before W&B takes it for a mistake."""
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)


def has_key() -> bool:
    """Whether a well-formed key is at hand: in ``WANDB_API_KEY``, the settings or ~/.netrc."""
    drop_empty_mode()
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except (wandb.errors.Error, ValueError):  # a malformed key
        return False


def server() -> str:
    """Address of the server, ``WANDB_BASE_URL`` or W&B's own."""
    drop_empty_mode()
    import wandb

    return str(wandb.setup().settings.base_url)


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
