"""``kgrec data``: build, describe and convert data, generate synthetic data, manage the cache."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.errors import ConfigError, DataError, KgrecError
from kgrec.files import expand_home

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kgrec.data.dataset import PreparedData, RecDataset
    from kgrec.data.raw_tables import RawTables

log = logging.getLogger(__name__)

# As in kgrec.data.formats, whose import would take a second; a test compares the two.
FORMAT_NAMES = ("released_final", "released_raw", "recbole", "kgat", "csv", "parquet")
TWINS = ("movie", "book", "music")
CACHE = "data/cache"  # as in conf/paths; a test compares the two
PLACE = "name of a data set in conf/dataset, or your folder (./NAME if both have the same name)"


def add_parser(commands: Any) -> None:
    """Adds this command and its actions to the commands of ``kgrec``."""
    data = commands.add_parser("data", help="build, describe, convert or generate data")
    actions = data.add_subparsers(dest="data_command", required=True, metavar="ACTION")

    describe = actions.add_parser(
        "describe",
        help="show sizes, distributions, relations and gaps of a data set",
        description="Shows sizes, distributions, relations and gaps of a data set.",
        epilog="examples: kgrec data describe music; "
        "kgrec data describe my/folder dataset.min_rating=4 --html my.html",
    )
    describe.set_defaults(rest="overrides")
    describe.add_argument("place", metavar="NAME_OR_FOLDER", help=PLACE)
    describe.add_argument(
        "overrides",
        nargs="*",
        help="settings as for kgrec train, e.g. dataset.min_rating=4 split=temporal",
    )
    describe.add_argument(
        "--json", metavar="FILE", help="write the description as JSON; - prints it"
    )
    describe.add_argument("--html", metavar="FILE", help="write one HTML file with plots")
    describe.add_argument(
        "--split", action=argparse.BooleanOptionalAction, default=True,
        help="also split the data as a run would, and count the test users (default: yes)",
    )  # fmt: skip

    build = actions.add_parser(
        "build",
        help="build a folder that kgrec trains on from your own tables",
        description="Builds a folder in CSV format from your own tables (CSV, TSV, Parquet), as a "
        "YAML file says. --guess looks at the tables and writes that file.",
        epilog="examples: kgrec data build --guess my/tables --out build.yaml; "
        "kgrec data build build.yaml --out my/shop",
    )
    build.add_argument(
        "sources", nargs="+", metavar="FILE",
        help="the YAML file; with --guess: a folder with tables, or tables",
    )  # fmt: skip
    build.add_argument("--guess", action="store_true", help="write a YAML file for the tables")
    build.add_argument(
        "--out", metavar="OUT", help="the folder to write; with --guess: the YAML file, default: "
        "printed",
    )  # fmt: skip

    convert = actions.add_parser(
        "convert",
        help="write data in another file format",
        description="Writes data in another file format. Fails if the format cannot hold them.",
        epilog="example: kgrec data convert my/folder my/recbole --to recbole",
    )
    convert.add_argument("place", metavar="NAME_OR_FOLDER", help=PLACE)
    convert.add_argument("target", metavar="TARGET", help="a new folder, or an empty one")
    convert.add_argument(
        "--to", required=True, choices=FORMAT_NAMES, help="the format; see kgrec data formats"
    )
    convert.add_argument(
        "--lossy", action="store_true", help="leave out what the format cannot hold, and list it"
    )
    convert.add_argument(
        "--columns", nargs="*", default=[], metavar="NAME=COLUMN",
        help="for CSV and Parquet: the files' own names of columns, e.g. user=uid item=sku",
    )  # fmt: skip

    actions.add_parser(
        "formats",
        help="list the file formats",
        description="Lists the file formats and their files.",
    )

    cache = actions.add_parser(
        "cache",
        help="list or clear the cache of prepared data",
        description="Lists the prepared data in the cache, or removes them. Entries that a process "
        "is writing are not removed.",
        epilog="examples: kgrec data cache; kgrec data cache movie --clear",
    )
    cache.add_argument("name", nargs="?", metavar="NAME", help="only the entries of this data set")
    cache.add_argument(
        "--dir", default=CACHE, metavar="FOLDER", help="folder of the cache (default: %(default)s)"
    )
    cache.add_argument("--clear", action="store_true", help="remove the entries")

    generate = actions.add_parser(
        "generate",
        help="generate synthetic raw files of a public data set's size",
        description="Generates synthetic raw files with the sizes and distributions of a public "
        "data set, and with planted truth.",
        epilog="example: kgrec data generate movie my/twin --scale 0.0625 --format recbole",
    )
    generate.add_argument("like", choices=TWINS, help="the public data set")
    generate.add_argument("target", metavar="TARGET", help="a new folder")
    generate.add_argument(
        "--scale", type=float, default=1.0, help="share of its size (default: %(default)s)"
    )
    generate.add_argument(
        "--format", default="released_raw", choices=FORMAT_NAMES, help="default: %(default)s"
    )
    generate.add_argument(
        "--seed", type=int, default=2019, help="seed of every draw (default: %(default)s)"
    )
    data.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Runs the subcommand that was parsed."""
    commands = {
        "describe": _describe, "convert": _convert, "formats": _formats, "cache": _cache,
        "generate": _generate, "build": _build,
    }  # fmt: skip
    with _log_to_stderr():
        commands[arguments.data_command](arguments)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Sends log lines to stderr, so that stdout has the output alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("kgrec")
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False  # not to other handlers of the process: once is enough
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]


# ------------------------------------------------------------------ which data


def _compose(place: str, overrides: list[str]) -> DictConfig:
    """The configuration of a run on a data set, given by name or by folder.

    A name of a data set means that data set in every folder; a folder of that name is ``./name``.
    """
    from hydra import compose, initialize_config_dir

    from kgrec.config.checks import check
    from kgrec.config.location import conf_dir
    from kgrec.config.targets import check_targets

    folder = None if place in _names() else Path(place).expanduser()
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"{place}: found no such folder, expected one, or a data set: {', '.join(_names())}"
        )
    chosen = ["dataset=custom" if folder is not None else f"dataset={place}"]
    with initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"):
        given = map(expand_home, overrides)
        cfg = compose("train", overrides=[*chosen, *given, "paths.run=."])
    if folder is not None:
        cfg.dataset.root = str(folder)
        if "dataset.name" not in _keys(overrides):
            cfg.dataset.name = folder.resolve().name
    check(cfg)
    check_targets(cfg)
    return cfg


def _names() -> list[str]:
    from kgrec.config.location import conf_dir

    return sorted(path.stem for path in (conf_dir() / "dataset").glob("*.yaml"))


def _keys(overrides: list[str]) -> set[str]:
    return {override.lstrip("+~").partition("=")[0] for override in overrides}


def _raw_tables(place: str, columns: Mapping[str, str]) -> tuple[RawTables, str]:
    """The raw tables of a data set, given by name or by folder, and the name of their format."""
    from omegaconf import OmegaConf

    from kgrec.data.sources.locate import locate
    from kgrec.data.sources.public_files import Source
    from kgrec.files import user_path

    cfg = _compose(place, [])
    if "sources" not in cfg.dataset:
        others = ", ".join(name for name in _names() if name not in (place, "custom"))
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
    given = {name: column for name, column in settings["columns"].items() if column is not None}
    return located.format.read(located.folder, given | dict(columns)), located.format.name


# ------------------------------------------------------------------ describe


def _describe(arguments: argparse.Namespace) -> None:
    from hydra.utils import instantiate

    from kgrec.data.describe import describe
    from kgrec.files import write_json, write_text
    from kgrec.reports.dataset import page as dataset_page
    from kgrec.reports.dataset import tables as dataset_tables

    for file in (arguments.json, arguments.html):
        _check_place(file)
    cfg = _compose(arguments.place, arguments.overrides)
    data = instantiate(cfg.dataset)
    dataset = _split(cfg, data, arguments.overrides) if arguments.split else None
    description = describe(data, dataset)
    if arguments.json == "-":
        text = json.dumps(description.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        dataset_tables.show(description)
    if arguments.json not in (None, "-"):
        write_json(Path(arguments.json).expanduser(), description.as_dict())
        log.info("wrote %s", arguments.json)
    if arguments.html:
        write_text(Path(arguments.html).expanduser(), dataset_page.render(description))
        log.info("wrote %s", arguments.html)


def _check_place(file: str | None) -> None:
    """Raises ConfigError for an output file that could not be written."""
    if file in (None, "-"):
        return
    path = Path(str(file)).expanduser()
    if path.is_dir():
        raise ConfigError(f"{file}: found a folder, expected the name of a file to write")
    if not path.parent.is_dir():
        raise ConfigError(f"{file}: found no folder {path.parent}, expected one to write to")


def _split(cfg: DictConfig, data: PreparedData, overrides: list[str]) -> RecDataset | None:
    """The data set, split as in a run; None where the default split does not work.

    Raises:
        KgrecError: the split that the user chose does not work.
    """
    from hydra.utils import instantiate

    from kgrec.data.protocols import clean
    from kgrec.data.splits import Given

    groups = {key.partition(".")[0] for key in _keys(overrides)}
    chosen = bool(groups & {"split", "protocol", "experiment"})
    try:
        if data.given_parts is not None and not chosen:
            return clean(data, Given())
        dataset: RecDataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
        return dataset
    except KgrecError as error:
        if chosen:
            raise
        log.warning("the description has no split: %s", error)
        return None


# ------------------------------------------------------------------ other actions


def _convert(arguments: argparse.Namespace) -> None:
    from kgrec.data.convert import check_target, convert

    target = Path(arguments.target).expanduser()
    check_target(target)
    columns = dict(_pair(text) for text in arguments.columns)
    raw, format_name = _raw_tables(arguments.place, columns)
    for what, count in raw.counts + raw.notes:
        log.info("%s: %s", what, f"{count:,}")
    for note in convert(raw, target, arguments.to, arguments.lossy):
        log.info("%s", note)
    log.info("wrote %s, in format %s, from %s", target, arguments.to, format_name)


def _build(arguments: argparse.Namespace) -> None:
    from kgrec.data.build import command

    sources = [Path(source).expanduser() for source in arguments.sources]
    out = None if arguments.out is None else Path(arguments.out).expanduser()
    sys.stdout.write(command.guess(sources, out) if arguments.guess else
                     command.build(sources, out))  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name and equals and column):
        raise ConfigError(f"--columns: found {text!r}, expected name=column, such as user=uid")
    return name, column


def _formats(arguments: argparse.Namespace) -> None:
    from kgrec.reports.dataset.tables import show_formats

    show_formats()


def _cache(arguments: argparse.Namespace) -> None:
    from kgrec.data import cache
    from kgrec.reports.dataset import tables as dataset_tables

    folder = Path(arguments.dir).expanduser()
    if arguments.clear:
        dataset_tables.show_cleared(folder, *cache.clear(folder, arguments.name))
        return
    entries = [e for e in cache.entries(folder) if arguments.name in (None, e.name)]
    dataset_tables.show_cache(folder, entries)


def _generate(arguments: argparse.Namespace) -> None:
    from kgrec.data.synthetic.twins import write_twin

    folder = Path(arguments.target).expanduser()
    write_twin(folder, arguments.like, arguments.scale, arguments.format, arguments.seed)
    log.info("wrote %s", folder)
