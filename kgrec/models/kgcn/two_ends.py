"""KGCN with two ends: the second and third open question of the KGCN paper.

Wang et al., "Knowledge Graph Convolutional Networks for Recommender Systems", WWW 2019, section 5:
neighbourhoods of users, and both ends in one model. The user graph has the users, their attributes
and the links between them. With S(v) from the knowledge graph and S(u) from the user graph,

    π(u, r)  = u · r,   S_u(v) = Σ_{e in S(v)} softmax(π(u, r(v, e))) · e,   v^u = agg(v, S_u(v))
    π'(v, r) = v · r,   S_v(u) = Σ_{e in S(u)} softmax(π'(v, r(u, e))) · e,  u^v = agg'(u, S_v(u))

    ends=item: ŷ = u · v^u, KGCN itself       ends=user: ŷ = u^v · v       ends=both: ŷ = u^v · v^u

Each end is a KGCN with layers, relations and a graph of its own. The attention of an end uses the
order-0 vector of the other side, so neither end waits for the other. A user without neighbours has
S_v(u) = 0. The two ends share the vectors of users and items.

Shapes: B rows, d embedding size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.errors import SettingError
from kgrec.models.folding import frozen
from kgrec.models.kgcn.model import KGCN
from kgrec.models.kgcn.paths import path_reasons, without_neighbors
from kgrec.models.kgcn.ranking import Encoded
from kgrec.models.kgcn.samplers.base import Uniform
from kgrec.models.kgcn.shards import shared
from kgrec.models.kgcn.two_end_ranking import EncodedEnds, EncodedItems, score_all
from kgrec.models.reasons import NONE, Reasons
from kgrec.models.recommender import LARGEST_SIZE, MOST_LAYERS, Recommender, check_at_least

log = logging.getLogger(__name__)

ENDS = ("item", "user", "both")
USER_PART = "attributes and links of the user"  # of a score, in its explanation
HINT = "dataset.user_graph=use with attributes of users or links between them (docs/data.md)"


class KGCNTwoEnds(KGCN):
    """KGCN on the items' graph, on the users' graph, or on both.

    Args:
        num_users: number of users.
        num_items: number of items, which are the first entities.
        num_relations: number of relations R.
        indptr: (num_entities + 1,) S(v) as CSR, see :class:`Neighborhood`.
        neighbors: (N,) neighbouring entities.
        relations: (N,) their relations.
        num_user_relations: number of relations of the user graph.
        user_indptr: S(u) of the users, which come first, and of the other entities of the user
            graph, as CSR; None: no user graph.
        user_neighbors: neighbouring entities in the user graph.
        user_relations: their relations.
        ends: "item" (:class:`KGCN`, which reads no user graph), "user" or "both".
        d: embedding size.
        H: number of hops in the knowledge graph.
        aggregator: see :class:`KGCN`; each end has aggregators of its own.
        scaling: see :class:`KGCN`.
        K: number of sampled neighbours in S(v), or "all".
        sampling: see :class:`KGCN`; both ends.
        user_H: number of hops in the user graph.
        user_K: number of sampled neighbours in S(u), or "all".
        text: see :class:`KGCN`.
        text_entities: see :class:`KGCN`.
        item_bias: see :class:`KGCN`.
        history: see :class:`KGCN`; only with ends="item".
        history_users: see :class:`KGCN`.
        history_items: see :class:`KGCN`.

    Raises:
        SettingError: a setting that cannot work.
    """

    exportable: ClassVar[bool] = False

    def __init__(
        self,
        num_users: int,
        num_items: int,
        num_relations: int,
        indptr: Tensor,
        neighbors: Tensor,
        relations: Tensor,
        num_user_relations: int = 0,
        user_indptr: Tensor | None = None,
        user_neighbors: Tensor | None = None,
        user_relations: Tensor | None = None,
        ends: str = "both",
        d: int = 32,
        H: int = 1,
        aggregator: str | Mapping[str, Any] = "sum",
        scaling: str = "paper",
        K: int | str = "all",
        sampling: str = "static",
        user_H: int = 1,
        user_K: int | str = "all",
        text: str | None = None,
        text_entities: Tensor | None = None,
        *,
        item_bias: bool = False,
        history: str | None = None,
        history_users: Tensor | None = None,
        history_items: Tensor | None = None,
    ) -> None:
        if not isinstance(ends, str) or ends not in ENDS:
            raise SettingError(f"ends: found {ends!r}, expected {', '.join(ENDS)}")
        check_at_least("user_H", user_H, 1, MOST_LAYERS)
        if user_K != "all" and (type(user_K) is not int or user_K < 1):
            raise SettingError(f"user_K: found {user_K!r}, expected an integer >= 1, or all")
        if isinstance(user_K, int):
            check_at_least("user_K", user_K, 1)
        of_users: Neighborhood | None = None
        if ends != "item":
            if user_indptr is None or user_neighbors is None or user_relations is None:
                raise SettingError(f"ends: found {ends!r} without a user graph, expected {HINT}")
            if history is not None:
                raise SettingError(f"history: found {history!r} with ends={ends}, expected null")
            of_users = Neighborhood(user_indptr, user_neighbors, user_relations)
        # The table of users has all entities of the user graph, of which users are the first.
        rows = num_users if of_users is None else len(of_users.indptr) - 1
        super().__init__(
            rows, num_items, num_relations, indptr, neighbors, relations, d=d, H=H,
            aggregator=aggregator, scaling=scaling, K=K, sampling=sampling, text=text,
            text_entities=text_entities, item_bias=item_bias, history=history,
            history_users=history_users, history_items=history_items,
        )  # fmt: skip
        self.ends = ends
        self.weighs_relations = self.attention and ends != "user"
        self.of_users: KGCN | None = None
        if of_users is None:
            return
        self.of_users = KGCN(
            1, num_users, num_user_relations, of_users.indptr, of_users.neighbors,
            of_users.relations, d=d, H=user_H, aggregator=aggregator, scaling=scaling, K=user_K,
            sampling=sampling,
        )  # fmt: skip
        del self.of_users.user_embedding, self.of_users.entity_embedding  # see user_end
        if ends == "user":
            for parameter in (self.relation_embedding, *self.aggregators.parameters()):
                parameter.requires_grad_(False)  # not used

    @classmethod
    def from_dataset(  # type: ignore[override]
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
        ends: str = "both",
        user_K: int | str = "all",
        user_H: int = 1,
        *,
        item_bias: bool = False,
        history: str | None = None,
    ) -> Self:
        """Binds settings to a data set; neighbourhoods are drawn from torch's initial seed.

        Without a user graph "both" becomes "item", which is logged.

        Args:
            dataset: source of sizes and graphs.
            K: number of neighbours sampled for every entity of the knowledge graph, or "all".
            H: number of hops in the knowledge graph.
            d: embedding size.
            aggregator: see the class.
            scaling: see the class.
            neighbors: see :meth:`KGCN.from_dataset`.
            text: see :meth:`KGCN.from_dataset`.
            cache: see :meth:`KGCN.from_dataset`.
            ends: see the class.
            user_K: number of neighbours sampled for every entity of the user graph, or "all".
            user_H: number of hops in the user graph.
            item_bias: see the class.
            history: see the class.

        Raises:
            SettingError: a setting that cannot work, or no user graph for "user".
        """
        graph, whole, shards = dataset.user_graph, None, None
        settings: dict[str, Any] = {
            "H": H, "d": d, "aggregator": aggregator, "scaling": scaling, "ends": ends,
            "user_H": user_H, "user_K": user_K, "item_bias": item_bias, "history": history,
        }  # fmt: skip
        if ends == "both" and graph is None:
            log.warning(
                "ends=both: found no user graph, so the model is ends=item; expected %s", HINT
            )
            settings["ends"] = "item"
        elif ends in ("user", "both") and graph is not None:
            whole = graph.neighborhood()
            draw = generator(torch.initial_seed(), "neighbors of users")
            if (shards := shared(whole, user_K, draw, dataset.num_users, Uniform())) is not None:
                drawn = shards.whole
            elif isinstance(user_K, int) and 1 <= user_K <= LARGEST_SIZE:
                drawn = whole.sample(user_K, draw)
            else:
                drawn = whole.copied()
            settings |= {f"user_{name}": part for name, part in drawn._asdict().items()}
            settings["num_user_relations"] = graph.num_relations
        if ends == "user":
            dataset = replace(dataset, graph=_without_triples(dataset.graph))
        model = cls._of_dataset(dataset, K, neighbors, text, cache, **settings)
        if model.of_users is not None:
            model.of_users.share(shards)
        if model.of_users is not None and whole is not None and neighbors == "resampled":
            model.of_users._resampled_from = whole if isinstance(user_K, int) else None
        return model

    @property
    def user_end(self) -> KGCN | None:
        """KGCN in which users are the items and items are the users; None for "item".

        It reads the tables of this model. They are plain attributes of it, so that parameters and
        the state dict have each table once.
        """
        if (end := self.of_users) is not None:
            object.__setattr__(end, "entity_embedding", self.user_embedding)
            object.__setattr__(end, "user_embedding", self.entity_embedding)
        return end

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits ŷ(u, v), from users (B,) and items (B,)."""
        if self.user_end is None:
            return super().score(users, items, encoded)
        u: Tensor = self.user_embedding(users)  # (B, d)
        if self.text_features is None:
            v: Tensor = self.entity_embedding(items)
        else:
            v = self.entity_vectors()[items]
        representation = v if self.ends == "user" else self.represent(u, items)
        scores = (self.user_end.represent(v, users) * representation).sum(dim=-1)
        return scores if self.item_bias is None else scores + self.item_bias(items).squeeze(-1)

    def training_score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) logits as :meth:`score`; with ends="item" as in :class:`KGCN`."""
        if self.user_end is None:
            return super().training_score(users, items, encoded)
        return self.score(users, items)

    def encode(self) -> Any:
        """Values that ranking computes once, when they are first needed."""
        return super().encode() if self.user_end is None else EncodedEnds(self)

    def score_all(self, users: Tensor, encoded: Encoded | EncodedEnds | None = None) -> Tensor:
        """(B, num_items) logits of every item, from users (B,); no gradients.

        See :mod:`kgrec.models.kgcn.two_end_ranking`; equal to :meth:`score` up to rounding.
        """
        if (user_end := self.user_end) is None:
            return super().score_all(users, cast(Encoded | None, encoded))
        ends = cast(EncodedEnds | None, encoded)
        return score_all(self, user_end, self.ends == "both", users, ends)

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) logits of items (n,); see :meth:`score_all`."""
        if (user_end := self.user_end) is None:
            return super().scorer(items)
        both = self.ends == "both"
        encoded = EncodedItems(self, items, both)
        return lambda users: score_all(self, user_end, both, users, encoded)

    @torch.no_grad()
    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Paths from the item, and the part that the user's own neighbourhood has.

        The paths are those of the item end, with shares in u^v · v^u. What the user end adds is one
        part of the score: the score minus the score without the user's neighbours.
        """
        if self.user_end is None:
            return super().explain(user, item, history, top)
        pair = torch.tensor([[user], [item]], device=self.indptr.device)
        u: Tensor = self.user_embedding(pair[0])  # (1, d)
        v = self.entity_vectors()[pair[1]]
        representation = v if self.ends == "user" else self.represent(u, pair[1])
        u_v = self.user_end.represent(v, pair[0])[0]
        alone = without_neighbors(u[0], self.user_end.layers)
        parts = {USER_PART: float((u_v - alone) @ representation[0])}
        if self.ends == "both":
            reasons = path_reasons(self, user, item, top, u_v)
            return replace(reasons, parts={**reasons.parts, **parts})
        if self.item_bias is not None:
            parts["item"] = float(self.item_bias.weight[item])
        return Reasons(self.score_of(user, item), NONE, parts=parts)

    def resample(self, generator: torch.Generator) -> None:
        """Draws S(v) and S(u) again, where ``neighbors="resampled"``."""
        super().resample(generator)
        if self.user_end is not None:
            self.user_end.resample(generator)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes at the peak of a training step, for the largest neighbourhood of a user."""
        estimate = super().bytes_per_row(items)
        if self.user_end is None:
            return estimate
        users = torch.arange(self.user_end.num_items)
        return estimate + self.user_end.bytes_per_row(users).max()

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """New users, who have no neighbours in the user graph."""
        alone = frozen(self)
        if (end := alone.of_users) is not None:
            empty = Neighborhood(
                end.indptr.new_zeros(history.num_users + 1), end.neighbors[:0], end.relations[:0]
            )
            end.num_items, (end.indptr, end.neighbors, end.relations) = history.num_users, empty
            graph = {f"user_{name}": part for name, part in empty._asdict().items()}
            alone.arguments = self.arguments | graph
        return super(KGCNTwoEnds, alone).fold_in(history, seed)

    def add_items(self, edges: Neighborhood, known: Tensor, seed: int = 0) -> Self:
        """A model with further items; see :mod:`kgrec.models.kgcn.new_items`.

        The order-0 vector of a new item is 0, so all neighbours of a user weigh the same for it.

        Raises:
            SettingError: ends=user, where only the order-0 vector says what an item is.
        """
        if self.ends == "user":
            raise SettingError("ends: found 'user', expected item or both, where the neighbours of "
                               "new items say what they are")  # fmt: skip
        return super().add_items(edges, known, seed)

    def reweighed(self, weights: Tensor) -> Self:
        """A model with other weights of the relations of the knowledge graph.

        Raises:
            SettingError: see :meth:`KGCN.reweighed`; or ends=user.
        """
        if self.ends == "user":
            raise SettingError("ends: found 'user', expected item or both, which read relations "
                               "of the knowledge graph")  # fmt: skip
        return super().reweighed(weights)


def _without_triples(graph: KnowledgeGraph) -> KnowledgeGraph:
    """A graph of the same entities without triples."""
    return replace(graph, heads=graph.heads[:0], relations=graph.relations[:0],
                   tails=graph.tails[:0])  # fmt: skip
