"""Scores of all items by a KGCN with a user end, for blocks of users.

Both representations of a pair depend on both of its sides: v^u on u by the attention of the item
end, u^v on v by that of the user end. So a block of B users takes B · I vectors of each end, and
:class:`AllItems` makes them layer by layer: of all items for each user, and of the users of the
block for each item.

Shapes: B users of a block, I items, d embedding size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from kgrec.models.kgcn.all_items import AllItems
from kgrec.models.kgcn.parameters import KGCNParameters
from kgrec.models.kgcn.ranking import FEW_PAIRS, blocks_of_items, tables, too_wide
from kgrec.models.recommender import in_blocks
from kgrec.sharding.exchange import largest_number
from kgrec.sharding.table import ShardedTable


class EncodedEnds:
    """Values that depend only on a model's parameters, each computed at its first use."""

    def __init__(self, model: KGCNParameters) -> None:
        self._model = model

    @cached_property
    def items(self) -> Tensor:
        """(I, d) order-0 vectors of the items."""
        return self._model.item_vectors()

    @cached_property
    def item_end(self) -> AllItems:
        """v^u of the items."""
        with torch.no_grad():
            return AllItems(tables(self._model), self._model.layers, for_vectors=True)

    @cached_property
    def bias(self) -> Tensor | None:
        """(I,) biases of the items, or None."""
        table = self._model.item_bias
        return None if table is None else table.weight.detach().squeeze(1)

    def blocks(self, device: torch.device) -> Sequence[Tensor]:
        """The items in blocks, each of which is scored as pairs with one user at once."""
        return blocks_of_items(self._model, device)

    def wide_items(self, of_items: Tensor) -> list[tuple[int, Tensor]]:
        """Places and numbers () of the items whose π' (I or 1, R') spread too far."""
        return [(int(item), item) for item in torch.nonzero(too_wide(of_items)).flatten()]


class EncodedItems(EncodedEnds):
    """The same of some items, for processes that share tables and read them equally often.

    Args:
        model: the model, whose own graph is that of the item end.
        ids: (I,) distinct items.
        both: whether items are represented by the item end.
    """

    def __init__(self, model: KGCNParameters, ids: Tensor, both: bool) -> None:
        super().__init__(model)
        self._ids = ids
        with torch.no_grad():
            self.items = model.entity_vectors()[ids]
            self.bias = None if model.item_bias is None else model.item_bias(ids).squeeze(1)
            if both:
                self.item_end = AllItems(tables(model), model.layers, ids, for_vectors=True)

    def blocks(self, device: torch.device) -> Sequence[Tensor]:
        """The items in blocks, whose number depends only on the number of items."""
        return torch.split(self._ids, FEW_PAIRS)

    def wide_items(self, of_items: Tensor) -> list[tuple[int, Tensor]]:
        """As many of every process; a further item keeps its score, up to rounding."""
        wide = [place for place, _ in super().wide_items(of_items)]
        if isinstance(self._model.entity_embedding.weight, ShardedTable):
            wide += [0] * (largest_number(len(wide), of_items.device) - len(wide))
        return [(place, self._ids[place]) for place in wide]


@torch.no_grad()
def score_all(
    model: KGCNParameters,
    user_end: KGCNParameters,
    both: bool,
    users: Tensor,
    encoded: EncodedEnds | None,
) -> Tensor:
    """(B, I) logits of every item, or of the items of ``encoded``; no gradients.

    Args:
        model: the model, whose own graph is that of the item end.
        user_end: its user end.
        both: whether items are represented by the item end, or by their order-0 vectors.
        users: (B,) int64.
        encoded: result of the model's ``encode``, or None.
    """
    encoded = encoded or EncodedEnds(model)
    distinct, place = torch.unique(users, return_inverse=True)
    score = partial(_scores, model, user_end, both, encoded)
    return in_blocks(score, distinct, len(encoded.items) * model.d)[place]


def _scores(
    model: KGCNParameters,
    user_end: KGCNParameters,
    both: bool,
    encoded: EncodedEnds,
    users: Tensor,
) -> Tensor:
    """(B, I) scores of distinct users (B,)."""
    of_users = _relation_scores(model, model.user_embedding(users))  # (B or 1, R)
    of_items = _relation_scores(user_end, encoded.items)  # (I or 1, R')
    v = encoded.item_end.vectors(of_users) if both else encoded.items[None]
    own = AllItems(tables(user_end), user_end.layers, items=users, for_vectors=True)
    u = own.vectors(of_items)  # (I or 1, B, d)
    scores = (v * u.transpose(0, 1)).sum(dim=-1)
    if encoded.bias is not None:
        scores += encoded.bias
    if both:
        for row in torch.nonzero(too_wide(of_users)).flatten().tolist():
            parts = [
                model.score(users[row].expand(len(items)), items)
                for items in encoded.blocks(users.device)
            ]
            scores[row] = torch.cat(parts)
    for place, item in encoded.wide_items(of_items):
        scores[:, place] = model.score(users, item.expand(len(users)))
    return scores


def _relation_scores(model: KGCNParameters, u: Tensor) -> Tensor:
    """(B, R) π; (1, R) zeros where all neighbours weigh the same."""
    s = model.user_relation_scores(u)
    return s if model.attention else s.new_zeros(1, s.shape[1])
