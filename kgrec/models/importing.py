"""Imports by dotted path, and the packages from which a checkpoint may name a class."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from kgrec.errors import ConfigError

T = TypeVar("T")

# Packages, modules or classes that may be imported; None: all, as the user's own configuration
# names them.
_TRUSTED: ContextVar[tuple[str, ...] | None] = ContextVar("trusted", default=None)


@contextmanager
def importing_only(trusted: Iterable[str]) -> Iterator[None]:
    """Within this context :func:`import_class` refuses paths that are not trusted.

    Args:
        trusted: dotted paths of packages, modules or classes.
    """
    token = _TRUSTED.set(tuple(trusted))
    try:
        yield
    finally:
        _TRUSTED.reset(token)


def check_trusted(path: str) -> None:
    """Raises ConfigError if a dotted path is outside of what may be imported here."""
    trusted = _TRUSTED.get()
    if trusted is None or any(path == name or path.startswith(f"{name}.") for name in trusted):
        return
    raise ConfigError(
        f"found the path {path!r}, expected one in {', '.join(trusted)}; a checkpoint runs no "
        "other code unless its package is trusted (trust=…)"
    )


def import_class(path: str, base: type[T]) -> type[T]:
    """The class at a dotted path.

    Args:
        path: module and name of a class at the module's top level.
        base: the class of which it must be a subclass.

    Raises:
        ConfigError: the path is not trusted here, cannot be imported, or is not a subclass of
            ``base``.
    """
    check_trusted(path)
    module, _, name = path.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise _not_importable(path, error) from error
    if not (isinstance(value, type) and issubclass(value, base) and value is not base):
        raise ConfigError(
            f"found the path {path!r}, expected a subclass of {base.__module__}.{base.__name__}"
        )
    return value


def import_object(path: str) -> Any:
    """The object at a dotted path that the user's own configuration names.

    Raises:
        ConfigError: there is no object at the path.
    """
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise _not_importable(path, error) from error


def _not_importable(path: str, error: Exception) -> ConfigError:
    return ConfigError(f"found the path {path!r}, expected an importable path: {error}")
