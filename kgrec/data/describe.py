"""What is in a data set: sizes, distributions, relations, gaps. Pure functions of frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

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
        .select("triples", "heads", "tails", "items", "coverage", relation="name")
    )


@dataclass(frozen=True)
class Description:
    """What :func:`describe` found; plain but for the relation table and the raw counts.

    Attributes:
        name: of the data set.
        counts: its sizes.
        published: those of the KGCN paper's Table 1, or empty.
        facts: further single figures, by what they are.
        distributions: by what is counted.
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


def describe(data: PreparedData, dataset: RecDataset | None = None) -> Description:
    """Looks at prepared data and, for what depends on it, their split.

    Args:
        data: prepared data.
        dataset: the same, split; None where they cannot be.
    """
    positives, graph = data.positives, data.graph
    num_items = positives.num_items
    around = graph.neighborhood().degrees
    names = components(graph)
    sizes = torch.bincount(names, minlength=graph.num_entities)
    largest = int(sizes.argmax())
    samples = {
        "positives of a user": positives.user_degrees(),
        "positives of an item": positives.item_degrees(),
        "neighbours of an item": around[:num_items],
        "neighbours of an entity": around,
    }
    possible = positives.num_users * num_items
    facts: dict[str, float] = {
        "share of user-item pairs that are positive": len(positives) / possible,
        "rated pairs": len(data.rated),
        "items without a positive": int((positives.item_degrees() == 0).sum()),
        "items without a neighbour": int((around[:num_items] == 0).sum()),
        "entities in no triple (orphans)": int((around == 0).sum()),
        "connected components with more than one entity": int((sizes > 1).sum()),
        "share of the entities in the largest component": float(sizes[largest]) / len(names),
        "share of the items in the largest component": float(
            (names[:num_items] == largest).double().mean()
        ),
        "share of the triples between two items": float(
            ((graph.heads < num_items) & (graph.tails < num_items)).double().mean()
        ),
    }
    if data.given_negatives is not None:
        facts["negatives given in the files"] = len(data.given_negatives[0])
    if data.given_parts is not None:
        for part, name in enumerate(PARTS):
            facts[f"positives given for {name}"] = int((data.given_parts == part).sum())
    if data.times is not None:
        samples["times"] = data.times
        facts["first positive (seconds since 1970)"] = float(data.times.min())
        facts["last positive (seconds since 1970)"] = float(data.times.max())
    if dataset is not None:
        testers = torch.unique(dataset.test.users[dataset.test.labels > 0])
        without = (dataset.train.user_degrees()[testers] == 0).double().mean()
        tested = torch.unique(dataset.test.items[dataset.test.labels > 0])
        unseen = (dataset.train.item_degrees()[tested] == 0).double().mean()
        facts["users with a test positive"] = len(testers)
        facts["share of them without a training positive"] = float(without)
        facts["share of the test positives' items without a training positive"] = float(unseen)
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
