"""KGCN's scores of all items: values that are computed once, and the way that is faster."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kgrec.models.kgcn.all_items import WIDEST_SPREAD, AllItems, Tables
from kgrec.models.recommender import Recommender

if TYPE_CHECKING:
    from kgrec.models.kgcn.model import KGCN

# Without ``encoded``, pairs are scored for up to this many users, if the pairs of a user take up to
# this many bytes.
FEW_USERS = 4
FEW_BYTES = 2**29


class Encoded:
    """Values that depend only on a KGCN's parameters, each computed at its first use.

    They do not depend on users or on the weights of relations.
    """

    def __init__(self, model: KGCN) -> None:
        self._aggregators = model.layers
        self._tables = Tables(
            entities=model.entity_vectors().detach(),
            num_relations=len(model.relation_embedding),
            neighborhood=model.neighborhood,
            num_items=model.num_items,
            averaged=model.scaling == "released" and model.attention,
        )

    @cached_property
    def all_items(self) -> AllItems:
        """Scores of all items."""
        with torch.no_grad():
            return AllItems(self._tables, self._aggregators)


@torch.no_grad()
def score_all(model: KGCN, users: Tensor, encoded: Encoded | None) -> Tensor:
    """(B, num_items) logits of every item, from users (B,); no gradients."""
    if encoded is None and _pairs_are_faster(model, users):
        return Recommender.score_all(model, users)
    u: Tensor = model.user_embedding(users)  # (B, d)
    s = model.user_relation_scores(u)  # (B, R)
    if not model.attention:
        s = s.new_zeros(1, s.shape[1])  # the same for all users
    scores = (encoded or Encoded(model)).all_items.scores(u, s)
    too_far = s.amax(dim=1) - s.amin(dim=1) > WIDEST_SPREAD
    for row in torch.nonzero(too_far).flatten().tolist():  # exact at any spread, one by one
        items = torch.arange(model.num_items, device=users.device)
        scores[row] = model.score(users[row].expand(model.num_items), items)
    return scores


def _pairs_are_faster(model: KGCN, users: Tensor) -> bool:
    """Whether pairs are scored sooner than :class:`AllItems` is built."""
    if len(users) > FEW_USERS:
        return False
    return float(model.bytes_per_row(torch.arange(model.num_items)).sum()) < FEW_BYTES
