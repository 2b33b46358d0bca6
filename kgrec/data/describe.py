"""Description of a data set: sizes, distributions, relations and gaps, as pure functions."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.inverses import inverse_pairs
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.raw_tables import PARTS


@dataclass(frozen=True)
class Distribution:
    """Summary of counts, each of which belongs to an owner (a user, an item or an entity).

    Attributes:
        min: smallest count.
        p25: first quartile.
        median: median.
        p75: third quartile.
        p99: 99th percentile.
        max: largest count.
        mean: mean over the owners.
        gini: Gini coefficient, 0 where all counts are equal and near 1 where one owner has all.
        top1: share of the sum that the top 1 % of the owners (at least one) have.
        top10: share of the sum that the top 10 % of the owners (at least one) have.
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
    """Summarises (n,) counts, n >= 1; each quantile is a count that occurs (the lower of two)."""
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
    """(num_entities,) the component of each entity, named by its smallest entity.

    Every entity takes the smallest name among its neighbours, and names follow their own names
    (pointer jumping), until nothing changes.
    """
    name = torch.arange(graph.num_entities)
    while True:
        least = torch.minimum(name[graph.heads], name[graph.tails])
        smaller = name.clone()
        # Names of both ends, and the roots to which the names point, become the least name.
        for ends in (graph.heads, graph.tails, name[graph.heads], name[graph.tails]):
            smaller.scatter_reduce_(0, ends, least, "amin")
        while not torch.equal(smaller, smaller[smaller]):
            smaller = smaller[smaller]
        if torch.equal(smaller, name):
            return name
        name = smaller


def relations(graph: KnowledgeGraph, names: pl.Series, num_items: int) -> pl.DataFrame:
    """Table of the relations, the most frequent first.

    Columns ``relation``, ``triples``, ``heads`` and ``tails`` (numbers of distinct ones),
    ``items`` and ``coverage`` (number and share of the items with the relation, at either end).
    """
    triples = _triples(graph)
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


def inverses(graph: KnowledgeGraph, names: pl.Series) -> pl.DataFrame:
    """Pairs of inverse relations by name, see :func:`kgrec.data.inverses.inverse_pairs`."""
    named = dict(enumerate(names))
    pairs = inverse_pairs(_triples(graph))
    replaced = pl.col("relation", "inverse").replace_strict(named, return_dtype=pl.String)
    return pairs.with_columns(replaced)


def _triples(graph: KnowledgeGraph) -> pl.DataFrame:
    columns = ("heads", "relations", "tails")
    return pl.DataFrame({column[:-1]: getattr(graph, column).numpy() for column in columns})


def lookalikes(ids: pl.Series) -> list[list[str]]:
    """Groups of ids that differ only by blanks, case or Unicode form (NFKC).

    Args:
        ids: distinct strings.
    """
    form = ids.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", "")
    table = pl.DataFrame({"id": ids, "form": form}).filter(pl.col("form").is_duplicated())
    groups = table.group_by("form", maintain_order=True).agg("id")
    return groups["id"].to_list()


@dataclass(frozen=True)
class Description:
    """Description of a data set, made by :func:`describe`.

    Attributes:
        name: name of the data set.
        counts: sizes of the data set.
        published: sizes in Table 1 of the KGCN paper, or empty.
        facts: further single values; facts that do not apply are left out. Names that end in
            ``_share`` and ``density`` are from 0 to 1, names that end in ``_at`` are seconds
            since 1970, and all others are counts.
        distributions: summaries of ``positives_per_user``, ``positives_per_item``,
            ``neighbors_per_item`` and ``neighbors_per_entity`` (entries of S(v)).
        relations: table of the relations, see :func:`relations`.
        inverses: pairs of inverse relations, see :func:`inverses`.
        lookalikes: groups of similar ids, see :func:`lookalikes`, by kind of id; kinds without
            any are left out.
        account: counts of the preparation's steps.
        samples: counts behind the distributions, and ``times``; for plots.
    """

    name: str
    counts: dict[str, int]
    published: dict[str, int]
    facts: dict[str, float]
    distributions: dict[str, Distribution]
    relations: pl.DataFrame
    inverses: pl.DataFrame
    lookalikes: dict[str, list[list[str]]]
    account: list[dict[str, Any]]
    samples: dict[str, Tensor]

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without the samples."""
        return {
            "name": self.name,
            "counts": self.counts,
            "published_counts": self.published,
            "facts": self.facts,
            "distributions": {name: asdict(d) for name, d in self.distributions.items()},
            "relations": self.relations.to_dicts(),
            "inverse_relations": self.inverses.to_dicts(),
            "lookalikes": self.lookalikes,
            "account": self.account,
        }


# Facts that only the account has: the step, and the beginning of the account's lines.
_COUNTED = {
    "items_without_entity": ("items", "items without an entity"),
    "duplicate_links": ("items", "duplicate links"),
    "duplicate_positives": ("interactions", "duplicate positives"),
    "duplicate_triples": ("graph", "duplicate triples"),
}


def describe(data: PreparedData, dataset: RecDataset | None = None) -> Description:
    """Describes prepared data and, where it is given, their split.

    Args:
        data: prepared data.
        dataset: the same data, split; None: without the facts that depend on a split.
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
    kinds = ("users", "items", "entities", "relations")
    similar = {kind: lookalikes(getattr(data.ids, kind).to_series(0)) for kind in kinds}
    account = dataset.account if dataset is not None else data.account
    return Description(
        name=data.name,
        counts=data.counts(),
        published=data.published_counts,
        facts=facts,
        distributions={n: distribution(c) for n, c in samples.items() if n != "times"},
        relations=relations(graph, data.ids.relations["relation"], num_items),
        inverses=inverses(graph, data.ids.relations["relation"]),
        lookalikes={kind: groups for kind, groups in similar.items() if groups},
        account=account.as_list(),
        samples=samples,
    )


def _zeros(counts: Tensor) -> int:
    return int((counts == 0).sum())


def _counted(account: Account) -> dict[str, int]:
    facts = {}
    for name, (step, beginning) in _COUNTED.items():
        lines = [e for e in account.entries if e.step == step and e.what.startswith(beginning)]
        if lines:
            facts[name] = sum(line.count for line in lines)
    return facts


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
    untrained = _zeros(dataset.train.user_degrees()[testers])
    unseen = _zeros(dataset.train.item_degrees()[tested])
    return {
        "test_users": len(testers),
        "test_users_without_training": untrained,
        "test_users_without_training_share": untrained / len(testers),
        "test_items": len(tested),
        "test_items_without_training_share": unseen / len(tested),
    }
