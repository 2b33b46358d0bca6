"""``kgrec data``: look at data, convert them, look after the cache, draw synthetic ones."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec import config
from kgrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kgrec.data.dataset import PreparedData, RecDataset

log = logging.getLogger(__name__)


def run(arguments: argparse.Namespace) -> None:
    """Runs the subcommand that was parsed."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.getLogger("kgrec").addHandler(handler)
    logging.getLogger("kgrec").setLevel(logging.INFO)
    commands = {
        "describe": _describe, "convert": _convert, "cache": _cache, "generate": _generate,
    }  # fmt: skip
    commands[arguments.data_command](arguments)


def _compose(place: str, overrides: list[str]) -> DictConfig:
    """The configuration of a run on a data set, by name or by folder."""
    from hydra import compose, initialize_config_dir

    chosen = [f"dataset={place}"]
    folder = Path(place).expanduser()
    if folder.is_dir():
        # Quoted, because a path may hold what Hydra's grammar means something by.
        quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
        name = folder.resolve().name.replace("'", "\\'")
        chosen = ["dataset=custom", f"dataset.root='{quoted}'", f"dataset.name='{name}'"]
    elif not (config.conf_dir() / "dataset" / f"{place}.yaml").is_file():
        known = sorted(path.stem for path in (config.conf_dir() / "dataset").glob("*.yaml"))
        raise DataError(f"found no folder {place!r}, expected one, or one of {', '.join(known)}")
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        cfg = compose("train", overrides=[*chosen, *overrides, "paths.run=."])
    config.check(cfg)
    return cfg


def _split(cfg: DictConfig, data: PreparedData, chose: bool) -> RecDataset | None:
    """The data set as a run would split it; None where it cannot be split so."""
    from hydra.utils import instantiate

    from kgrec.data.protocols import clean
    from kgrec.data.splits import Given

    try:
        if data.given_parts is not None and not chose:
            return clean(data, Given())
        dataset: RecDataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
        return dataset
    except (ConfigError, DataError) as error:
        log.warning("not split: %s", error)
        return None


def _describe(arguments: argparse.Namespace) -> None:
    from hydra.utils import instantiate

    from kgrec.data.describe import describe
    from kgrec.files import write_text
    from kgrec.reports import dataset_page, dataset_tables

    cfg = _compose(arguments.place, arguments.overrides)
    data = instantiate(cfg.dataset)
    chose = any(o.startswith(("split=", "protocol=")) for o in arguments.overrides)
    found = describe(data, _split(cfg, data, chose))
    text = json.dumps(found.as_dict(), indent=2, ensure_ascii=False) + "\n"
    if arguments.json == "-":
        sys.stdout.write(text)
    else:
        dataset_tables.show(found)
        if arguments.json:
            write_text(Path(arguments.json), text)
            log.info("wrote %s", arguments.json)
    if arguments.html:
        write_text(Path(arguments.html), dataset_page.render(found))
        log.info("wrote %s", arguments.html)


def _convert(arguments: argparse.Namespace) -> None:
    from kgrec.data.convert import convert
    from kgrec.data.formats import recognise
    from kgrec.data.sources.locate import locate
    from kgrec.data.sources.public_files import Source

    columns = dict(_pair(text) for text in arguments.columns)
    folder = Path(arguments.place).expanduser()
    if folder.is_dir():
        found = recognise(folder)
    else:
        cfg = _compose(arguments.place, [])
        if "sources" not in cfg.dataset:
            raise DataError(f"{arguments.place}: found a data set without raw files, expected some")
        located = locate(
            cfg.dataset.name,
            [Source.from_config(source) for source in cfg.dataset.sources],
            None,
            Path(cfg.dataset.data_dir),
        )
        folder, found = located.folder, located.format
    raw = found.read(folder, columns)
    for what, count in raw.counts:
        log.info("%s: %d", what, count)
    for loss in convert(raw, Path(arguments.target), arguments.to, arguments.lossy):
        log.info("left out: %s", loss)
    log.info("wrote %s, in format %s, from %s", arguments.target, arguments.to, found.name)


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not equals:
        raise DataError(f"--columns: found {text!r}, expected name=column, such as user=uid")
    return name, column


def _cache(arguments: argparse.Namespace) -> None:
    from kgrec.data import cache
    from kgrec.reports import dataset_tables

    folder = Path(arguments.dir)
    if not arguments.clear:
        found = [e for e in cache.entries(folder) if arguments.name in (None, e.name)]
        dataset_tables.show_cache(folder, found)
        return
    removed, kept = cache.clear(folder, arguments.name)
    size = sum(entry.size for entry in removed)
    print(f"removed {len(removed)} entries, {size / 1e6:,.1f} MB")  # noqa: T201
    for entry in kept:
        print(f"kept {entry.path}: a process is at work on it")  # noqa: T201


def _generate(arguments: argparse.Namespace) -> None:
    from kgrec.data.synthetic.twins import write_twin

    folder: Any = Path(arguments.target)
    write_twin(folder, arguments.like, arguments.scale, arguments.format, arguments.seed)
    log.info("wrote %s", folder)
