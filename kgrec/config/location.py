"""Where the configuration files lie."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def conf_dir() -> Path:
    """The configuration: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent.parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"


def applied_hparams(choices: Mapping[str, Any]) -> str:
    """Says which settings file was applied, or that there is none."""
    wanted = f"{choices['settings']}/{choices['dataset']}-{choices['model']}"
    if (conf_dir() / "hparams" / f"{wanted}.yaml").is_file():
        return f"settings: conf/hparams/{wanted}.yaml"
    return f"settings: the model's own (there is no conf/hparams/{wanted}.yaml)"
