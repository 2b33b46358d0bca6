"""Weights & Biases without surprises: never a prompt, never a long wait."""

from __future__ import annotations

import os
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger


def wandb_mode() -> str:
    """``WANDB_MODE`` if it is set; else "online" where a key is at hand, else "offline"."""
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    import wandb

    try:
        return "online" if wandb.login(prompt=False, verify=False) else "offline"
    except (wandb.errors.Error, ValueError):  # a malformed key
        return "offline"


def wandb_logger(run_dir: str, project: str, group: str | None = None) -> WandbLogger:
    """A logger whose every file lies in the run folder.

    Args:
        run_dir: the run folder.
        project: W&B project.
        group: W&B group, or None.
    """
    own = Path(run_dir) / "wandb"
    own.mkdir(parents=True, exist_ok=True)
    # W&B also writes settings, caches and artifacts to the home folder, unless told where.
    for variable, folder in (("CONFIG", "config"), ("CACHE", "cache"), ("DATA", "data")):
        os.environ.setdefault(f"WANDB_{variable}_DIR", str(own / folder))
    os.environ.setdefault("WANDB_SILENT", "true")
    return WandbLogger(
        save_dir=run_dir,
        project=project,
        group=group,
        name=Path(run_dir).parent.name + "/" + Path(run_dir).name,
        mode=wandb_mode(),
        tags=None,
    )
