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
    """Values that depend only on a model's parameters, each computed at its first use.

    Args:
        model: the model, whose own graph is that of the item end.
        ids: (I,) distinct items whose scores are computed; None: all items.
    """

    def __init__(self, model: KGCNParameters, ids: Tensor | None = None) -> None:
        self._model, self._ids = model, ids

    @cached_property
    def items(self) -> Tensor:
        """(I, d) order-0 vectors of the items."""
        vectors = self._model.item_vectors() if self._ids is None else self._read()
        return vectors.detach()

    def _read(self) -> Tensor:
        assert self._ids is not None
        return self._model.entity_vectors()[self._ids]

    @cached_property
    def item_end(self) -> AllItems:
        """v^u of the items."""
        with torch.no_grad():
            return AllItems(tables(self._model), self._model.layers, self._ids, for_vectors=True)

    @cached_property
    def bias(self) -> Tensor | None:
        """(I,) biases of the items."""
        if (table := self._model.item_bias) is None:
            return None
        return (table.weight if self._ids is None else table(self._ids)).detach().squeeze(1)

    def blocks(self, device: torch.device) -> Sequence[Tensor]:
        """The items in blocks, each of which is scored as pairs with one user at once."""
        if self._ids is None:
            return blocks_of_items(self._model, device)
        return self._ids.split(FEW_PAIRS)

    def wide_items(self, of_items: Tensor) -> list[tuple[int, Tensor]]:
        """Positions and numbers (1,) of items whose π' spreads too far for :class:`AllItems`.

        Processes that share tables score as many, so that they read them equally often.

        Args:
            of_items: (I or 1, R') π'.
        """
        wide = torch.nonzero(too_wide(of_items)).flatten().tolist()
        if isinstance(self._model.entity_embedding.weight, ShardedTable):
            missing = largest_number(len(wide), of_items.device) - len(wide)
            wide += [0] * missing  # any item; it is scored as before, up to rounding
        ids = torch.arange(len(self.items)) if self._ids is None else self._ids
        return [(at, ids[at : at + 1].to(of_items.device)) for at in wide]


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
