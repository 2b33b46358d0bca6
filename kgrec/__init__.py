"""kgrec: knowledge-graph-aware recommendation on PyTorch Lightning and Hydra.

Nothing heavy is imported here, so that ``kgrec --help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgrec.inference.loading import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports :func:`kgrec.inference.loading.load` when it is first used."""
    if name == "load":
        from kgrec.inference.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
