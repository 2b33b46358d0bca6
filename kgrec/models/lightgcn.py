"""LightGCN: linear propagation over the graph of users and items.

He, Deng, Wang, Li, Zhang, Wang: "LightGCN: Simplifying and Powering Graph Convolution Network for
Recommendation", SIGIR 2020. With E⁽⁰⁾ a vector for every user and item, A their adjacency by
training positives and D its degrees:

    E⁽ᵏ⁺¹⁾  = (D^-½ A D^-½) E⁽ᵏ⁾                              Eq. 3, 7
    e       = 1/(H + 1) Σ_{k=0..H} e⁽ᵏ⁾                       Eq. 4, α_k = 1/(H + 1)
    ŷ(u, i) = e_u · e_i                                       Eq. 5
    L       = -ln σ(ŷ(u, i) - ŷ(u, j))                        Eq. 15, without its λ‖E⁽⁰⁾‖²

A new user has e⁽⁰⁾ = 0 and gets its layers from those of its items, which stay as trained.

Shapes: B rows, d embedding size, N users and items, n training positives.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PairwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.models.bprmf import BPRMF
from kgrec.models.folding import check_history, frozen
from kgrec.models.inner_product import InnerProduct
from kgrec.models.lookup import Bags
from kgrec.models.propagation import CollaborativeGraph, FromBuffers, propagate
from kgrec.models.recommender import MOST_LAYERS, Recommender, check_at_least


class LightGCN(InnerProduct):
    """Mean of H linear propagations; a user or item without a positive keeps E⁽⁰⁾ / (H + 1).

    Args:
        num_users: number of users.
        num_items: number of items.
        users: (n,) int64, users of the training positives.
        items: (n,) int64, items of the training positives.
        d: embedding size.
        H: layers of propagation.

    Raises:
        SettingError: a setting that cannot work.
    """

    batches: ClassVar[tuple[Any, ...]] = (PairwiseBatch,)
    logits: ClassVar[bool] = False
    fold_in_method: ClassVar[str | None] = "propagation"

    def __init__(
        self, num_users: int, num_items: int, users: Tensor, items: Tensor, d: int = 64, H: int = 3
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("H", H, 1, MOST_LAYERS)
        self.num_users, self.num_items, self.H = num_users, num_items, H
        self.embedding = nn.Parameter(torch.empty(num_users + num_items, d))  # users first
        nn.init.xavier_uniform_(self.embedding[:num_users])
        nn.init.xavier_uniform_(self.embedding[num_users:])
        self.users: Tensor
        self.items: Tensor
        self.register_buffer("users", users)
        self.register_buffer("items", items)
        self._adjacency = FromBuffers[tuple[CollaborativeGraph, Tensor]]()

    @classmethod
    def from_dataset(cls, dataset: RecDataset, d: int = 64, H: int = 3) -> Self:
        """Binds settings to a data set."""
        train = dataset.train
        return cls(dataset.num_users, dataset.num_items, train.users, train.items, d, H)

    @property
    def adjacency(self) -> tuple[CollaborativeGraph, Tensor]:
        """The graph of users and items, and the (m,) numbers of D^-½ A D^-½ on its edges."""
        dtype = self.embedding.dtype
        return self._adjacency.get(self._normalized, self.users, self.items, setting=dtype)

    def _normalized(self) -> tuple[CollaborativeGraph, Tensor]:
        interact, tails = torch.zeros_like(self.users), self.items + self.num_users
        graph = CollaborativeGraph.from_triples(
            self.users, interact, tails, len(self.embedding), num_relations=1
        )
        return graph, graph.symmetric_weights(self.embedding.dtype)

    def encode(self) -> Tensor:
        """(N, d) e of every user and item, users first."""
        graph, weights = self.adjacency
        vectors: Tensor = self.embedding
        total = vectors
        for _ in range(self.H):
            vectors = propagate(vectors, graph, weights, weights)  # the matrix is symmetric
            total = total + vectors
        return total / (self.H + 1)

    @torch.no_grad()
    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The inner products of propagated vectors, as a :class:`BPRMF`.

        A new user's degree is the length of its history. A degree of an item counts the new user.
        """
        check_history(history, self.num_items)
        model, history = frozen(self), history.to(self.items.device)
        layers, (graph, weights) = [model.embedding.detach()], model.adjacency
        for _ in range(self.H):
            layers.append(propagate(layers[-1], graph, weights))
        items = [layer[self.num_users :] for layer in layers]
        sizes = history.user_degrees()
        degrees = torch.bincount(self.items, minlength=self.num_items) + 1
        shares = (sizes[history.users] * degrees[history.items]).to(items[0].dtype).rsqrt()
        offsets = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        users = Bags(history.items, offsets, shares).sums(torch.stack(items[:-1]).sum(dim=0))
        return BPRMF.from_vectors(users / (self.H + 1), torch.stack(items).mean(dim=0))

    def step_values(self) -> Tensor:
        """(N, d) e of every user and item, which a step propagates once."""
        return self.encode()

    def score(self, users: Tensor, items: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B,) scores ŷ(u, i), from users (B,) and items (B,)."""
        e = self.encode() if encoded is None else encoded
        return (F.embedding(users, e) * F.embedding(items + self.num_users, e)).sum(dim=-1)

    def user_factors(self, users: Tensor, encoded: Tensor | None = None) -> Tensor:
        """(B, d) e of users (B,)."""
        return (self.encode() if encoded is None else encoded)[users]

    def item_factors(self, encoded: Tensor | None = None) -> Tensor:
        """(num_items, d) e of every item."""
        return (self.encode() if encoded is None else encoded)[self.num_users :]

    def item_vectors(self) -> Tensor:
        """(num_items, d) e of every item."""
        return self.encode().detach()[self.num_users :]

    def loss(self, *batches: Any) -> Tensor:
        """Mean of -ln σ(ŷ(u, i) - ŷ(u, j)), Eq. 15; its λ‖E⁽⁰⁾‖² is the optimiser's."""
        (batch,) = batches
        e = self.encode()
        better = self.score(batch.users, batch.positives, e)
        return F.softplus(self.score(batch.users, batch.negatives, e) - better).mean()

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: about 6 vectors, and numbers of the row."""
        return torch.full((len(items),), 40.0 + 24 * self.embedding.shape[1])

    def fixed_bytes(self) -> float:
        """Bytes of the propagation: two tables of the size of E⁽⁰⁾, and the adjacency."""
        return 4.0 * 2 * self.embedding.numel() + 2 * len(self.users) * 36
