"""Sizes in bytes, as a configuration writes them."""

from __future__ import annotations

import re

from kgrec.errors import ConfigError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_bytes(size: int | str) -> int:
    """Bytes from a number, or from text such as ``4 GB`` or ``500MiB``.

    Raises:
        ConfigError: the value is neither a number nor such text.
    """
    text = str(size).strip().upper()
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]I?B)?", text)
    if isinstance(size, bool) or match is None or float(match[1]) == 0:
        raise ConfigError(f"memory_budget: found {size!r}, expected bytes, such as 4 GB or 500 MiB")
    return int(float(match[1]) * _UNITS[match[2] or ""])
