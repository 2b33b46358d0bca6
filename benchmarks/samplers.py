"""Samplers of KGCN's neighbours: quality, variance over draws, and cost, at equal K.

``python benchmarks/samplers.py --dataset movie-100k --K 4`` trains KGCN with every sampler, by runs
as ``kgrec train`` makes them, and prints the means over seeds of

- test AUC and Recall@20;
- seconds of an epoch, and of what is computed before the training;
- errors of S_u(v), Eq. 3, over a draw against that over all neighbours, in parts of the root mean
  square of the latter, for the same parameters: those of a run with the sampler full. For pairs of
  a user and an item with more than K neighbours:
      bias    root mean square of the expectation minus the full sum, estimated from the draws
      spread  root mean square of a draw minus the mean over draws

Every run draws again in every epoch (``neighbors=resampled``), where the sampler can. With
``--set epochs=5`` and ``--seeds 2019`` a run is short.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from common import load_dataset, machine, markdown, write
from torch import Tensor

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.models.kgcn import KGCN
from kgrec.models.kgcn.correction import Correction, relation_counts
from kgrec.models.kgcn.neighborhood import Attention, view
from kgrec.models.kgcn.samplers import SAMPLERS, Current, Draw, make_sampler
from kgrec.models.lookup import weighted_sums
from kgrec.pipeline.in_process import run_in_process
from kgrec.runs.checkpoints import load_recommender

PAIRS = 5000
METRICS = {
    "test/auc": "test AUC",
    "test/recall@20": "Recall@20",
    "train/seconds_per_epoch": "seconds an epoch",
    "precompute/seconds": "seconds before",
}
ERRORS = ("bias", "spread", "spread, at most K neighbours")


def sums(model: KGCN, graph: Neighborhood, draw: Draw, users: Tensor, items: Tensor) -> Tensor:
    """(B, d) S_u(v) over a draw, from the model's parameters and order-0 vectors."""
    correction = None
    if draw.weights is not None:
        correction = Correction(draw.weights, relation_counts(graph))
    scores = model.user_relation_scores(model.user_embedding(users))
    attention = Attention(scores, False, scores.dtype)
    leaves, groups = view(draw.neighborhood, correction).last(attention, None, items)
    pooled = weighted_sums(model.entity_vectors(), leaves)
    return pooled if groups is None else weighted_sums(pooled, groups)


@torch.no_grad()
def errors(
    name: str, model: KGCN, graph: Neighborhood, K: int, draws: int
) -> tuple[float, float, float]:
    """Bias and spread of S_u(v) of items with more than K neighbours; spread of the others."""
    random = generator(0, "pairs")
    users = torch.randint(model.user_embedding.num_embeddings, (PAIRS,), generator=random)
    items = torch.randint(model.num_items, (PAIRS,), generator=random)
    scores = model.user_relation_scores(model.user_embedding.weight)
    chosen = torch.randperm(len(scores), generator=random)[:128]
    current = Current(scores[chosen], model.entity_vectors())
    sampler = make_sampler(name)
    number = 1 if sampler.deterministic else draws
    estimates = torch.stack([
        sums(model, graph, sampler.draw(graph, K, generator(i, "draws"), current), users, items)
        for i in range(number)
    ])  # fmt: skip
    full = sums(model, graph, Draw(graph), users, items)
    mean, many = estimates.mean(dim=0), graph.degrees[items] > K
    scale = full.square().sum(dim=-1)  # (PAIRS,)

    variance = (estimates - mean).square().sum(dim=-1).sum(dim=0) / max(1, number - 1)
    bias = (mean - full).square().sum(dim=-1) - variance / number  # without the noise of the mean

    def relative(squares: Tensor, rows: Tensor) -> float:
        """Root of the mean of squares (PAIRS,), in parts of that of the full sums."""
        return float((squares[rows].mean().clamp(min=0) / scale[rows].mean()).sqrt())

    return relative(bias, many), relative(variance, many), relative(variance, ~many)


def run(overrides: Sequence[str]) -> tuple[dict[str, float], KGCN]:
    """Metrics and the model at its best epoch, of a run as ``kgrec train`` makes it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "run")
        run_in_process([*overrides, "logger=csv", "threads=1"], folder, quiet=True)
        metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
        model = load_recommender(folder / "checkpoints" / "best.ckpt")
    assert isinstance(model, KGCN)
    return metrics, model


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("samplers", nargs="*", default=list(SAMPLERS))
    parser.add_argument("--data", default="movie-100k")
    parser.add_argument("--K", type=int, default=4)
    parser.add_argument("--seeds", nargs="*", type=int, default=[2019, 2020, 2021])
    parser.add_argument(
        "--draws", type=int, default=50, help="draws of which the errors are measured"
    )
    parser.add_argument("--set", nargs="*", default=[], help="further overrides of conf/train.yaml")
    parser.add_argument("--toy", action="store_true", help="small synthetic data, 2 epochs")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = "synthetic" if args.toy else args.data
    overrides = [f"dataset={data}", "model=kgcn", f"model.K={args.K}", "model.neighbors=resampled"]
    overrides += [f"paths.data={os.environ.get('KGREC_DATA_DIR', Path('data').resolve())}"]
    overrides += [*(["epochs=2"] if args.toy else []), *args.set]
    graph = load_dataset(overrides).graph.neighborhood()
    _, reference = run([*overrides, "model.sampler=full", f"seed={args.seeds[0]}"])
    results: dict[str, dict[str, list[float]]] = {}
    for name in args.samplers:
        runs = [run([*overrides, f"model.sampler={name}", f"seed={s}"])[0] for s in args.seeds]
        results[name] = {key: [metrics[key] for metrics in runs] for key in METRICS}
        measured = errors(name, reference, graph, args.K, args.draws)
        results[name] |= {key: [value] for key, value in zip(ERRORS, measured, strict=True)}
        print(name, {key: statistics.mean(v) for key, v in results[name].items()}, flush=True)
    rows = [[name, *(_cell(values) for values in of.values())] for name, of in results.items()]
    table = markdown(["sampler", *METRICS.values(), *ERRORS], rows)
    print(f"\n{table}")
    settings = {"data": data, "K": args.K, "seeds": args.seeds, "set": args.set}
    write(args.out, "samplers", {"machine": machine(), **settings, "results": results}, table)


def _cell(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds; a dash where there is nothing to measure."""
    if math.isnan(values[0]):
        return "–"
    mean = f"{statistics.mean(values):.4f}"
    return f"{mean} ± {statistics.stdev(values):.4f}" if len(values) > 1 else mean


if __name__ == "__main__":
    main()
