"""Weights of relations: "care more about the director" in a trained KGCN.

With a multiplier w(r) > 0 of each relation, Eq. 2 becomes

    π̃(u, r) = softmax over e in S(v) of π(u, r(v, e)) + ln w(r(v, e))

so each neighbour's weight is multiplied by w(r), and the weights of S(v) are scaled to sum to 1
again. Only ratios of multipliers matter, and w = 1 changes nothing. Nothing is trained.

Shapes: R relations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from kgrec.errors import SettingError
from kgrec.models.folding import frozen

if TYPE_CHECKING:
    from kgrec.models.kgcn.model import KGCN

M = TypeVar("M", bound="KGCN")


def with_log_weights(model: M, log_weights: Tensor | None) -> M:
    """A model with ln w (R,) in place of its own; None: the attention of the training."""
    twin = frozen(model)
    twin.log_weights = log_weights
    return twin


def reweighed(model: M, weights: Tensor) -> M:
    """A model whose π̃ is multiplied by the weights (R,), in addition to its own weights.

    Raises:
        SettingError: see :meth:`Recommender.reweighed`.
    """
    if not model.attention:
        raise SettingError(
            f"aggregator: found {type(model.layers[0]).__name__}, in which all neighbours weigh "
            "the same, expected an aggregator with attention to relations"
        )
    R, known = len(model.relation_embedding), model.log_weights
    if weights.shape != (R,) or not bool(((weights > 0) & weights.isfinite()).all()):
        raise SettingError(
            f"weights: found {weights.tolist()}, expected {R} finite numbers above 0"
        )
    log_weights = weights.cpu().double().log().to(model.relation_embedding)  # some GPUs: no float64
    return with_log_weights(model, log_weights if known is None else known + log_weights)
