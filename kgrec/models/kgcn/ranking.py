"""KGCN's scores of all items: values that are computed once, and the way that is faster."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from kgrec.models.kgcn.all_items import WIDEST_SPREAD, AllItems, Tables
from kgrec.models.kgcn.parameters import KGCNParameters
from kgrec.models.recommender import Recommender

# Without ``encoded``, pairs are scored for up to this many users, if the pairs of a user take up to
# this many bytes.
FEW_USERS = 4
FEW_BYTES = 2**29


class Encoded:
    """Values that depend only on a KGCN's parameters, each computed at its first use.

    They do not depend on users or on the weights of relations.
    """

    def __init__(self, model: KGCNParameters) -> None:
        self._aggregators = model.layers
        self._tables = tables(model)

    @cached_property
    def all_items(self) -> AllItems:
        """Scores of all items."""
        with torch.no_grad():
            return AllItems(self._tables, self._aggregators)


def tables(model: KGCNParameters) -> Tables:
    """Tensors of a KGCN that rank all items."""
    return Tables(
        entities=model.entity_vectors().detach(),
        num_relations=len(model.relation_embedding),
        neighborhood=model.neighborhood,
        num_items=model.num_items,
        averaged=model.scaling == "released" and model.attention,
        correction=model.correction,
    )


def too_wide(scores: Tensor) -> Tensor:
    """(B,) whether π(u, r) (B, R) of a user spread so far that e_r would underflow."""
    return scores.amax(dim=1) - scores.amin(dim=1) > WIDEST_SPREAD


@torch.no_grad()
def score_all(model: KGCNParameters, users: Tensor, encoded: Encoded | None) -> Tensor:
    """(B, num_items) logits of every item, from users (B,); no gradients."""
    if encoded is None and _pairs_are_faster(model, users):
        return Recommender.score_all(model, users)
    u = model.user_vectors(users)  # (B, d)
    s = model.user_relation_scores(u)  # (B, R)
    if not model.attention:
        s = s.new_zeros(1, s.shape[1])  # the same for all users
    scores = (encoded or Encoded(model)).all_items.scores(u, s)
    if model.item_bias is not None:
        scores += model.item_bias.weight.squeeze(1)
    rows = torch.nonzero(too_wide(s)).flatten().tolist()
    blocks = blocks_of_items(model, users.device) if rows else []
    for row in rows:  # exact at any spread, one by one
        parts = [model.score(users[row].expand(len(items)), items) for items in blocks]
        scores[row] = torch.cat(parts)
    return scores


def blocks_of_items(model: KGCNParameters, device: torch.device) -> list[Tensor]:
    """All items, in blocks whose pairs with one user take up to about :data:`FEW_BYTES`."""
    items = torch.arange(model.num_items)
    number = model.bytes_per_row(items).cumsum(0).div(FEW_BYTES, rounding_mode="floor")
    sizes = torch.unique_consecutive(number, return_counts=True)[1]
    return list(torch.split(items.to(device), sizes.tolist()))


def _pairs_are_faster(model: KGCNParameters, users: Tensor) -> bool:
    """Whether pairs are scored sooner than :class:`AllItems` is built."""
    if len(users) > FEW_USERS:
        return False
    return float(model.bytes_per_row(torch.arange(model.num_items)).sum()) < FEW_BYTES
