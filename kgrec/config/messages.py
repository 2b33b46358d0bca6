"""Errors of Hydra and OmegaConf in the words of the user."""

from __future__ import annotations

from hydra.errors import (
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kgrec.config import memory
from kgrec.errors import KgrecError, SettingError, one_of, printable, unknown_key
from kgrec.training.trainer_arguments import REFUSED

# Groups whose other options have keys that users may give without choosing the option.
OPTIONS_WITH_KEYS = {
    "hydra.launcher": "another launcher with it (hydra/launcher=joblib)",
    "hydra.sweeper": "another sweeper with it (hydra/sweeper=optuna)",
}
# Options of Hydra that an extra brings.
EXTRAS = {
    "ray": "pip install -e '.[ray]' brings it, in an environment of its own",
    "submitit_local": "pip install -e '.[slurm]' brings it",
    "submitit_slurm": "pip install -e '.[slurm]' brings it",
}


def user_error(error: BaseException | None) -> str | None:
    """The message of the user's mistake behind an exception; None if there is no such mistake."""
    whole = error
    while error is not None:
        if isinstance(error, SettingError):  # models know the argument, not the key
            return f"model.{error}"
        if isinstance(error, KgrecError):
            return str(error)
        if isinstance(error, OmegaConfBaseException):
            return explain(error)
        cause = error.__cause__
        if isinstance(error, InstantiationException) and (
            isinstance(cause, TypeError | ValueError)
            or type(cause).__name__ == "MisconfigurationException"  # Lightning's
        ):
            key = str(error).rpartition("full_key: ")[2]
            return printable(f"{key}: {cause}")
        if type(error).__name__ == "MisconfigurationException":  # of a Trainer that is built
            return "trainer: " + " ".join(str(error).split())
        error = cause
    return None if whole is None else memory.message(whole) or _lost_connection(whole)


def _lost_connection(error: BaseException) -> str | None:
    """One line for a process that waits for one that has ended; None for another error."""
    text = str(error)
    of_gloo = "gloo/transport" in text and ("Connection" in text or "Broken pipe" in text)
    if not of_gloo and "remote process exited" not in text:  # NCCL's words
        return None
    return (
        "trainer: found no connection to another process of the run, expected all of them to be "
        "alive; the one that ended first says why, unless it was killed"
    )


def any_user_error(error: BaseException) -> str | None:
    """As :func:`user_error`, and also what Hydra says of a configuration."""
    message = user_error(error)
    if message is None and isinstance(error, HydraException):
        return explain(error)
    return message


def explain(error: BaseException) -> str:
    """Found and expected in one line, for an error of Hydra or OmegaConf."""
    return printable(_explained(error))


def _explained(error: BaseException) -> str:
    if isinstance(error, OverrideParseException):
        reason = str(error.message).splitlines()[0].partition(" expecting ")[0]
        return f"{error.override}: found nothing that Hydra can read ({reason}), expected key=value"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        extra = f" ({EXTRAS[name]})" if group == "hydra/launcher" and name in EXTRAS else ""
        return f"{group}: found {name!r}, expected {one_of(error.options, name)}{extra}"
    inner = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(inner, MissingMandatoryValue):
        key = inner.full_key
        return f"{key}: found nothing, expected a value (set it with {key}=…)"
    if isinstance(inner, OmegaConfBaseException):
        parent, key = inner.parent_node, inner.full_key
        group, _, name = str(key).rpartition(".")
        if group == "trainer" and name in REFUSED:
            return f"{key!s}: found a setting that a run refuses, expected {REFUSED[name][1]}"
        if isinstance(parent, DictConfig) and key and inner.key not in parent:
            keys = [k for k in parent if not str(k).startswith("_")]
            return str(unknown_key(group, name, keys, OPTIONS_WITH_KEYS.get(group, "")))
    return " ".join(str(error).split())
