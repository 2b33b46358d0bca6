"""Location of the configuration files, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

DEFAULT_SETTINGS = "published"  # as in conf/train.yaml; a test compares the two


def conf_dir() -> Path:
    """Folder of the configuration: inside the installed package, or next to it in a checkout."""
    inside = Path(__file__).parent.parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "conf"


def options(group: str) -> list[str]:
    """Names of the files of a configuration group, such as ``dataset``."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def applied_hparams(choices: Mapping[str, Any]) -> str:
    """One line that names the applied settings file, or says that there is none."""
    file_name = f"{choices['settings']}/{choices['dataset']}-{choices['model']}"
    if (conf_dir() / "hparams" / f"{file_name}.yaml").is_file():
        return f"settings: conf/hparams/{file_name}.yaml"
    return f"settings: the model's own (no conf/hparams/{file_name}.yaml)"


def missing_settings(choices: Mapping[str, Any]) -> str | None:
    """A warning if the named settings have no file for this data set and model; else None."""
    settings = choices["settings"]
    if settings in ("none", DEFAULT_SETTINGS):
        return None
    file = f"conf/hparams/{settings}/{choices['dataset']}-{choices['model']}.yaml"
    if (conf_dir() / file.removeprefix("conf/")).is_file():
        return None
    return f"settings={settings} has no {file}: these results are of the model's own settings"
