"""Synthetic data with planted truth: a KGCN teacher draws the interactions.

The teacher is a KGCN-sum with one hop and W = I. User u's vector is [a_u ‖ t_u]: a_u holds one
preference per relation (the relation vectors are unit vectors, so π(u, r) = a_u[r]), t_u the
taste in attributes. An attribute entity's vector is [0 ‖ z]. So

    score(u, v) = t_u · tanh(Σ_e softmax_e(a_u[r(v, e)]) · z_e) + popularity · appeal(v) + noise

and the positives of a user are the items with the highest scores. A model that learns which
relations matter to a user is better than one that averages neighbours, and than popularity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.dataset import IdMaps, PreparedData
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.errors import ConfigError


@dataclass(frozen=True)
class PlantedData(PreparedData):
    """Synthetic data and the truth behind them.

    Attributes:
        user_relation: (num_users, num_relations) the planted π(u, r).
    """

    user_relation: Tensor = field(default_factory=lambda: torch.empty(0))


def generate(
    name: str = "synthetic",
    seed: int = 0,
    num_users: int = 300,
    num_items: int = 400,
    num_relations: int = 4,
    attributes_per_relation: int = 15,
    edges_per_relation: int = 2,
    positives_per_user: int = 60,
    taste: float = 1.5,
    popularity: float = 0.2,
    noise: float = 0.1,
    dimension: int = 4,
) -> PlantedData:
    """Draws a graph, users and their positives.

    Args:
        name: name of the data set.
        seed: seed of every draw.
        num_users: number of users.
        num_items: number of items.
        num_relations: number of relations; each leads from items to its own attributes.
        attributes_per_relation: attribute entities per relation.
        edges_per_relation: attributes per item and relation.
        positives_per_user: mean number of positives per user; every user has at least two.
        taste: standard deviation of π(u, r) over relations.
        popularity: weight of an item's appeal, which is the same for all users.
        noise: standard deviation of the noise, which no model can predict.
        dimension: size of the taste vectors t_u.

    Raises:
        ConfigError: a size is not valid.
    """
    for key, value, least in (
        ("num_users", num_users, 1),
        ("num_items", num_items, 4),
        ("num_relations", num_relations, 1),
        ("attributes_per_relation", attributes_per_relation, edges_per_relation),
        ("edges_per_relation", edges_per_relation, 1),
        ("positives_per_user", positives_per_user, 2),
    ):
        if value < least:
            raise ConfigError(f"dataset.{key}: found {value}, expected at least {least}")
    for key, number, low in (
        ("taste", taste, -math.inf), ("popularity", popularity, -math.inf), ("noise", noise, 0.0),
    ):  # fmt: skip
        if type(number) not in (int, float) or not math.isfinite(number) or number < low:
            bound = " of at least 0" if low == 0 else ""
            raise ConfigError(f"dataset.{key}: found {number!r}, expected a finite number{bound}")
    if positives_per_user * 2 > num_items:
        raise ConfigError(
            f"dataset.positives_per_user: found {positives_per_user}, expected at most half of "
            f"dataset.num_items ({num_items})"
        )

    def normal(purpose: str, *size: int) -> Tensor:
        return torch.randn(*size, generator=generator(seed, f"synthetic {purpose}"))

    R, A, E = num_relations, attributes_per_relation, edges_per_relation
    # The attributes of each item by relation r: E distinct attributes of the A attributes of r.
    order = torch.rand(num_items, R, A, generator=generator(seed, "synthetic graph")).argsort(
        dim=-1
    )[..., :E]  # (num_items, R, E)
    attribute = order + torch.arange(R)[None, :, None] * A
    heads = torch.arange(num_items).repeat_interleave(R * E)
    relations = torch.arange(R).repeat_interleave(E).repeat(num_items)
    graph = KnowledgeGraph(heads, relations, num_items + attribute.flatten(), num_items + R * A, R)
    preference = normal("preferences", num_users, R) * taste  # a_u
    weights = preference.softmax(dim=-1)[..., None].expand(-1, -1, E).flatten(1) / E  # (U, R * E)
    z = normal("attributes", R * A, dimension)
    t = normal("tastes", num_users, dimension)
    # Divided by the norm of the weights, the representations have unit variance for all users.
    weights = weights / weights.norm(dim=-1, keepdim=True)
    pooled = torch.einsum("un,ind->uid", weights, z[attribute.flatten(1)])  # (U, num_items, dim)
    scores = torch.einsum("ud,uid->ui", t, pooled.tanh()) / math.sqrt(dimension)
    scores += popularity * normal("appeal", num_items)
    scores += noise * normal("noise", num_users, num_items)
    spread = torch.rand(num_users, generator=generator(seed, "synthetic activity"))
    counts = (positives_per_user * (0.5 + spread)).long().clamp(2, num_items // 2)
    rank = scores.argsort(dim=-1, descending=True).argsort(dim=-1)
    users, items = torch.nonzero(rank < counts[:, None], as_tuple=True)
    positives = Interactions.from_pairs(users, items, num_users, num_items)
    account = Account()
    account.add("interactions", "positives generated", len(positives))
    account.add("graph", "triples generated", len(graph))
    entities = [f"item{i}" for i in range(num_items)]
    entities += [f"attribute{a % A}_of_relation{a // A}" for a in range(R * A)]
    no_name = pl.lit(None, dtype=pl.String).alias("name")
    return PlantedData(
        name=name,
        positives=positives,
        rated=positives,
        given_negatives=None,
        graph=graph,
        ids=IdMaps(
            users=pl.DataFrame({"user": [f"user{u}" for u in range(num_users)]}),
            items=pl.DataFrame(
                {
                    "item": entities[:num_items],
                    "entity": entities[:num_items],
                    "name": pl.Series([None] * num_items, dtype=pl.String),
                }
            ),
            entities=pl.DataFrame({"entity": entities}).with_columns(no_name),
            relations=pl.DataFrame({"relation": [f"relation{r}" for r in range(R)]}).with_columns(
                no_name
            ),
        ),
        account=account,
        seed=seed,
        user_relation=preference,
    )
