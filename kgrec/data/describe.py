"""What is in a data set: sizes, distributions, relations, gaps. Pure functions of frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.raw_tables import PARTS


@dataclass(frozen=True)
class Distribution:
    """Of some counts over their owners.

    Attributes:
        min: the least.
        p25: first quartile.
        median: half of the owners have at most so many.
        p75: third quartile.
        p99: 99 % of the owners have at most so many.
        max: the most.
        mean: sum over owners.
        gini: 0 where all have the same, near 1 where one has all.
        top1: share of the sum that the top 1 % of the owners (one at least) have.
        top10: likewise the top 10 %.
    """

    min: float
    p25: float
    median: float
    p75: float
    p99: float
    max: float
    mean: float
    gini: float
    top1: float
    top10: float


def distribution(counts: Tensor) -> Distribution:
    """Summarises (n,) counts, n >= 1; quantiles are of the lower kind, values that occur."""
    ordered = counts.double().sort().values
    n, total = len(ordered), float(ordered.sum())
    quantiles = torch.quantile(
        ordered, torch.tensor([0, 0.25, 0.5, 0.75, 0.99, 1]).double(), interpolation="lower"
    ).tolist()

    def top(share: float) -> float:
        return float(ordered[-max(1, int(n * share)) :].sum()) / total if total else 0.0

    rank = 2 * torch.arange(1, n + 1, dtype=torch.float64) - n - 1
    gini = float(rank @ ordered) / (n * total) if total else 0.0
    least, p25, median, p75, p99, most = quantiles
    return Distribution(least, p25, median, p75, p99, most, total / n, gini, top(0.01), top(0.1))


def components(graph: KnowledgeGraph) -> Tensor:
    """(num_entities,) the smallest entity that each is connected to: its component's name.

    Every entity takes over the smallest name among its neighbours, and names follow their own
    names (pointer jumping), until nothing changes.
    """
    name = torch.arange(graph.num_entities)
    while True:
        least = torch.minimum(name[graph.heads], name[graph.tails])
        found = name.clone()
        # Names of both ends, and the roots that these names point at, come down to the least.
        for ends in (graph.heads, graph.tails, name[graph.heads], name[graph.tails]):
            found.scatter_reduce_(0, ends, least, "amin")
        while not torch.equal(found, found[found]):
            found = found[found]
        if torch.equal(found, name):
            return name
        name = found


def relations(graph: KnowledgeGraph, names: pl.Series, num_items: int) -> pl.DataFrame:
    """One row a relation, the commonest first.

    Columns ``relation, triples, heads, tails`` (distinct ones) ``items`` and ``coverage``: the
    number and the share of the items that have it, from either end.
    """
    triples = pl.DataFrame({
        "relation": graph.relations.numpy(), "head": graph.heads.numpy(),
        "tail": graph.tails.numpy(),
    })  # fmt: skip
    ends = pl.concat([
        triples.select("relation", entity="head"), triples.select("relation", entity="tail")
    ])  # fmt: skip
    items = ends.filter(pl.col("entity") < num_items).group_by("relation").agg(
        items=pl.col("entity").n_unique()
    )  # fmt: skip
    table = triples.group_by("relation").agg(
        triples=pl.len(), heads=pl.col("head").n_unique(), tails=pl.col("tail").n_unique()
    )
    named = pl.DataFrame({"name": names}).with_row_index("relation").cast({"relation": pl.Int64})
    return (
        named.join(table, on="relation", how="left")
        .join(items, on="relation", how="left")
        .with_columns(pl.col("triples", "heads", "tails", "items").fill_null(0))
        .with_columns(coverage=pl.col("items") / num_items)
        .sort(["triples", "relation"], descending=[True, False])
        .select(pl.col("name").alias("relation"), "triples", "heads", "tails", "items", "coverage")
    )


@dataclass(frozen=True)
class Description:
    """What :func:`describe` found; plain but for the relation table and the raw counts.

    Attributes:
        name: of the data set.
        counts: its sizes.
        published: those of the KGCN paper's Table 1, or empty.
        facts: further single figures; those that do not apply are not there. Names that end in
            ``_share`` and ``density`` are from 0 to 1, times are seconds since 1970, all others
            count.
        distributions: by what is counted: ``positives_per_user``, ``positives_per_item``,
            ``neighbors_per_item`` and ``neighbors_per_entity`` (entries of S(v)).
        relations: see :func:`relations`.
        account: what became of every row.
        samples: the counts behind the distributions, and ``times``; for plots.
    """

    name: str
    counts: dict[str, int]
    published: dict[str, int]
    facts: dict[str, float]
    distributions: dict[str, Distribution]
    relations: pl.DataFrame
    account: list[dict[str, Any]]
    samples: dict[str, Tensor]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, samples left out."""
        return {
            "name": self.name,
            "counts": self.counts,
            "published_counts": self.published,
            "facts": self.facts,
            "distributions": {name: asdict(d) for name, d in self.distributions.items()},
            "relations": self.relations.to_dicts(),
            "account": self.account,
        }


# Facts that only the account knows: what its lines begin with.
_COUNTED = {
    "items_without_entity": ("items", "items without an entity"),
    "duplicate_links": ("items", "links that stand twice"),
    "duplicate_positives": ("interactions", "positives of a pair that stands more than once"),
    "duplicate_triples": ("graph", "triples that stand twice"),
}


def describe(data: PreparedData, dataset: RecDataset | None = None) -> Description:
    """Looks at prepared data and, for what depends on it, their split.

    Args:
        data: prepared data.
        dataset: the same, split; None where they cannot be.
    """
    positives, graph = data.positives, data.graph
    num_items = positives.num_items
    around = graph.neighborhood().degrees
    samples = {
        "positives_per_user": positives.user_degrees(),
        "positives_per_item": positives.item_degrees(),
        "neighbors_per_item": around[:num_items],
        "neighbors_per_entity": around,
    }
    facts: dict[str, float] = {
        "density": len(positives) / (positives.num_users * num_items),
        "rated_pairs": len(data.rated),
        "items_without_positive": _zeros(samples["positives_per_item"]),
        **_counted(data.account),
        **_graph_facts(graph, around, num_items),
    }
    if data.given_negatives is not None:
        facts["given_negatives"] = len(data.given_negatives[0])
    if data.given_parts is not None:
        for part, name in enumerate(PARTS):
            facts[f"given_{name}_positives"] = int((data.given_parts == part).sum())
    if data.times is not None:
        samples["times"] = data.times
        facts["first_positive_at"] = float(data.times.min())
        facts["last_positive_at"] = float(data.times.max())
    if dataset is not None:
        facts |= _split_facts(dataset)
    account = dataset.account if dataset is not None else data.account
    return Description(
        name=data.name,
        counts=data.counts(),
        published=data.published_counts,
        facts=facts,
        distributions={n: distribution(c) for n, c in samples.items() if n != "times"},
        relations=relations(graph, data.ids.relations["relation"], num_items),
        account=account.as_list(),
        samples=samples,
    )


def _zeros(counts: Tensor) -> int:
    return int((counts == 0).sum())


def _counted(account: Account) -> dict[str, int]:
    found = {}
    for name, (step, begins) in _COUNTED.items():
        lines = [e for e in account.entries if e.step == step and e.what.startswith(begins)]
        if lines:
            found[name] = sum(line.count for line in lines)
    return found


def _graph_facts(graph: KnowledgeGraph, around: Tensor, num_items: int) -> dict[str, float]:
    names = components(graph)
    sizes = torch.bincount(names, minlength=graph.num_entities)
    largest = int(sizes.argmax())
    between = (graph.heads < num_items) & (graph.tails < num_items)
    return {
        "items_without_neighbor": _zeros(around[:num_items]),
        "orphan_entities": _zeros(around),
        "components": int((sizes > 0).sum()),
        "components_of_several": int((sizes > 1).sum()),
        "largest_component_entities": int(sizes[largest]),
        "largest_component_entity_share": int(sizes[largest]) / graph.num_entities,
        "largest_component_item_share": float((names[:num_items] == largest).double().mean()),
        "item_to_item_triple_share": int(between.sum()) / max(len(graph), 1),
    }


def _split_facts(dataset: RecDataset) -> dict[str, float]:
    liked = dataset.test.labels > 0
    testers, tested = (
        torch.unique(dataset.test.users[liked]),
        torch.unique(dataset.test.items[liked]),
    )
    strangers = _zeros(dataset.train.user_degrees()[testers])
    unseen = _zeros(dataset.train.item_degrees()[tested])
    return {
        "test_users": len(testers),
        "test_users_without_training": strangers,
        "test_users_without_training_share": strangers / len(testers),
        "test_items": len(tested),
        "test_items_without_training_share": unseen / len(tested),
    }
