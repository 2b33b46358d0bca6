"""Errors of Hydra and OmegaConf in the words of the user."""

from __future__ import annotations

from hydra.errors import HydraException, InstantiationException, OverrideParseException
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from kgrec.errors import KgrecError, SettingError, listed


def user_error(error: BaseException | None) -> str | None:
    """The user's mistake behind an exception, if there is one."""
    while error is not None:
        if isinstance(error, SettingError):  # models know the argument, not the key
            return f"model.{error}"
        if isinstance(error, KgrecError):
            return str(error)
        if isinstance(error, OmegaConfBaseException):
            return explain(error)
        if isinstance(error, InstantiationException) and isinstance(
            error.__cause__, TypeError | ValueError | MisconfigurationException
        ):
            key = str(error).rpartition("full_key: ")[2]
            return f"{key}: {error.__cause__}"
        error = error.__cause__
    return None


# Groups of Hydra whose other options have keys that are easily given without them.
HAS_MORE_KEYS = {
    "hydra.launcher": ["another launcher with it (hydra/launcher=joblib)"],
    "hydra.sweeper": ["another sweeper with it (hydra/sweeper=optuna)"],
}


def any_user_error(error: BaseException) -> str | None:
    """As :func:`user_error`, for what Hydra says of a configuration as well."""
    known = user_error(error)
    if known is None and isinstance(error, HydraException):
        return explain(error)
    return known


def explain(error: BaseException) -> str:
    """Found and expected, for an error of Hydra or OmegaConf."""
    if isinstance(error, OverrideParseException):
        why = str(error.message).splitlines()[0].partition(" expecting ")[0]
        return f"{error.override}: found nothing that Hydra can read ({why}), expected key=value"
    inner = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(inner, MissingMandatoryValue):
        key = inner.full_key
        return f"{key}: found nothing, expected a value (set it with {key}=…)"
    if isinstance(inner, OmegaConfBaseException):
        parent, key = inner.parent_node, inner.full_key
        if isinstance(parent, DictConfig) and key and inner.key not in parent:
            names = listed(parent.keys())
            expected = [f"one of {names}"] if names else []
            expected += HAS_MORE_KEYS.get(str(key).rpartition(".")[0], [])
            return f"{key!s}: found an unknown key, expected {', or '.join(expected)}"
    return str(error)
