"""What the figures of a run depend on, as flat settings: is one run what another would be?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

# Where a run goes and how it is watched, not what it finds.
NOT_THE_RUN = (
    "paths", "logger", "ckpt_path", "threads", "cores", "sweep", "trainer.accelerator",
    "trainer.devices", "trainer.strategy", "trainer.num_nodes", "dataset.cache",
    "dataset.data_dir", "callbacks.progress",
)  # fmt: skip
# Callbacks hold copies of the above.
NOT_OF_A_CALLBACK = ("dirpath", "folder", "resume_from")


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"model": {"K": 8}}`` to ``{"model.K": 8}``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def settings(cfg: DictConfig) -> dict[str, Any]:
    """What a run's figures depend on, flat: ``model.K`` to 8."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True, enum_to_str=True)
    return {key: value for key, value in flat(plain).items() if counts(key)}


def counts(key: str) -> bool:
    """Whether a run's figures may depend on a setting."""
    if any(key == k or key.startswith(f"{k}.") for k in NOT_THE_RUN):
        return False
    return not (key.startswith("callbacks.") and key.rpartition(".")[2] in NOT_OF_A_CALLBACK)


def difference(kept: Path, wanted: Mapping[str, Any]) -> str | None:
    """The first setting in which a run folder's config.yaml differs, in words; None: none does.

    Args:
        kept: the file.
        wanted: what :func:`settings` says of the job to be done.
    """
    if not kept.is_file():
        return None
    found = settings(OmegaConf.create(OmegaConf.load(kept)))  # type: ignore[arg-type]
    for key in sorted(found.keys() | wanted.keys()):
        if found.get(key) != wanted.get(key):
            return f"found {key} {found.get(key)!r} in {kept}, expected {wanted.get(key)!r}"
    return None
