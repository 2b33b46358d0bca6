"""Plain formulations of the models; :mod:`kgrec.exporting.attention` has that of KGCN.

Shapes: B rows or users, I items, d numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kgrec.exporting.attention import Deep, OneHop
from kgrec.exporting.programs import Formulation, user_by_user
from kgrec.models.controls import (
    AllPositive,
    Popularity,
    PopularityBalance,
    PopularityPrior,
    UnseenItem,
)
from kgrec.models.ease import EASE
from kgrec.models.folding import frozen
from kgrec.models.inner_product import InnerProduct
from kgrec.models.item_based import ItemBased
from kgrec.models.itemknn import ItemKNN
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgnn_ls import KGNNLS
from kgrec.models.ncf import NCF
from kgrec.models.recommender import Recommender
from kgrec.models.ripplenet import RippleNet

Factors = tuple[Tensor, Tensor]
"""(U, d) factors of users and (I, d) factors of items, whose inner products are the scores."""


class Factored(Formulation):
    """Scores that are inner products.

    Args:
        factors: factors of users and items.
    """

    note = (
        "A score is the inner product of a row of users and a row of items; biases are "
        "further columns."
    )
    users: Tensor
    items: Tensor

    def __init__(self, factors: Factors) -> None:
        super().__init__()
        self.keep(users=factors[0], items=factors[1])

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        return (self.users[users] * self.items[items]).sum(dim=-1)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""
        # ONNX would store a transposed table of items besides the table of items.
        return (self.items @ self.users[users].T).T


class ByHistory(Formulation):
    """What EASE and ItemKNN share: the training positives of users, as CSR.

    Args:
        model: model that scores by training positives.
    """

    first: Tensor
    sizes: Tensor
    items: Tensor
    places: Tensor

    def __init__(self, model: ItemBased) -> None:
        super().__init__()
        history = model.history
        degrees = history.user_degrees()
        self.num_items = model.num_items
        self.keep(
            first=degrees.cumsum(0) - degrees,
            sizes=degrees,
            items=torch.cat([history.items, history.items.new_zeros(1)]),
            places=torch.arange(max(1, int(degrees.max()))),
        )

    def histories(self, users: Tensor) -> Tensor:
        """(B, I) 1 for a training positive, else 0, from users (B,)."""
        inside = self.places < self.sizes[users][:, None]  # (B, longest history)
        place = torch.where(inside, self.first[users][:, None] + self.places, 0)
        columns = torch.where(inside, self.items[place], self.num_items)
        rows = torch.zeros(users.shape[0], self.num_items + 1)
        return rows.scatter(1, columns, 1.0)[:, : self.num_items]


class ItemWeights(ByHistory):
    """EASE: the sum of the weights from each item of the history."""

    note = (
        "The histories of users are stored as lists and become rows of 0 and 1, which "
        "are multiplied by the weights of items."
    )
    weights: Tensor

    def __init__(self, model: EASE) -> None:
        super().__init__(model)
        self.keep(weights=model.weights)

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        return (self.histories(users) * self.weights.index_select(1, items).T).sum(dim=-1)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""
        scores: Tensor = self.histories(users) @ self.weights
        return scores


class Neighbours(ByHistory):
    """ItemKNN: the sum of the similarities to those neighbours that are in the history."""

    note = "The histories of users are stored as lists; users are ranked one after the other."
    neighbors: Tensor
    similarities: Tensor

    def __init__(self, model: ItemKNN) -> None:
        super().__init__(model)
        width = max(1, int((model.similarities != 0).any(dim=0).sum()))  # the largest come first
        self.keep(
            neighbors=model.neighbors[:, :width].long(),
            similarities=model.similarities[:, :width].clone(),
        )

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        liked = self.histories(users).gather(1, self.neighbors[items])
        return (liked * self.similarities[items]).sum(dim=-1)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""

        def score(liked: Tensor) -> Tensor:
            return (liked[self.neighbors] * self.similarities).sum(dim=-1)

        return user_by_user(score, self.histories(users))


class Perceptron(Formulation):
    """NCF with the first layer applied to all users and items beforehand."""

    note = (
        "The first layer is applied to users and items beforehand; users are ranked one "
        "after the other."
    )
    user_factors: Tensor
    user_inputs: Tensor
    item_factors: Tensor
    item_inputs: Tensor
    output: Tensor

    def __init__(self, model: NCF) -> None:
        super().__init__()
        parts, wide = model.encode(), model.item_inputs.embedding_dim
        self.further, self.bias = model.further, model.output.bias
        self.keep(
            user_factors=model.user_factors.weight,
            user_inputs=F.linear(model.user_inputs.weight, model.first.weight[:, :wide]),
            item_factors=parts.factors,
            item_inputs=parts.inputs,
            output=model.output.weight[0, model.item_factors.embedding_dim :].clone(),
        )

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        products = self.user_factors[users] * self.item_factors[items]
        hidden = self.user_inputs[users] + self.item_inputs[items]
        return products.sum(dim=-1) + self._perceive(hidden)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""

        def score(factors: Tensor, inputs: Tensor) -> Tensor:
            return self.item_factors @ factors + self._perceive(self.item_inputs + inputs)

        return user_by_user(score, self.user_factors[users], self.user_inputs[users])

    def _perceive(self, hidden: Tensor) -> Tensor:
        for layer in self.further:
            hidden = layer(hidden.relu())
        return hidden.relu() @ self.output + self.bias


class Ripples(Formulation):
    """RippleNet with the products R_r h of all triples computed beforehand."""

    note = (
        "The products of relations and heads are computed beforehand; users are ranked "
        "one after the other."
    )
    entities: Tensor
    keys: Tensor
    tails: Tensor
    ripples: Tensor

    def __init__(self, model: RippleNet) -> None:
        super().__init__()
        products = model.encode()
        self.num_items, self.H = model.num_items, model.H
        self.update, self.all_hops, self.transform = model.update, model.all_hops, model.transform
        self.keep(
            entities=model.entity_embedding.weight,
            keys=products.keys,
            tails=products.tails,
            ripples=model.ripples,
        )

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        ripples = self.ripples[users].long()  # (B, H, M)
        return self._answer(self.entities[items][:, None], ripples).squeeze(1)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""

        def score(ripples: Tensor) -> Tensor:
            items = self.entities[None, : self.num_items]
            return self._answer(items, ripples[None].long()).squeeze(0)

        return user_by_user(score, self.ripples[users])

    def _answer(self, v: Tensor, ripples: Tensor) -> Tensor:
        """(b, n) scores of items v (b, n, d), from ripple sets (b, H, M)."""
        slots = ripples.clamp(min=0)
        total = torch.zeros_like(v)
        for hop in range(self.H):
            p = (v @ self.keys[slots[:, hop]].transpose(1, 2)).softmax(dim=-1)  # (b, n, M)
            o = p @ self.entities[self.tails[slots[:, hop]]]
            total = total + o if self.all_hops else o
            v = v + o if self.update.startswith("plus") else o
            v = v if self.transform is None else self.transform(v)
        return torch.where(ripples[:, :1, 0] >= 0, (total * v).sum(dim=-1), 0.0)


class SameForAll(Formulation):
    """Scores of items that do not depend on the user."""

    note = (
        "The scores of all items are computed beforehand, because they do not depend on the user."
    )
    scores: Tensor

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        items = torch.arange(model.catalogue_size)
        self.keep(scores=model.score(torch.zeros_like(items), items))

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        return self.scores[items]

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""
        return self.scores.expand(users.shape[0], -1)


class Direct(Formulation):
    """The model's own ``score``, for models of the user's own.

    Args:
        model: the model.
    """

    note = (
        "The score function of the model is exported as it is; top_k applies it to "
        "every pair of a user and an item at once, so memory grows with users times "
        "items."
    )

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model, self.num_items = model, model.catalogue_size

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """(B,) scores."""
        return self.model.score(users, items)

    def catalogue(self, users: Tensor) -> Tensor:
        """(B, I) scores."""
        shape = users.shape[0], self.num_items
        items = torch.arange(self.num_items).expand(shape).reshape(-1)
        return self.pairs(users[:, None].expand(shape).reshape(-1), items).view(shape)


def formulation(model: Recommender) -> Formulation:
    """The plain formulation of a model, in single precision, without gradients.

    A subclass of a model of kgrec may score differently, so it is exported by its own ``score``
    unless it has factors.
    """
    copy = frozen(model).float()
    with torch.no_grad():
        pair = factors(copy)
        made = OTHERS.get(type(model), Direct)(copy) if pair is None else Factored(pair)
    return made.eval()


def factors(model: Recommender) -> Factors | None:
    """Factors of users and items; None: the model's scores are no inner products."""
    if not isinstance(model, InnerProduct):
        return None
    users = torch.arange(int(model.arguments["num_users"]))
    with torch.no_grad():
        return model.user_factors(users), model.item_factors().clone()


def _balance(model: PopularityBalance) -> Formulation:
    users = torch.stack([torch.ones(len(model.balance)), -model.a * model.balance], dim=1)
    items = torch.stack([model.log_counts, torch.ones(model.num_items)], dim=1)
    return Factored((users, items))


def _kgcn(model: KGCN) -> Formulation:
    return OneHop(model) if model.H == 1 else Deep(model)


OTHERS: dict[type[Recommender], Callable[[Any], Formulation]] = {
    KGCN: _kgcn,
    KGNNLS: _kgcn,
    RippleNet: Ripples,
    NCF: Perceptron,
    EASE: ItemWeights,
    ItemKNN: Neighbours,
    AllPositive: SameForAll,
    Popularity: SameForAll,
    PopularityPrior: SameForAll,
    UnseenItem: SameForAll,
    PopularityBalance: _balance,
}
