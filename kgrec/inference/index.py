"""An approximate index of items, for models whose score is one inner product.

faiss (Douze et al., "The Faiss library", 2024) splits the items into about √num_items lists by
k-means (IVF), and scores only the items of the lists that are nearest to the user. Such an index
was smaller, faster to build and, at the same recall, faster to ask than a graph of neighbours
(HNSW), which loses items where vectors differ in length (benchmarks/index.py).

The index does not know which items a user has seen, so it is asked for that many more. Rows in
which too few are left, or that ask for a large part of the catalogue, are returned as incomplete;
the caller then ranks all items.

Shapes: n users, D the size of a vector.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError
from kgrec.models.inner_product import InnerProduct
from kgrec.models.recommender import Recommender

FAISS = "faiss"
KEY = "index"
INSTALL = "pip install 'kgrec[ann]'"
ITEMS_PER_LIST = 39  # at least, the number that k-means of faiss asks for
LEAST_PROBES = 16  # lists that are read for a user, at least
PROBED_SHARE = 12  # one list of so many is read for a user
LARGEST_SHARE = 20  # up to one item of so many is asked of the index


class ItemIndex:
    """Approximate best items by inner product.

    Args:
        vectors: (num_items, D) vectors of the items.

    Raises:
        ConfigError: faiss is not installed.
    """

    def __init__(self, vectors: Tensor) -> None:
        faiss, rows = _faiss(), vectors.detach().float().cpu().contiguous().numpy()
        self.num_items = len(rows)
        lists = max(1, min(round(math.sqrt(self.num_items)), self.num_items // ITEMS_PER_LIST))
        self._index: Any = faiss.index_factory(
            rows.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT
        )
        self._index.cp.min_points_per_centroid = 1  # no warning on small catalogues
        self._index.nprobe = max(LEAST_PROBES, lists // PROBED_SHARE)
        self._index.train(rows)
        self._index.add(rows)

    def best(
        self, vectors: Tensor, k: int, exclude: Interactions | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The best items of n users, by their vectors (n, D).

        Equal scores are in no particular order.

        Args:
            vectors: (n, D) vectors of the users.
            k: number of items.
            exclude: pairs of users 0 … n - 1 and items that are left out; on the CPU.

        Returns:
            (n, k) scores and (n, k) items, best first, and (n,) whether a row is complete; an
            incomplete row holds nothing of use.
        """
        n, most = len(vectors), self.num_items // LARGEST_SHARE
        if exclude is None and k <= most:
            values, numbers = self._search(vectors, k)
            return values, numbers, numbers[:, -1] >= 0
        scores, items = torch.zeros(n, k), torch.full((n, k), -1)
        complete = torch.zeros(n, dtype=torch.bool)
        if exclude is None or k > most:
            return scores, items, complete
        wanted = k + exclude.user_degrees()
        # Rows that ask for a similar number are answered together.
        sizes = (2.0 ** wanted.double().log2().ceil()).long().clamp(max=most)
        for size in torch.unique(sizes[wanted <= most]).tolist():
            rows = torch.nonzero((sizes == size) & (wanted <= most)).squeeze(1)
            values, numbers = self._search(vectors[rows], size)
            pairs = rows[:, None].expand_as(numbers).flatten(), numbers.clamp(min=0).flatten()
            left = (numbers >= 0) & ~exclude.contains(*pairs).view(numbers.shape)
            enough = left.sum(dim=1) >= k
            first = (left & (left.cumsum(dim=1) <= k))[enough]
            scores[rows[enough]] = values[enough][first].view(-1, k)
            items[rows[enough]] = numbers[enough][first].view(-1, k)
            complete[rows[enough]] = True
        return scores, items, complete

    def _search(self, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(n, k) scores and (n, k) items; -1 where the lists that were read have fewer."""
        rows = vectors.detach().float().cpu().contiguous().numpy()
        _faiss()  # the number of threads belongs to the calling thread
        values, items = self._index.search(rows, k)
        return torch.from_numpy(values), torch.from_numpy(items)


def index_of(model: Recommender, model_name: str, encoded: Any, kind: str) -> ItemIndex:
    """The index of a model's items.

    Args:
        model: trained model.
        model_name: name of the model, for messages.
        encoded: result of ``model.encode()``.
        kind: "faiss".

    Raises:
        ConfigError: there is no such kind, faiss is not installed, the score of the model is no
            inner product, or a vector is not finite.
    """
    if kind != FAISS:
        raise ConfigError(f"{KEY}: found {kind!r}, expected {FAISS}")
    if not isinstance(model, InnerProduct):
        raise ConfigError(
            f"{KEY}: found the model {model_name}, expected a model whose score is one inner "
            "product: svd, bprmf, lightgcn, lightckg, cke, libfm, libfm_transe, per, kgat or kgin"
        )
    with torch.no_grad():
        vectors = model.item_factors(encoded)
    if not bool(vectors.isfinite().all()):
        raise ConfigError(f"{KEY}: found vectors of items that are not numbers, expected numbers")
    return ItemIndex(vectors)


def _faiss() -> Any:
    """faiss, with as many threads as PyTorch.

    Both bring their own OpenMP. On macOS two of them can crash a process that uses both with
    several threads, so faiss gets one thread there.

    Raises:
        ConfigError: it is not installed.
    """
    import sys

    try:
        import faiss
    except ImportError as error:
        raise ConfigError(f"{KEY}: found no package faiss, expected it: {INSTALL}") from error
    faiss.omp_set_num_threads(1 if sys.platform == "darwin" else torch.get_num_threads())
    return faiss
