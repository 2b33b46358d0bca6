"""kgrec: knowledge-graph-aware recommendation on PyTorch Lightning and Hydra.

Nothing heavy is imported here, so that ``kgrec --help`` answers at once.
"""

__version__ = "0.1.0"
