"""KGCN's scores of all items: values that are computed once, and the way that is faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial

import torch
from torch import Tensor

from kgrec.models.kgcn.all_items import WIDEST_SPREAD, AllItems, Tables
from kgrec.models.kgcn.parameters import KGCNParameters
from kgrec.models.recommender import Recommender

# Without ``encoded``, pairs are scored for up to this many users, if the pairs of a user take up to
# this many bytes.
FEW_USERS = 4
FEW_BYTES = 2**29
# Pairs that are scored at once where the number must not depend on the items.
FEW_PAIRS = 2**10


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
        neighborhood=model.shards or model.neighborhood,
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
    bias = None if model.item_bias is None else model.item_bias.weight.squeeze(1)
    blocks = partial(blocks_of_items, model, users.device)
    return _scores(model, (encoded or Encoded(model)).all_items, bias, blocks, users)


@torch.no_grad()
def scorer(model: KGCNParameters, items: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from users (B,) to (B, n) logits of items (n,); no gradients.

    Layers are computed once, for these items. Processes that share tables read them equally often.
    """
    layers = AllItems(tables(model), model.layers, items)
    bias = None if model.item_bias is None else model.item_bias(items).squeeze(1)
    blocks = partial(torch.split, items, FEW_PAIRS)
    return torch.no_grad()(partial(_scores, model, layers, bias, blocks))


def _scores(
    model: KGCNParameters,
    layers: AllItems,
    bias: Tensor | None,
    blocks: Callable[[], Sequence[Tensor]],
    users: Tensor,
) -> Tensor:
    """(B, n) logits.

    Args:
        model: the model.
        layers: layers of the items.
        bias: (n,) biases of the items, or None.
        blocks: function to the items in blocks, each of which is scored as pairs at once.
        users: (B,) int64.
    """
    u = model.user_vectors(users)  # (B, d)
    s = model.user_relation_scores(u)  # (B, R)
    if not model.attention:
        s = s.new_zeros(1, s.shape[1])  # the same for all users
    scores = layers.scores(u, s)
    if bias is not None:
        scores += bias
    rows = torch.nonzero(too_wide(s)).flatten().tolist()
    parts = blocks() if rows else []
    for row in rows:  # exact at any spread, one by one
        scores[row] = torch.cat([model.score(users[row].expand(len(p)), p) for p in parts])
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
