"""Checks whether Weights & Biases can be reached, without a prompt or a long wait."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from kgrec.errors import ConfigError

# Variables with an address that W&B writes into its debug logs.
ADDRESSES = ("WANDB_BASE_URL", "WANDB_APP_URL", "WANDB_HTTP_PROXY", "WANDB_HTTPS_PROXY")

# Seconds that a server has to answer.
PATIENCE = 5


def drop_empty_mode() -> None:
    """Removes an empty ``WANDB_MODE``, which W&B would refuse, before W&B is imported.

    Raises:
        ConfigError: an address has a password in it, which W&B would write into its logs.
    """
    if not os.environ.get("WANDB_MODE"):
        os.environ.pop("WANDB_MODE", None)
    for name in ADDRESSES:
        if "@" in urlsplit(os.environ.get(name, "")).netloc:
            raise ConfigError(
                f"{name}: found a user name or password in the address, which W&B would write into "
                "its logs; expected the address alone, and a key in WANDB_API_KEY or ~/.netrc"
            )


def key_problem() -> str | None:
    """The fault of the API key; None: a well-formed key was found.

    The key is in ``WANDB_API_KEY``, in W&B's settings or in ~/.netrc. It is never part of the
    message.
    """
    drop_empty_mode()
    import wandb

    try:
        return None if wandb.login(prompt=False, verify=False) else "found no API key"
    except (wandb.errors.Error, ValueError):
        where = "in WANDB_API_KEY" if os.environ.get("WANDB_API_KEY") else "of wandb login"
        return f"found a malformed API key {where}, expected the 40 or more characters of a key"


def server() -> str:
    """Address of the server, ``WANDB_BASE_URL`` or W&B's own."""
    drop_empty_mode()
    import wandb

    return str(wandb.setup().settings.base_url)


def answers(address: str) -> bool:
    """Whether a server answers, directly or through a proxy."""
    import requests

    try:
        requests.head(address, timeout=PATIENCE)
    except requests.exceptions.SSLError:
        return True  # there is a server; W&B decides which certificates it trusts
    except requests.exceptions.RequestException:
        return False
    return True
