"""New users: recall when they are folded in, against training with them and against popularity.

``python benchmarks/fold_in.py`` holds out a fifth of the users, for each seed others. A model is
trained on the other users; the training positives of the held-out users are their histories. All
columns rank the same items for the same held-out users, judged by their test positives:

- known: a model that was trained on all users;
- folded in: the model that was trained without them, after ``fold_in``;
- popularity: by the training positives of the other users.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from common import compose, machine, markdown, write
from hydra.utils import instantiate

from kgrec.data.dataset import RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.evaluation.candidates import full_candidates
from kgrec.evaluation.full_ranking import per_user, rank
from kgrec.models.controls import Popularity
from kgrec.models.recommender import Recommender

MODELS = ("ease", "itemknn", "lightgcn", "bprmf", "svd", "libfm", "cke", "ncf", "kgcn", "ripplenet")
SHARE = 0.2  # of the users are held out
METRICS = ("recall@20", "ndcg@20")


def held_out_users(dataset: RecDataset, seed: int) -> torch.Tensor:
    """(num_users,) bool: a random fifth of the users."""
    return torch.rand(dataset.num_users, generator=generator(seed, "new users")) < SHARE


def without(dataset: RecDataset, held_out: torch.Tensor) -> RecDataset:
    """The data of the users who are not held out, numbered anew."""
    number = (~held_out).cumsum(0) - 1

    def rows(part: LabelledRows) -> LabelledRows:
        kept = part.take(~held_out[part.users])
        return replace(kept, users=number[kept.users])

    users, items = dataset.static_negatives
    kept = ~held_out[users]
    return replace(
        dataset,
        train=select(dataset.train, ~held_out),
        static_negatives=(number[users[kept]], items[kept]),
        val=rows(dataset.val),
        test=rows(dataset.test),
        matched={},
        ids=replace(dataset.ids, users=dataset.ids.users.filter(pl.Series((~held_out).tolist()))),
    )


def select(positives: Interactions, chosen: torch.Tensor) -> Interactions:
    """The pairs of the chosen users (num_users,), numbered anew."""
    number, kept = chosen.cumsum(0) - 1, positives.take(chosen[positives.users])
    return Interactions(number[kept.users], kept.items, int(chosen.sum()), kept.num_items)


def trained(cfg: Any, dataset: RecDataset) -> Recommender:
    """The model at its best epoch on validation, as a run trains it."""
    import pytorch_lightning as lightning

    from kgrec.data.datamodule import KGDataModule
    from kgrec.models.recipes import trusted_by
    from kgrec.runs.checkpoints import load_recommender
    from kgrec.training.callbacks import BestCheckpoint, early_stopping
    from kgrec.training.module import RecommenderModule

    lightning.seed_everything(cfg.seed, verbose=False)
    model: Recommender = instantiate(cfg.model, dataset)
    model.precompute(dataset)
    if not model.trainable:
        return model.eval()
    data = KGDataModule(
        dataset, cfg.batch_size, 65_536, seed=cfg.seed, steps_per_call=None, kinds=model.batches
    )
    with tempfile.TemporaryDirectory() as folder:
        stop = early_stopping(cfg.patience, cfg.monitor)
        callbacks = [BestCheckpoint(folder, cfg.monitor), *([] if stop is None else [stop])]
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=cfg.epochs, logger=False, callbacks=callbacks,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip
        trainer.fit(RecommenderModule(model, instantiate(cfg.optimizer), cfg.seed, {}), data)
        return load_recommender(Path(folder, "best.ckpt"), trusted_by(model)).eval()


@torch.no_grad()
def evaluate(
    model: Recommender, dataset: RecDataset, number: torch.Tensor, users: torch.Tensor, stage: str
) -> dict[str, float]:
    """Means over users.

    Args:
        model: the model.
        dataset: data of all users.
        number: (num_users,) number that the model gives to each user.
        users: (n,) users to evaluate.
        stage: "val" or "test".
    """
    encoded = model.encode()
    candidates = full_candidates(dataset, stage)._replace(users=users)
    ranking = rank(lambda block: model.score_all(number[block], encoded), candidates, 20)
    values = per_user(ranking, [20])
    return {name: float(values[name].mean()) for name in METRICS}


def measure(overrides: list[str]) -> dict[str, Any]:
    """Metrics of the three columns, how users are folded in, and CPU seconds for 1,000 of them."""
    cfg = compose(overrides)
    dataset = instantiate(cfg.protocol)(instantiate(cfg.dataset), instantiate(cfg.split))
    held_out = held_out_users(dataset, cfg.seed)
    chosen = held_out & (dataset.train.user_degrees() > 0)  # users with a history
    liked = dataset.test.users[dataset.test.labels > 0.5]
    users = torch.unique(liked[chosen[liked]])
    others, history = without(dataset, held_out), select(dataset.train, chosen)
    popularity = Popularity.from_dataset(others)
    popularity.precompute(others)
    base = trained(cfg, others)
    begin = time.process_time()
    folded = base.fold_in(history, seed=cfg.seed)
    seconds = time.process_time() - begin
    everyone = torch.arange(dataset.num_users)
    known = evaluate(trained(cfg, dataset), dataset, everyone, users, "test")
    return {
        "known": known,
        "folded in": evaluate(folded, dataset, chosen.cumsum(0) - 1, users, "test"),
        "popularity": evaluate(popularity, dataset, everyone, users, "test"),
        "method": base.fold_in_method,
        "seconds for 1,000 users": 1000 * seconds / history.num_users,
        "evaluated users": len(users),
    }


def cell(results: list[dict[str, Any]], column: str, name: str) -> str:
    """Mean and standard deviation over seeds."""
    values = [result[column][name] for result in results]
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--data", nargs="*", default=["music", "movie-100k"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[2019, 2020, 2021])
    parser.add_argument("--toy", action="store_true", help="small synthetic data, 2 epochs")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    by_row: dict[str, Any] = {}
    rows = []
    header = ["", "method", *(f"{c}, {m}" for m in ("Recall@20", "NDCG@20")
              for c in ("known", "folded in", "popularity")), "CPU s for 1,000 users"]  # fmt: skip
    for data in ["synthetic"] if args.toy else args.data:
        for model in args.models:
            overrides = [f"dataset={data}", f"model={model}", "settings=tuned"]
            overrides += [f"paths.data={os.environ.get('KGREC_DATA_DIR', Path('data').resolve())}"]
            overrides += ["epochs=2"] if args.toy else []
            results = [measure([*overrides, f"seed={seed}"]) for seed in args.seeds]
            columns = ("known", "folded in", "popularity")
            cells = [cell(results, column, m) for m in METRICS for column in columns]
            seconds = statistics.median(r["seconds for 1,000 users"] for r in results)
            rows.append([f"{data}, {model}", results[0]["method"], *cells, f"{seconds:.2g}"])
            by_row[f"{data}, {model}"] = results
            print("  ".join(rows[-1]), flush=True)
    table = markdown(header, rows)
    print(f"\n{table}")
    write(
        args.out, "fold_in", {"machine": machine(), "seeds": args.seeds, "results": by_row}, table
    )


if __name__ == "__main__":
    main()
