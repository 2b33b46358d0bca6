"""kgrec: knowledge-graph-aware recommendation on PyTorch Lightning and Hydra.

Nothing heavy is imported here, so that ``kgrec --help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgrec.inference.loading import load
    from kgrec.pipeline.fitting import fit

__version__ = "0.1.0"
__all__ = ["__version__", "fit", "load"]


def __getattr__(name: str) -> Any:
    """Imports :func:`load` and :func:`fit` when they are first used."""
    if name == "load":
        from kgrec.inference.loading import load

        return load
    if name == "fit":
        from kgrec.pipeline.fitting import fit

        return fit
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
