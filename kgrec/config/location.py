"""Where the configuration files lie, and which of them there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_SETTINGS = "published"  # as conf/train.yaml has it; a test compares the two


def conf_dir() -> Path:
    """The configuration: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent.parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"


def options(group: str) -> list[str]:
    """Names of the files of a configuration group, such as ``dataset``."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def applied_hparams(choices: Mapping[str, Any]) -> str:
    """One line that says which settings file was applied, or that there is none."""
    wanted = f"{choices['settings']}/{choices['dataset']}-{choices['model']}"
    if (conf_dir() / "hparams" / f"{wanted}.yaml").is_file():
        return f"settings: conf/hparams/{wanted}.yaml"
    return f"settings: the model's own (no conf/hparams/{wanted}.yaml)"


def missing_settings(choices: Mapping[str, Any]) -> str | None:
    """A warning if settings were asked for by name and there is no file of them; else None."""
    settings = choices["settings"]
    if settings in ("none", DEFAULT_SETTINGS):
        return None
    file = f"conf/hparams/{settings}/{choices['dataset']}-{choices['model']}.yaml"
    if (conf_dir() / file.removeprefix("conf/")).is_file():
        return None
    return f"settings={settings} has no {file}: these results are of the model's own settings"
