"""The data set that a command line names: a data set of conf/dataset, or a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.config.location import conf_dir, options
from kgrec.errors import ConfigError, DataError
from kgrec.files import expand_home, user_path

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kgrec.data.raw_tables import RawTables

# As in kgrec.data.formats, whose import would take a second; a test compares the two.
FORMAT_NAMES = ("released_final", "released_raw", "recbole", "kgat", "csv", "parquet")
PLACE = "name of a data set in conf/dataset, or your folder (./NAME if both have the same name)"


def compose(place: str, overrides: Sequence[str]) -> DictConfig:
    """The configuration of a run on a data set, given by name or by folder.

    A name of a data set means that data set in every folder; a folder of that name is ``./name``.

    Raises:
        DataError: there is no such folder or data set.
        ConfigError: an override that cannot work.
    """
    import hydra

    from kgrec.config.checks import check
    from kgrec.config.targets import check_targets

    names = options("dataset")
    folder = None if place in names else Path(place).expanduser()
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"{place}: found no such folder, expected one, or a data set: {', '.join(names)}"
        )
    settings = {"dataset", *(["dataset.root"] if folder is not None else [])}
    twice = sorted(given_keys(overrides) & settings)
    if twice:
        raise ConfigError(f"{twice[0]}: found it beside {place}, expected one of the two")
    chosen = ["dataset=custom" if folder is not None else f"dataset={place}"]
    with hydra.initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        given = map(expand_home, overrides)
        cfg = hydra.compose("train", overrides=[*chosen, *given, "paths.run=."])
    if folder is not None:
        cfg.dataset.root = str(folder)
        if "dataset.name" not in given_keys(overrides):
            cfg.dataset.name = folder.resolve().name
    check(cfg)
    check_targets(cfg)
    return cfg


def given_keys(overrides: Sequence[str]) -> set[str]:
    """Keys that overrides set."""
    return {override.lstrip("+~").partition("=")[0] for override in overrides}


def raw_tables(place: str, columns: Mapping[str, str]) -> tuple[RawTables, str]:
    """The raw tables of a data set, given by name or by folder, and the name of their format.

    Args:
        place: name of a data set, or a folder.
        columns: the files' own names of columns, by the names that kgrec uses.

    Raises:
        DataError: there are no raw files, or they cannot be read.
    """
    from omegaconf import OmegaConf

    from kgrec.data.sources.locate import locate
    from kgrec.data.sources.public_files import Source

    cfg = compose(place, [])
    if "sources" not in cfg.dataset:
        others = ", ".join(name for name in options("dataset") if name not in (place, "custom"))
        raise DataError(
            f"{place}: found a data set without raw files, expected a folder, or one of {others} "
            "(kgrec data generate writes raw files in any format)"
        )
    settings: Any = OmegaConf.to_container(cfg.dataset, resolve=True)
    located = locate(
        settings["name"],
        [Source.from_config(source) for source in settings["sources"]],
        user_path(settings["root"]) if settings["root"] is not None else None,
        user_path(settings["data_dir"]),
    )
    configured = {
        name: column for name, column in settings["columns"].items() if column is not None
    }
    raw = located.format.read(located.folder, configured | dict(columns))
    return raw, located.format.name
