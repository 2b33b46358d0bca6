"""The loss of a training step: the model's own, or an objective with the model's further terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kgrec.data.batches import ListwiseBatch, PairwiseBatch, PointwiseBatch
from kgrec.models.objectives import Objective, bce
from kgrec.models.recommender import Recommender


def step_loss(recommender: Recommender, batches: Sequence[Any]) -> Tensor:
    """The mean loss over the rows of a step.

    Args:
        recommender: the model.
        batches: one batch of each type in ``recommender.step_batches``.
    """
    objective = recommender.objective
    if objective is None:
        return recommender.loss(*batches)
    batch, *others = batches
    loss = _interactions_loss(recommender, objective, batch)
    if has_regularizer(recommender):
        terms = recommender.regularizer(_labelled(batch), *others)
        loss = loss if terms is None else loss + terms
    return loss


def has_regularizer(recommender: Recommender) -> bool:
    """Whether the model's class has terms of the loss that every objective keeps."""
    return type(recommender.trained_part).regularizer is not Recommender.regularizer


def _interactions_loss(
    recommender: Recommender,
    objective: Objective,
    batch: PointwiseBatch | PairwiseBatch | ListwiseBatch,
) -> Tensor:
    """The part of the loss that scores positives and negatives."""
    values, users = recommender.step_values(), batch.users
    if isinstance(batch, PointwiseBatch):
        return bce(recommender.training_score(users, batch.items, values), batch.labels)
    if isinstance(batch, PairwiseBatch):
        positive = recommender.training_score(users, batch.positives, values)
        return objective(positive, recommender.training_score(users, batch.negatives, values))
    shared = batch.shared()
    if shared is None:
        items = torch.cat([batch.positives[:, None], batch.negatives], dim=1)
        scores = recommender.score_lists(users, items, values)
        return objective(scores[:, 0], scores[:, 1:], batch.log_q)
    positive = recommender.training_score(users, batch.positives, values)
    return objective(positive, recommender.score_grid(users, shared, values), batch.log_q)


def _labelled(batch: PointwiseBatch | PairwiseBatch | ListwiseBatch) -> PointwiseBatch:
    """The positives and negatives of a batch as rows with labels; what does not count is left out.

    Every row has as many negatives as its batch, so a model's terms are a mean over the same rows
    as the objective.
    """
    if isinstance(batch, PointwiseBatch):
        return batch
    users, negatives = batch.users, batch.negatives
    if isinstance(batch, ListwiseBatch):
        counts = ~batch.log_q.isinf()
        users = users[:, None].expand_as(negatives)[counts]
        negatives = negatives[counts]
    labels = torch.zeros(len(batch.users) + len(users), device=users.device)
    labels[: len(batch.users)] = 1
    return PointwiseBatch(
        torch.cat([batch.users, users]), torch.cat([batch.positives, negatives]), labels
    )
