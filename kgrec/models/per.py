"""PER: preferences spread along meta-paths, one for each kind of attribute.

Yu, Ren, Sun, Gu, Sturt, Khandelwal, Norick, Han: "Personalized Entity Recommendation: A
Heterogeneous Information Network Approach", WSDM 2014. The similarity of items along a path item -
attribute - item is PathSim (Sun et al., VLDB 2011). With A the (items, attributes) links of a path
q, M = A Aᵀ, and R the (users, items) training positives:

    S_ij = 2 M_ij / (M_ii + M_jj)
    R̃    = R S ≈ W H,  W and H not negative               Eq. 2, 3: diffused, and factorised
    ŷ    = c + Σ_q θ_q w_u⁽q⁾ · h_v⁽q⁾                     Eq. 4, a logit here

R̃ is never formed: the factorisation (multiplicative updates of Lee and Seung, NIPS 2000) needs only
products with R and S. The factors of a path are scaled so that training positives have the mean 1.
Weights are the same for all users (the paper's global model). They are learned by cross-entropy,
like the other models here with labelled rows; the paper ranks pairs.

Shapes: B rows, U users, I items, Q paths, d latent features of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.errors import SettingError
from kgrec.models.folding import WithUserTables
from kgrec.models.inner_product import InnerProduct
from kgrec.models.reasons import EXACT, Reasons, Term, ordered
from kgrec.models.recommender import MOST_ROUNDS, check_at_least

Path = str | Sequence[str]  # relations that form one kind of attribute


class PER(InnerProduct, WithUserTables):
    """Learned weights of latent features, one per meta-path.

    A new user's features W come from steps on the cross-entropy, because S is not kept.

    Args:
        num_users: number of users.
        num_items: number of items.
        paths: Q lists of relation numbers.
        d: number of latent features of each path.
        iterations: iterations of the factorisation.

    Raises:
        SettingError: a setting that cannot work.
    """

    user_tables: ClassVar[tuple[str, ...]] = ("user_features",)

    def __init__(
        self,
        num_users: int,
        num_items: int,
        paths: Sequence[Sequence[int]],
        d: int = 8,
        iterations: int = 50,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("iterations", iterations, 1, MOST_ROUNDS)
        if not paths:
            raise SettingError("paths: found [], expected at least one relation, or null")
        self.num_items, self.d, self.iterations = num_items, d, iterations
        self.paths = [list(path) for path in paths]
        self.weights = nn.Parameter(torch.ones(len(self.paths)))  # θ
        self.bias = nn.Parameter(torch.zeros(()))
        self.user_features: Tensor
        self.item_features: Tensor
        self.register_buffer("user_features", torch.zeros(num_users, len(self.paths) * d))
        self.register_buffer("item_features", torch.zeros(num_items, len(self.paths) * d))

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        paths: str | Sequence[Path] | None = None,
        d: int = 8,
        iterations: int = 50,
    ) -> Self:
        """Binds settings to a data set; :meth:`precompute` factorises.

        Args:
            dataset: source of sizes and relation names.
            paths: for each path a relation, or several relations that count as one; a single
                relation is one path; None: every relation by which at least two items share a
                neighbour.
            d: see the class.
            iterations: see the class.

        Raises:
            SettingError: a setting that cannot work.
        """
        names: list[str] = dataset.ids.relations["relation"].to_list()
        if paths is None:
            numbers = [[r] for r in range(len(names)) if _shared(dataset, [r])]
            if not numbers:
                raise SettingError("paths: found no relation by which items share a neighbour")
        else:
            paths = [paths] if isinstance(paths, str) else paths
            if not isinstance(paths, Sequence):
                raise SettingError(f"paths: found {paths!r}, expected a list of relations, or null")
            numbers = [_numbers(path, names) for path in paths]
            for path, relations in zip(paths, numbers, strict=True):
                if not _shared(dataset, relations):
                    raise SettingError(
                        f"paths: found {path!r}, by which no two items share a neighbour, "
                        "expected a path from item to item"
                    )
        return cls(dataset.num_users, dataset.num_items, numbers, d, iterations)

    def precompute(self, dataset: RecDataset) -> None:
        """Factorises the diffused preferences of every path."""
        train = dataset.train
        ends = train.users.numpy(), train.items.numpy()
        R = sp.csr_array((np.ones(len(train)), ends), shape=(train.num_users, train.num_items))
        draw = generator(torch.initial_seed(), "factors")
        on_path = np.zeros(self.num_items, dtype=bool)
        for q, path in enumerate(tqdm(self.paths, "meta-paths", leave=False, disable=None)):
            S = path_similarity(_links(dataset, path))
            on_path |= S.diagonal() > 0
            W, H = factorise(R, S, self.d, self.iterations, draw)
            mean = float((W[ends[0]] * H[ends[1]]).sum(axis=1).mean()) if len(train) else 0.0
            columns = slice(q * self.d, (q + 1) * self.d)
            self.user_features[:, columns] = torch.from_numpy(W)
            self.item_features[:, columns] = torch.from_numpy(H / mean if mean else H)
        self.precompute_metrics |= {
            "paths": float(len(self.paths)),
            "items_on_paths": float(on_path.sum()),
        }

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits ŷ, from users (B,) and items (B,)."""
        products = self.user_features[users] * self.item_features[items]
        return products.view(len(users), -1, self.d).sum(dim=-1) @ self.weights + self.bias

    def user_factors(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, Q · d + 1) θ_q w_u of every path, and c, from users (B,)."""
        vectors = self.user_features[users] * self.weights.repeat_interleave(self.d)
        return torch.cat([vectors, self.bias.expand(len(users), 1)], dim=1)

    def item_factors(self, encoded: Any = None) -> Tensor:
        """(I, Q · d + 1) h_v of every path, and 1, of every item."""
        features = self.item_features
        return torch.cat([features, features.new_ones(len(features), 1)], dim=1)

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) logits, from users (B,)."""
        weights = self.weights.repeat_interleave(self.d)
        return (self.user_features[users] * weights) @ self.item_features.T + self.bias

    def item_vectors(self) -> Tensor:
        """(I, Q · d) h of every path, times |θ| of the path."""
        return self.item_features * self.weights.detach().abs().repeat_interleave(self.d)

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """The terms θ_q w_u · h_v of the meta-paths, which add up to the score without c."""
        products = (self.user_features[user] * self.item_features[item]).view(-1, self.d)
        shares = products.sum(dim=1) * self.weights
        numbers = zip(self.weights.tolist(), shares.tolist(), self.paths, strict=True)
        terms = [Term(theta, share, relations=tuple(path)) for theta, share, path in numbers]
        kept, left_out = ordered(terms, top)
        bias, together = float(self.bias), float(shares.sum())
        return Reasons(together + bias, EXACT, kept, left_out, together, {"bias": bias})

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives."""
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak: features of user and item, and their products."""
        return torch.full((len(items),), 100.0 + 12 * self.user_features.shape[1])


def path_similarity(links: sp.csr_array) -> sp.csr_array:
    """PathSim of all items, (I, I), from their links (I, attributes)."""
    M = sp.coo_array(links @ links.T)
    own = links.multiply(links).sum(axis=1)
    return sp.csr_array((2 * M.data / (own[M.row] + own[M.col]), (M.row, M.col)), shape=M.shape)


def factorise(
    R: sp.csr_array, S: sp.csr_array, d: int, iterations: int, draw: torch.Generator
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Non-negative W (U, d) and H (I, d) whose product is close to R S in least squares.

    Args:
        R: (U, I) training positives.
        S: (I, I) similarities, symmetric.
        d: number of latent features.
        iterations: multiplicative updates of both factors.
        draw: CPU generator of the initial factors.
    """
    num_users, num_items = R.shape
    # Random factors whose products have the mean of R S.
    mean = float(R.sum(axis=0) @ S.sum(axis=1)) / max(num_users * num_items, 1)
    drawn = torch.rand(num_users + num_items, d, generator=draw, dtype=torch.float64).numpy()
    W, H = np.split(2 * np.sqrt(mean / d) * drawn, [num_users])
    tiny = np.finfo(np.float64).tiny
    for _ in range(iterations):
        W *= (R @ (S @ H)) / np.maximum(W @ (H.T @ H), tiny)
        H *= (S @ (R.T @ W)) / np.maximum(H @ (W.T @ W), tiny)
    return W, H


def _links(dataset: RecDataset, relations: Sequence[int]) -> sp.csr_array:
    """(I, E) 1 where an item has a neighbour by at least one of the relations."""
    graph = dataset.graph.neighborhood()
    stop = int(graph.indptr[dataset.num_items])
    owners = torch.repeat_interleave(graph.degrees[: dataset.num_items])
    chosen = torch.isin(graph.relations[:stop], torch.tensor(relations))
    pairs = owners[chosen].numpy(), graph.neighbors[:stop][chosen].numpy()
    links = sp.csr_array(
        (np.ones(len(pairs[0])), pairs), shape=(dataset.num_items, dataset.num_entities)
    )
    links.data[:] = 1  # a neighbour by two relations counts once
    return links


def _shared(dataset: RecDataset, relations: Sequence[int]) -> bool:
    """Whether two items share a neighbour by these relations."""
    return bool((_links(dataset, relations).sum(axis=0) > 1).any())


def _numbers(path: Path, names: list[str]) -> list[int]:
    """The numbers of a path's relations.

    Raises:
        SettingError: the graph has no such relation, or the path has none.
    """
    several = isinstance(path, Sequence) and not isinstance(path, str)
    relations = [str(name) for name in (path if several else [path])]
    if not relations:
        raise SettingError("paths: found a path of no relation, expected at least one relation")
    for name in relations:
        if name not in names:
            examples = ", ".join(names[:5])
            raise SettingError(
                f"paths: found {name!r}, expected relations of the graph, such as {examples}"
            )
    return [names.index(name) for name in relations]
