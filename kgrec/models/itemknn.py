"""ItemKNN: the most similar items of each item, without a graph.

Sarwar, Karypis, Konstan, Riedl: "Item-Based Collaborative Filtering Recommendation Algorithms",
WWW 2001, with a shrunk cosine. n_i users have i as a training positive, n_ij both i and j:

    s(i, j) = n_ij / (√(n_i n_j) + shrinkage)
    ŷ(u, j) = Σ s(i, j) over the k items i ≠ j most similar to j that u has as training positives

Shapes: B rows, I items, k neighbours of each, m pairs of an item and one of its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Self

import scipy.sparse as sp
import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.evaluation.ties import tie_order
from kgrec.models.item_based import BLOCK, ItemBased, grid_of
from kgrec.models.reasons import Reasons, weighted_history


class Similar(NamedTuple):
    """For each item, the items that have it as a neighbour.

    Attributes:
        offsets: (I + 1,) int64, start of each item's entries.
        items: (m,) int64.
        similarities: (m,) float.
    """

    offsets: Tensor
    items: Tensor
    similarities: Tensor


class ItemKNN(ItemBased):
    """Sums of similarities; k and the shrinkage are chosen on validation.

    Args:
        num_users: number of users.
        num_items: number of items.
        users: (n,) int64, users of the training positives.
        items: (n,) int64, items of the training positives.
        k: numbers of neighbours to choose from, or one number.
        shrinkage: values of the shrinkage to choose from, or one value.
        choose_by: validation metric by which k and the shrinkage are chosen.

    Raises:
        SettingError: a setting that cannot work.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        users: Tensor,
        items: Tensor,
        k: int | Sequence[int] = (50,),
        shrinkage: float | Sequence[float] = (0.0,),
        choose_by: str = "val/auc",
    ) -> None:
        super().__init__(num_users, num_items, users, items, choose_by)
        self.k, self.shrinkage = _grids(k, shrinkage)
        num_neighbours = min(max(self.k), num_items)
        self.neighbors: Tensor
        self.similarities: Tensor
        self.register_buffer("neighbors", torch.zeros(num_items, num_neighbours, dtype=torch.int32))
        self.register_buffer("similarities", torch.zeros(num_items, num_neighbours))

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        k: int | Sequence[int] = (50,),
        shrinkage: float | Sequence[float] = (0.0,),
        choose_by: str = "val/auc",
    ) -> Self:
        """Binds settings to a data set; similarities are computed by :meth:`precompute`."""
        sizes, train = (dataset.num_users, dataset.num_items), dataset.train
        return cls(*sizes, train.users, train.items, *_grids(k, shrinkage), choose_by)

    def precompute(self, dataset: RecDataset) -> None:
        """Finds the neighbours for every setting and keeps the best."""
        X = self.positives_matrix()
        both = sp.csr_array(X.T @ X)  # n_ij
        norms = torch.from_numpy(both.diagonal()).sqrt()
        order = tie_order(dataset.ids.items["item"].to_list(), torch.initial_seed())
        tables: dict[float, tuple[Tensor, Tensor]] = {}

        def apply(shrinkage: float, k: int) -> None:
            if shrinkage not in tables:
                tables.clear()  # the shrinkage changes last
                tables[shrinkage] = self._nearest(both, norms, shrinkage, order)
            neighbors, similarities = tables[shrinkage]
            self.neighbors.copy_(neighbors)
            self.similarities.copy_(similarities)
            self.similarities[:, k:] = 0

        self.choose(dataset, {"shrinkage": self.shrinkage, "k": self.k}, apply)

    def _nearest(
        self, both: sp.csr_array, norms: Tensor, shrinkage: float, order: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Neighbours of every item for the largest k.

        Args:
            both: (I, I) n_ij.
            norms: (I,) √n_i.
            shrinkage: shrinkage of the cosine.
            order: (I,) items in the order in which equally similar items are taken.

        Returns:
            (I, k) items and (I, k) similarities, the most similar first.
        """
        items, similarities = [], []
        for begin in range(0, self.num_items, BLOCK):
            end = min(begin + BLOCK, self.num_items)
            block = torch.from_numpy(both[begin:end].toarray())
            block.div_((norms[begin:end, None] * norms).add_(shrinkage)).nan_to_num_(0.0)  # 0 / 0
            block[torch.arange(end - begin), torch.arange(begin, end)] = 0
            top = block[:, order].topk(self.neighbors.shape[1])
            items.append(order[top.indices])
            similarities.append(top.values)
        return torch.cat(items), torch.cat(similarities)

    def encode(self) -> Similar:
        """The table of neighbours, grouped by neighbour."""
        targets, columns = torch.nonzero(self.similarities, as_tuple=True)
        sources = self.neighbors[targets, columns].long()
        order = torch.argsort(sources, stable=True)
        counts = torch.bincount(sources, minlength=self.num_items)
        offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Similar(offsets, targets[order], self.similarities[targets, columns][order])

    def score_all(self, users: Tensor, encoded: Similar | None = None) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        similar = self.encode() if encoded is None else encoded
        rows, items = self.history.of_users(users)
        sizes = similar.offsets.diff()[items]
        rank = torch.arange(int(sizes.sum()), device=users.device)
        rank -= (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        entries = similar.offsets[items].repeat_interleave(sizes) + rank
        cells = rows.repeat_interleave(sizes) * self.num_items + similar.items[entries]
        scores = similar.similarities.new_zeros(len(users) * self.num_items)
        return scores.index_add_(0, cells, similar.similarities[entries]).view(len(users), -1)

    def similar_to(self, item: int) -> Tensor:
        """(num_items,) s(item, j); 0 beyond the k nearest items of ``item``."""
        row = self.similarities.new_zeros(self.num_items)
        return row.index_copy_(0, self.neighbors[item].long(), self.similarities[item])

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """The terms s(i, item) of the user's training positives i, which add up to the score."""
        own = self.history.of_users(torch.tensor([user], device=self.items.device))[1]
        return weighted_history(self.score_of(user, item), own, self.similar_to(item)[own], top)


def _grids(
    k: int | Sequence[int], shrinkage: float | Sequence[float]
) -> tuple[list[int], list[float]]:
    return grid_of("k", k, 1, int), grid_of("shrinkage", shrinkage, 0, float)
