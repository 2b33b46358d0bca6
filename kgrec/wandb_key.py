"""Whether Weights & Biases can be reached with a key, found out without a prompt."""

from __future__ import annotations


def has_key() -> bool:
    """Whether a well-formed key is at hand: in ``WANDB_API_KEY``, the settings or ~/.netrc."""
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except (wandb.errors.Error, ValueError):  # a malformed key
        return False
