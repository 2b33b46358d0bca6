"""LibFM with the item's TransE vector as features.

The KGCN paper (Wang et al., WWW 2019, section 4.3) attaches to each pair the vector of its entity
that TransE (Bordes et al., NIPS 2013) has learned from the graph beforehand. In LibFM's equation
the vector's K numbers z_i of item i are further values x_f, each with a weight and a vector of its
own; the numbers themselves are not trained. TransE's vectors are about as long as 1, as the item's
own feature is; ``transe_scale`` makes them count for less.

Shapes: I items, d embedding size, K size of a TransE vector.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from kgrec.data.dataset import RecDataset
from kgrec.errors import ConfigError
from kgrec.files import user_path
from kgrec.models.libfm import LibFM
from kgrec.models.recommender import check_at_least
from kgrec.models.transe_pretraining import pretrained_transe


class LibFMTransE(LibFM):
    """Second-order interactions of user, item and the item's TransE vector.

    Args:
        num_users: users.
        num_items: items.
        d: embedding size.
        bias: whether there is w_0.
        linear: whether there are w_f.
        transe_d: K.
        transe_scale: what z is multiplied by.

    Raises:
        ConfigError: a setting that cannot work.
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
    ) -> None:
        check_at_least("model.transe_d", transe_d, 1)
        if type(transe_scale) not in (int, float) or not transe_scale > 0:
            raise ConfigError(f"model.transe_scale: found {transe_scale!r}, expected more than 0")
        super().__init__(num_users, num_items, d=d, bias=bias, linear=linear)
        self.transe_factors = nn.Parameter(torch.empty(transe_d, d))
        nn.init.xavier_uniform_(self.transe_factors)
        self.transe_weights = nn.Parameter(torch.zeros(transe_d)) if linear else None
        self.transe: Tensor
        self.register_buffer("transe", torch.zeros(num_items, transe_d))
        self.transe_scale = transe_scale
        self._pretraining: tuple[int, float, Path | None] = 0, 0.0, None

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
            dataset: gives sizes.
            d: embedding size.
            bias: whether there is w_0.
            linear: whether there are w_f.
            transe_d: size of a TransE vector.
            transe_scale: what it is multiplied by.
            transe_epochs: of TransE.
            held_out: share of the triples that TransE is not shown, and asked for.
            cache: the folder that TransE's vectors are kept in; None: train them in every run.

        Raises:
            ConfigError: a setting that cannot work.
        """
        check_at_least("model.transe_epochs", transe_epochs, 1)
        if type(held_out) not in (int, float) or not 0 <= held_out < 1:
            share = "a share, 0 <= held_out < 1"
            raise ConfigError(f"model.held_out: found {held_out!r}, expected {share}")
        sizes = dataset.num_users, dataset.num_items
        model = cls(*sizes, d, bias, linear, transe_d, transe_scale)
        folder = None if cache is None else user_path(cache)
        model._pretraining = transe_epochs, held_out, folder
        return model

    def precompute(self, dataset: RecDataset) -> None:
        """Trains TransE from torch's initial seed, or takes what the cache has of it."""
        epochs, held_out, cache = self._pretraining
        seed, size = torch.initial_seed(), self.transe.shape[1]
        found = pretrained_transe(dataset.graph, size, epochs, held_out, seed, cache, dataset.name)
        self.transe.copy_(self.transe_scale * found.entities[: dataset.num_items])
        self.found |= {f"transe/{name}": value for name, value in found.figures.items()}

    def _described(self) -> tuple[Tensor, Tensor, Tensor]:
        """Σ w_f x_f (I,), Σ v_f x_f (I, d), Σ x_f² ‖v_f‖² (I,) over the numbers of z."""
        z, factors = self.transe, self.transe_factors
        linear = z.new_zeros(len(z)) if self.transe_weights is None else z @ self.transe_weights
        return linear, z @ factors, z.square() @ factors.square().sum(dim=1)
