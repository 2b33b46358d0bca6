"""Metrics that gather over batches and processes; the figures come from kgrec.evaluation."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kgrec.errors import KgrecError
from kgrec.evaluation.ctr import accuracy, auc, best_f1_threshold, f1, log_loss


class CTRMetrics(Metric):
    """Click-through figures of a whole split; torchmetrics gathers, our own functions compute.

    torchmetrics' own AUC passes scores outside [0, 1] through a float32 sigmoid, which
    saturates and makes ties.

    Args:
        logits: whether 0 is the point of indifference; without it there is no F1 or accuracy at
            0.5, and no log loss.
    """

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, logits: bool) -> None:
        super().__init__()
        self.logits = logits
        self.add_state("scores", default=[], dist_reduce_fx="cat")
        self.add_state("labels", default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Takes in one batch: scores (B,), labels (B,)."""
        self.scores.append(scores.detach())
        self.labels.append(labels)

    def compute(self) -> dict[str, float]:
        """``auc``; ``threshold`` with the best F1; of logits ``f1``, ``accuracy``, ``log_loss``.

        Raises:
            KgrecError: a score is not finite.
        """
        scores, labels = dim_zero_cat(self.scores), dim_zero_cat(self.labels)
        bad = int((~torch.isfinite(scores)).sum())
        if bad:
            raise KgrecError(
                f"found {bad} of {len(scores)} scores that are not finite, expected numbers; the "
                "training has diverged: lower optimizer.lr or optimizer.weight_decay"
            )
        figures = {"auc": auc(scores, labels), "threshold": best_f1_threshold(scores, labels)}
        if self.logits:
            figures["f1"] = f1(scores, labels, threshold=0.0)
            figures["accuracy"] = accuracy(scores, labels, threshold=0.0)
            figures["log_loss"] = log_loss(scores, labels)
        return figures

    def all_scores(self) -> Tensor:
        """(n,) what was taken in, on all processes."""
        with self.sync_context():
            return dim_zero_cat(self.scores)

    def f1_at(self, threshold: float) -> float:
        """F1 of what was taken in, at a threshold chosen elsewhere."""
        with self.sync_context():
            return f1(dim_zero_cat(self.scores), dim_zero_cat(self.labels), threshold)
