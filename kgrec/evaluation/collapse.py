"""Signs that a trained model has collapsed: it runs to its end, and its scores say nothing.

Shapes: n rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

    from kgrec.data.interactions import LabelledRows

PREFIX = "collapsed/"  # of the metrics that say so; a run that has not collapsed has none
CONSTANT, CHANCE, EXPLODED = "constant", "chance", "exploded"
# Standard errors above 1/2 that an AUC without any signal seldom reaches. An epoch is the best of
# many: of 50 independent AUCs the best is 2.2 standard errors above the mean.
ERRORS = 3.0
# A sigmoid is 0 or 1 in float32 beyond 17 and 104, and its gradient 0. Scores of such a size are
# far beyond what any loss here can still change.
LARGEST = 1e4
# Difference of a user's scores, as a share of the largest one, that is rounding in float32.
SAME = 1e-6


class Sign(NamedTuple):
    """A sign in words.

    Attributes:
        short: a few words for a table.
        long: a clause that follows the name of the model.
        hint: advice.
    """

    short: str
    long: str
    hint: str


SIGNS = {
    CONSTANT: Sign(
        "constant scores",
        "gives every item of a user the same score",
        "lower optimizer.weight_decay or optimizer.lr",
    ),
    CHANCE: Sign(
        "at chance",
        "is no better than chance on validation (AUC at most that of all_positive, 0.5, plus "
        f"{ERRORS:g} standard errors)",
        "change optimizer.lr or optimizer.weight_decay, or train more epochs",
    ),
    EXPLODED: Sign(
        "exploded scores",
        f"has scores whose typical size is above {LARGEST:,.0f}",
        "lower optimizer.lr, or clip the gradients (trainer.gradient_clip_val=1)",
    ),
}


def collapsed(
    auc: float, validation: LabelledRows, test: LabelledRows, scores: Tensor
) -> dict[str, float]:
    """The signs that a trained model shows, as metrics whose value is 1.

    Args:
        auc: AUC on validation, of the best epoch; nan where a class is missing.
        validation: rows of the validation.
        test: rows of the test.
        scores: (n,) finite scores of the test rows.
    """
    positives = int((validation.labels > 0.5).sum())
    signs = {
        CONSTANT: constant(test.users, scores),
        CHANCE: at_chance(auc, positives, len(validation.labels) - positives),
        EXPLODED: bool(len(scores)) and float(scores.abs().median()) > LARGEST,
    }
    return {f"{PREFIX}{name}": 1.0 for name, shown in signs.items() if shown}


def at_chance(auc: float, positives: int, negatives: int) -> bool:
    """Whether an AUC is at most 1/2 plus a tolerance of three standard errors.

    Scores without any signal have an AUC of mean 1/2 and variance (P + N + 1) / (12·P·N), with P
    positives and N negatives (Mann, Whitney, 1947).
    """
    if math.isnan(auc) or not positives or not negatives:
        return False
    error = math.sqrt((positives + negatives + 1) / (12 * positives * negatives))
    return auc <= 0.5 + ERRORS * error


def constant(users: Tensor, scores: Tensor) -> bool:
    """Whether all scores (n,) of each user (n,) are equal; false where no user has two rows."""
    if len(scores) == 0 or int(users.bincount().max()) < 2:
        return False
    size, scores = int(users.max()) + 1, scores.double()
    low = scores.new_full((size,), math.inf).scatter_reduce(0, users, scores, "amin")
    high = scores.new_full((size,), -math.inf).scatter_reduce(0, users, scores, "amax")
    return bool((high - low <= SAME * low.abs().maximum(high.abs())).all())


def signs_of(metrics: Mapping[str, float]) -> list[Sign]:
    """The signs among the metrics of a run."""
    return [sign for name, sign in SIGNS.items() if metrics.get(f"{PREFIX}{name}")]


def mark(metrics: Mapping[str, float]) -> str:
    """``at chance, exploded scores``: the signs among metrics in short; "" where there is none."""
    return ", ".join(sign.short for sign in signs_of(metrics))


def sentences(model: str, signs: Sequence[Sign]) -> list[str]:
    """One sentence for each sign."""
    return [f"{model} {sign.long}: {sign.hint}" for sign in signs]
