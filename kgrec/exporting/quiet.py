"""Keeps messages of torch's exporter that the user cannot act on off the screen."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

REGISTRATION = "torch.onnx._internal.exporter._registration"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Leaves out two messages, and no others.

    torch 2.13 itself uses its deprecated ``LeafSpec``, and it names each operation of torchvision
    that it skips where torchvision is not installed.
    """

    def is_wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("torchvision is not installed")

    logger = logging.getLogger(REGISTRATION)
    logger.addFilter(is_wanted)
    try:
        with warnings.catch_warnings():
            for category in (FutureWarning, DeprecationWarning):
                warnings.filterwarnings("ignore", message=".*LeafSpec", category=category)
            yield
    finally:
        logger.removeFilter(is_wanted)
