"""LibFM with the item's TransE vector as features.

The KGCN paper (Wang et al., WWW 2019, section 4.3) attaches to each pair the vector of its entity
that TransE (Bordes et al., NIPS 2013) has learned from the graph beforehand. In LibFM's equation
the vector's K numbers z_i of item i are further values x_f, each with a weight and a vector of its
own. The numbers themselves are not trained. TransE's vectors have a length of about 1, like the
item's own feature; ``transe_scale`` changes how much they count.

Shapes: I items, d embedding size, K size of a TransE vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from kgrec.data.dataset import RecDataset
from kgrec.files import user_path
from kgrec.models.libfm import LibFM
from kgrec.models.recommender import MOST_ROUNDS, check_at_least, check_number
from kgrec.models.transe_pretraining import pretrained_transe


class LibFMTransE(LibFM):
    """Second-order interactions of user, item and the item's TransE vector.

    Args:
        num_users: number of users.
        num_items: number of items.
        d: embedding size.
        bias: whether there is w_0.
        linear: whether there are w_f.
        transe_d: K.
        transe_scale: factor of z.
        transe_epochs: epochs of TransE.
        held_out: share of the triples held out from TransE, for link prediction.

    Raises:
        SettingError: a setting that cannot work.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        d: int = 8,
        bias: bool = True,
        linear: bool = True,
        transe_d: int = 32,
        transe_scale: float = 1.0,
        transe_epochs: int = 50,
        held_out: float = 0.05,
    ) -> None:
        check_at_least("transe_d", transe_d, 1)
        check_number("transe_scale", transe_scale, 1e-6)
        check_at_least("transe_epochs", transe_epochs, 1, MOST_ROUNDS)
        check_number("held_out", held_out, 0, below=1)
        super().__init__(num_users, num_items, d=d, bias=bias, linear=linear)
        self.transe_factors = nn.Parameter(torch.empty(transe_d, d))
        nn.init.xavier_uniform_(self.transe_factors)
        self.transe_weights = nn.Parameter(torch.zeros(transe_d)) if linear else None
        self.transe: Tensor
        self.register_buffer("transe", torch.zeros(num_items, transe_d))
        self.transe_scale = transe_scale
        self.transe_epochs, self.held_out = transe_epochs, held_out
        self._cache: Path | None = None

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        d: int = 8,
        bias: bool = True,
        linear: bool = True,
        transe_d: int = 32,
        transe_scale: float = 1.0,
        transe_epochs: int = 50,
        held_out: float = 0.05,
        cache: str | None = None,
    ) -> Self:
        """Binds settings to a data set.

        Args:
            dataset: source of sizes.
            d: embedding size.
            bias: whether there is w_0.
            linear: whether there are w_f.
            transe_d: size of a TransE vector.
            transe_scale: factor of the TransE vector.
            transe_epochs: epochs of TransE.
            held_out: share of the triples held out from TransE, for link prediction.
            cache: folder for TransE's vectors; None: train them in every run. It does not change
                results.

        Raises:
            SettingError: a setting that cannot work.
        """
        sizes = dataset.num_users, dataset.num_items
        model = cls(*sizes, d, bias, linear, transe_d, transe_scale, transe_epochs, held_out)
        model._cache = None if cache is None else user_path(cache)
        return model

    def precompute(self, dataset: RecDataset) -> None:
        """Trains TransE from torch's initial seed, or reads its vectors from the cache."""
        pretrained = pretrained_transe(
            dataset.graph, self.transe.shape[1], self.transe_epochs, self.held_out,
            torch.initial_seed(), self._cache, dataset.name,
        )  # fmt: skip
        self.transe.copy_(self.transe_scale * pretrained.entities[: dataset.num_items])
        metrics = {f"transe/{name}": value for name, value in pretrained.metrics.items()}
        self.precompute_metrics |= metrics

    def fixed_bytes(self) -> float:
        """Bytes of the sums over z, which every step computes for all items."""
        return 4.0 * 2 * self.item_embedding.weight.numel()

    def _attribute_sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Σ w_f x_f (I,), Σ v_f x_f (I, d), Σ x_f² ‖v_f‖² (I,) over the numbers of z."""
        z, factors = self.transe, self.transe_factors
        linear = z.new_zeros(len(z)) if self.transe_weights is None else z @ self.transe_weights
        return linear, z @ factors, z.square() @ factors.square().sum(dim=1)
