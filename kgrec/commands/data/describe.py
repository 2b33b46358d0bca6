"""``kgrec data describe``: sizes, distributions, relations and gaps of a data set."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.commands.data.choice import PLACE, compose, given_keys
from kgrec.errors import ConfigError, KgrecError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kgrec.data.dataset import PreparedData, RecDataset


log = logging.getLogger(__name__)


def add_parser(actions: Any) -> None:
    """Adds this action to those of ``kgrec data``."""
    parser = actions.add_parser(
        "describe",
        help="show sizes, distributions, relations and gaps of a data set",
        description="Shows sizes, distributions, relations and gaps of a data set.",
        epilog="examples: kgrec data describe music; "
        "kgrec data describe my/folder dataset.min_rating=4 --html my.html",
    )
    parser.set_defaults(rest="overrides")
    parser.add_argument("place", metavar="NAME_OR_FOLDER", help=PLACE)
    parser.add_argument(
        "overrides",
        nargs="*",
        help="settings as for kgrec train, e.g. dataset.min_rating=4 split=temporal",
    )
    parser.add_argument("--json", metavar="FILE", help="write the description as JSON; - prints it")
    parser.add_argument("--html", metavar="FILE", help="write one HTML file with plots")
    parser.add_argument(
        "--split", action=argparse.BooleanOptionalAction, default=True,
        help="also split the data as a run would, and count the test users (default: yes)",
    )  # fmt: skip
    parser.set_defaults(action=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints or writes the description."""
    from hydra.utils import instantiate

    from kgrec.data.advice import advice
    from kgrec.data.describe import describe
    from kgrec.files import write_json, write_text
    from kgrec.reports.dataset import page as dataset_page
    from kgrec.reports.dataset import tables as dataset_tables

    for file in (arguments.json, arguments.html):
        _check_place(file)
    cfg = compose(arguments.place, arguments.overrides)
    data = instantiate(cfg.dataset)
    dataset = _split(cfg, data, arguments.overrides) if arguments.split else None
    description = describe(data, dataset)
    content = description.as_dict() | {"warnings": advice(description)}
    if arguments.json == "-":
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        dataset_tables.show(description)
    if arguments.json not in (None, "-"):
        write_json(Path(arguments.json).expanduser(), content)
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

    groups = {key.partition(".")[0] for key in given_keys(overrides)}
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
