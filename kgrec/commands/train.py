"""``kgrec train`` and ``python train.py``: train and test a recommender, once or as a sweep."""

from __future__ import annotations

import logging
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.config.location import conf_dir, options
from kgrec.files import expand_home
from kgrec.interrupts import ends_in_one_line, interrupted

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)

HELP = """\
usage: {program} [-m] [KEY=VALUE ...]

Trains and tests a recommender. Every setting is a key=value, without dashes.

examples:
  {program}                        KGCN on MovieLens-100K
  {program} dataset=music model=svd
  {program} dataset=custom dataset.root=my/folder
  {program} hydra.run.dir=my/run resume=auto
                                         the same command again resumes it
  {program} -m model.H=1,2,3,4     a sweep: one run per value

{groups}

often used:
  epochs, patience, batch_size, seed, monitor, threads, memory_budget,
  resume=auto (in the folder hydra.run.dir), ckpt_path (a checkpoint to resume),
  model.K, model.H, model.d, model.aggregator,
  optimizer.lr, optimizer.weight_decay, trainer.accelerator, trainer.devices,
  dataset.root, dataset.min_rating

more:
  {program} --cfg job              the whole configuration
  {program} --hydra-help           options of Hydra, such as --config-dir
"""
GROUPS = (
    "dataset", "model", "settings", "protocol", "split", "negatives", "ranking", "optimizer",
    "trainer", "logger", "experiment",
)  # fmt: skip


class ReportedError(Exception):
    """A user's mistake that has been logged already."""


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``; Hydra reads its arguments."""
    commands.add_parser(
        "train",
        add_help=False,
        help="train and test a recommender (takes Hydra overrides, e.g. dataset=music model.K=4)",
    )


def from_cli() -> None:
    """Runs ``kgrec train``."""
    sys.argv = [f"{sys.argv[0]} train", *sys.argv[2:]]
    main()


def main() -> None:
    """Runs the command line; mistakes of the user end with one line and exit code 1."""
    with ends_in_one_line():
        _main()


def _main() -> None:
    sys.argv[1:] = map(expand_home, sys.argv[1:])
    _answer_at_once(sys.argv)
    # On several devices torch warns of what is intended. It reads this variable on import.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Hydra would print a stack trace for every error; with this it raises them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from kgrec.config.checks import check_words
    from kgrec.config.messages import any_user_error
    from kgrec.disk_errors import behind
    from kgrec.errors import KgrecError

    if "TORCHELASTIC_USE_AGENT_STORE" in os.environ:  # torchrun has started several processes
        from kgrec.training import distributed

        distributed.agree_on_start()
    try:
        check_words(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except ReportedError:
        sys.exit(1)
    # An OSError is, for example, a run folder that cannot be written.
    except (HydraException, OmegaConfBaseException, KgrecError, OSError) as error:
        if interrupted():
            raise
        message = any_user_error(error) or behind(error) or error
        print(f"error: {message}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _answer_at_once(argv: list[str]) -> None:
    """Prints the help, or refuses options that are settings, before anything is imported."""
    program, *words = argv
    name = "kgrec train" if program.endswith(" train") else f"python {Path(program).name}"
    if any(word in ("-h", "--help") for word in words):
        listed = "\n".join(_choices(group) for group in GROUPS)
        print(HELP.format(program=name, groups=f"groups:\n{listed}"))  # noqa: T201
        sys.exit(0)
    for number, word in enumerate(words):
        key, equals, value = word.lstrip("-").partition("=")
        plain = key.replace("-", "_").partition(".")[0]
        if word.startswith("--") and plain in _top_level_keys():
            following = words[number + 1 : number + 2]
            value = value if equals else (following[0] if following else "…")
            message = f"{word}: found an option, expected {key.replace('-', '_')}={value}"
            print(f"error: {message} (settings have no dashes)", file=sys.stderr)  # noqa: T201
            sys.exit(1)


def _choices(group: str) -> str:
    """A group of the configuration and its options, in lines that fit a terminal."""
    words = " | ".join(options(group))
    return textwrap.fill(words, 79, initial_indent=f"  {group}= ", subsequent_indent=" " * 6)


def _top_level_keys() -> tuple[str, ...]:
    from kgrec.config.checks import TOP_LEVEL_KEYS

    return TOP_LEVEL_KEYS


def job(cfg: DictConfig) -> float:
    """Runs what Hydra composed: a single run, or one job of a sweep.

    Returns:
        The validation metric by which the epoch was chosen.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from kgrec.config.checks import check
    from kgrec.config.devices import world_size
    from kgrec.config.messages import user_error
    from kgrec.runs.log_file import hold_back

    hold_back()
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        if not multirun:  # a job of a sweep is checked when its folder can say so
            check(cfg)  # before the imports below, which take seconds
        from kgrec.pipeline.in_process import ignore_known_warnings
        from kgrec.pipeline.run import run
        from kgrec.reports.console import leave_the_console
        from kgrec.sweeps.job import in_a_sweep, run_alone, run_in_sweep
        from kgrec.training import distributed

        ignore_known_warnings()
        for name in ("pytorch_lightning", "lightning_fabric"):
            # When Lightning is imported it sets its own level, which Hydra had set before.
            logging.getLogger(name).setLevel(logging.WARNING)
        if in_a_sweep():
            leave_the_console()
            return run_in_sweep(cfg, run)
        return run_alone(cfg, run, first=distributed.begin(world_size(cfg)))
    except Exception as error:
        if interrupted():
            raise KeyboardInterrupt from None
        message = user_error(error)
        if message is None:
            log.exception("the run failed")
            raise
        log.error("error: %s", message)
        if not multirun:  # Hydra would add a line of its own
            sys.exit(1)
        raise ReportedError(message) from error
