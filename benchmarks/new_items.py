"""New items: ranked when they are added to a trained model, against training with their triples.

``python benchmarks/new_items.py`` splits by items (split=cold_items), for each seed others. The
items of the test have no training positive. Only they are ranked, for the users with a test
positive:

- in the graph: training has the new items and their triples, but none of their positives;
- added: training has neither; the items are added to the trained model by their triples;
- chance: items in random order.

AUC is that of the test rows, whose negatives are new items too. Training negatives are items of
training.
"""

from __future__ import annotations

import argparse
import os
import statistics
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from common import compose, machine, markdown, write
from fold_in import trained
from hydra.utils import instantiate

from kgrec.data.dataset import IdMaps, RecDataset
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.ctr import auc
from kgrec.evaluation.full_ranking import per_user, rank
from kgrec.models.recommender import Recommender

METRICS = ("recall@20", "ndcg@20")
COLUMNS = ("in the graph", "added", "chance")


def reordered(dataset: RecDataset, order: torch.Tensor) -> RecDataset:
    """The data with item ``order[i]`` as item i; the other entities stay."""
    number = torch.empty_like(order)
    number[order] = torch.arange(len(order))
    whole = torch.cat([number, torch.arange(len(order), dataset.num_entities)])

    def rows(part: LabelledRows) -> LabelledRows:
        return replace(part, items=number[part.items])

    train, graph, ids = dataset.train, dataset.graph, dataset.ids
    heads, tails = whole[graph.heads], whole[graph.tails]
    return replace(
        dataset,
        train=Interactions.from_pairs(
            train.users, number[train.items], train.num_users, train.num_items
        ),
        static_negatives=(dataset.static_negatives[0], number[dataset.static_negatives[1]]),
        val=rows(dataset.val), test=rows(dataset.test), matched={},
        graph=replace(graph, heads=heads, tails=tails),
        ids=replace(ids, items=ids.items[order.numpy()]),
    )  # fmt: skip


def without_last(dataset: RecDataset, n: int) -> RecDataset:
    """The data without the last n items, their rows and their triples."""
    kept = dataset.num_items - n

    def number(entities: torch.Tensor) -> torch.Tensor:
        return torch.where(entities >= kept, entities - n, entities)

    train, graph, ids = dataset.train, dataset.graph, dataset.ids
    new = [(end >= kept) & (end < kept + n) for end in (graph.heads, graph.tails)]
    old = ~(new[0] | new[1])
    users, items = dataset.static_negatives
    return replace(
        dataset,
        train=Interactions.from_pairs(train.users, train.items, train.num_users, kept),
        static_negatives=(users[items < kept], items[items < kept]),
        val=dataset.val.take(dataset.val.items < kept),
        test=dataset.test.take(dataset.test.items < kept),
        matched={},
        graph=KnowledgeGraph(
            number(graph.heads[old]), graph.relations[old], number(graph.tails[old]),
            dataset.num_entities - n, dataset.num_relations,
        ),
        ids=IdMaps(ids.users, ids.items[:kept], ids.entities, ids.relations),
    )  # fmt: skip


def edges_of_last(dataset: RecDataset, n: int) -> Neighborhood:
    """Neighbours of the last n items among the other entities, numbered without these items."""
    kept = dataset.num_items - n
    whole = dataset.graph.neighborhood()
    entries = slice(int(whole.indptr[kept]), int(whole.indptr[kept + n]))
    owners = torch.repeat_interleave(whole.degrees[kept : kept + n])
    neighbors, relations = whole.neighbors[entries], whole.relations[entries]
    old = (neighbors < kept) | (neighbors >= kept + n)
    neighbors = torch.where(neighbors >= kept + n, neighbors - n, neighbors)
    return Neighborhood.from_edges(owners[old], neighbors[old], relations[old], n)


class Chance(Recommender):
    """Random scores."""

    def score(self, users: torch.Tensor, items: torch.Tensor, encoded: Any = None) -> torch.Tensor:
        """(B,) uniform numbers."""
        return torch.rand(len(users))

    def score_all(self, users: torch.Tensor, encoded: Any = None) -> torch.Tensor:
        """(B, num_items) uniform numbers."""
        return torch.rand(len(users), int(self.arguments["num_items"]))

    def __init__(self, num_items: int) -> None:
        super().__init__()


@torch.no_grad()
def evaluate(model: Recommender, dataset: RecDataset) -> dict[str, float]:
    """Metrics of a ranking of the new items alone, and the AUC of the test rows."""
    encoded, rows = model.encode(), dataset.test
    candidates = full_candidates(dataset, "test")
    values = per_user(rank(lambda users: model.score_all(users, encoded), candidates, 20), [20])
    result = {name: float(values[name].mean()) for name in METRICS}
    return result | {"auc": auc(model.score(rows.users, rows.items, encoded), rows.labels)}


def measure(overrides: list[str]) -> dict[str, Any]:
    """Metrics of every column."""
    cfg = compose(overrides)
    dataset = instantiate(cfg.protocol)(instantiate(cfg.dataset), instantiate(cfg.split))
    is_new = torch.zeros(dataset.num_items, dtype=torch.bool)
    is_new[dataset.test.items] = True
    order = torch.argsort(is_new.long(), stable=True)
    dataset, n = reordered(dataset, order), int(is_new.sum())
    users = torch.unique(dataset.test.users[dataset.test.labels > 0.5])
    seen = trained(cfg, dataset)
    added = trained(cfg, without_last(dataset, n)).add_items(
        edges_of_last(dataset, n), torch.full((n,), -1), cfg.seed
    )
    models = dict(zip(COLUMNS, (seen, added, Chance(dataset.num_items)), strict=True))
    result: dict[str, Any] = {name: evaluate(m, dataset) for name, m in models.items()}
    return result | {"sizes": {"users": len(users), "new items": n}}


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("aggregators", nargs="*", default=["sum", "neighbor"])
    parser.add_argument("--data", nargs="*", default=["movie-100k", "music"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[2019, 2020, 2021])
    parser.add_argument("--toy", action="store_true", help="small synthetic data, 2 epochs")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    by_row: dict[str, Any] = {}
    rows = []
    names = {"recall@20": "Recall@20", "ndcg@20": "NDCG@20", "auc": "AUC"}
    header = ["", *(f"{c}, {label}" for label in names.values() for c in COLUMNS)]
    for data in ["synthetic"] if args.toy else args.data:
        for aggregator in args.aggregators:
            overrides = [
                f"dataset={data}",
                f"model.aggregator={aggregator}",
                "split=cold_items",
                "protocol=clean",
                "monitor=val/auc",
            ]
            overrides += [f"paths.data={os.environ.get('KGREC_DATA_DIR', Path('data').resolve())}"]
            overrides += ["epochs=2"] if args.toy else []
            results = [measure([*overrides, f"seed={seed}"]) for seed in args.seeds]
            cells = [(column, name) for name in names for column in COLUMNS]
            rows.append([f"{data}, kgcn {aggregator}", *(_cell(results, *pair) for pair in cells)])
            by_row[f"{data}, kgcn {aggregator}"] = results
            print("  ".join(rows[-1]), flush=True)
    table = markdown(header, rows)
    print(f"\n{table}")
    write(
        args.out, "new_items", {"machine": machine(), "seeds": args.seeds, "results": by_row}, table
    )


def _cell(results: list[dict[str, Any]], column: str, name: str) -> str:
    """Mean and standard deviation over seeds."""
    values = [result[column][name] for result in results]
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
