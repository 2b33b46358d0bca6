"""Results of one evaluation: metrics, and the scores and rankings behind them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from kgrec.evaluation.full_ranking import Ranking

# The main control: the model that others are compared with by default.
BASELINE = "popularity"


class ScoredTest(NamedTuple):
    """Test results of one model, row by row and user by user.

    Attributes:
        scores: (n,) scores, in the order of the test rows.
        ranking: the best items of each user; None where nothing was ranked.
    """

    scores: Tensor
    ranking: Ranking | None


class Evaluation(NamedTuple):
    """Validation and test of one model.

    Attributes:
        metrics: ``val/…`` and ``test/…``.
        test: results row by row and user by user.
    """

    metrics: dict[str, float]
    test: ScoredTest
