"""Metrics that gather over batches and processes; kgrec.evaluation computes them."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kgrec.errors import DivergedError, KgrecError
from kgrec.evaluation.ctr import accuracy, auc, best_f1_threshold, f1, log_loss
from kgrec.training.divergence import HINT


class CTRMetrics(Metric):
    """Click-through metrics of a whole split: torchmetrics gathers, kgrec.evaluation computes.

    The AUC of torchmetrics passes scores outside [0, 1] through a float32 sigmoid, which saturates
    and makes ties.

    Args:
        logits: whether scores are logits; otherwise there is no F1 or accuracy at 0.5, and no log
            loss.
        trained: whether the model is trained, so that scores which are not finite come from its
            training.
    """

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, logits: bool, trained: bool = True) -> None:
        super().__init__()
        self.logits, self.trained = logits, trained
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Adds one batch: scores (B,), labels (B,)."""
        self.scores.append(scores.detach())
        self.labels.append(labels)

    def compute(self) -> dict[str, float]:
        """Computes ``auc``, and ``threshold`` with the best F1.

        For logits also ``f1``, ``accuracy`` and ``log_loss``.

        Raises:
            DivergedError: a score of a trained model is not finite.
            KgrecError: a score of another model is not finite.
        """
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        bad = int((~torch.isfinite(scores)).sum())
        if bad:
            message = f"found {bad} of {len(scores)} scores that are not finite, expected numbers"
            if self.trained:
                raise DivergedError(f"optimizer: {message}; {HINT}")
            raise KgrecError(
                f"model: {message}; look at its settings and at the numbers of its data"
            )
        metrics = {"auc": auc(scores, labels), "threshold": best_f1_threshold(scores, labels)}
        if self.logits:
            metrics["f1"] = f1(scores, labels, threshold=0.0)
            metrics["accuracy"] = accuracy(scores, labels, threshold=0.0)
            metrics["log_loss"] = log_loss(scores, labels)
        return metrics

    def all_scores(self) -> Tensor:
        """(n,) scores of all batches, of all processes."""
        with self.sync_context():
            return dim_zero_cat(self.scores)

    def f1_at(self, threshold: float) -> float:
        """F1 of all batches at a threshold that was chosen on other rows."""
        with self.sync_context():
            return f1(dim_zero_cat(self.scores), dim_zero_cat(self.labels), threshold)
