"""``kgrec train`` and ``python train.py``: train and test a recommender, once or as a sweep."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omegaconf import DictConfig

log = logging.getLogger(__name__)


class ReportedError(Exception):
    """A user's mistake that has been logged already."""


def add_parser(commands: Any) -> None:
    """Adds this command to those of ``kgrec``; its arguments are Hydra's."""
    commands.add_parser(
        "train",
        add_help=False,
        help="train and test a recommender (takes Hydra overrides, e.g. dataset=music model.K=4)",
    )


def from_cli() -> None:
    """Runs ``kgrec train``, whose arguments Hydra reads from ``sys.argv`` itself."""
    sys.argv = [f"{sys.argv[0]} train", *sys.argv[2:]]
    main()


def main() -> None:
    """Runs the command line of ``python train.py``."""
    # On several devices torch warns of what is intended. It reads this when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    # Hydra would print a stack trace for every error; with this it raises them.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from kgrec.config.location import conf_dir
    from kgrec.config.messages import any_user_error
    from kgrec.errors import KgrecError
    from kgrec.training import distributed

    distributed.agree_on_start()
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)()
    except ReportedError:
        sys.exit(1)
    except OSError as error:  # such as a run folder that cannot be written
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
    except (HydraException, OmegaConfBaseException, KgrecError) as error:
        print(f"error: {any_user_error(error) or error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def job(cfg: DictConfig) -> float:
    """Runs what Hydra composed: a single run, or one job of a sweep.

    Returns:
        The validation figure by which the epoch was chosen.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from kgrec.config.devices import world_size
    from kgrec.config.messages import user_error
    from kgrec.pipeline import run
    from kgrec.reports.console import leave_the_console
    from kgrec.runs.status import at_work
    from kgrec.sweeps.job import check_alone, explain, in_a_sweep, run_in_sweep
    from kgrec.training import distributed

    # Lightning 2.6 calls what torch has deprecated; and the loss is logged once an epoch.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message="The number of training batches")
    # A run may resume in its own folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        if in_a_sweep():
            leave_the_console()
            return run_in_sweep(cfg, run)
        first = distributed.begin(world_size(cfg))
        check_alone(cfg)
        with at_work(Path(cfg.paths.run), explain=explain) if first else nullcontext():
            return run(cfg, first)
    except Exception as error:
        message = user_error(error)
        if message is None:
            log.exception("the run failed")
            raise
        log.error("error: %s", message)
        if not multirun:  # Hydra would add a line of its own
            sys.exit(1)
        raise ReportedError(message) from error
