"""MovieLens-20M's size from end to end: each stage's time and peak memory, and how they grow.

``python benchmarks/scale.py`` prepares synthetic twins of 1/16, 1/4 and 1 of its size, trains an
epoch of KGCN with the paper's Table 1 settings, scores all evaluation rows and ranks all items,
each stage in a process of its own on one core. It draws scale.svg.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from common import (
    compose,
    label_sizes,
    load_dataset,
    machine,
    markdown,
    peak_gigabytes,
    run_alone,
    write,
)

STAGES = {
    "prepare": "raw files to ready",
    "split": "split, protocol=paper",
    "epoch": "an epoch",
    "score": "score the evaluation rows",
    "rank": "rank all items for 1,000 users",
}
MODEL = ("model.K=4", "model.d=32", "model.H=2", "batch_size=65536", "optimizer.lr=0.02")
RANKED_USERS = 1000


def stage(task: dict[str, Any]) -> dict[str, Any]:
    """One stage in this process; seconds of the stage alone, memory of the whole process."""
    import torch
    from hydra.utils import instantiate

    from kgrec.data.datamodule import KGDataModule
    from kgrec.evaluation.topk import top_k

    torch.set_num_threads(1)
    name, overrides = task["stage"], (*task["overrides"], *MODEL)
    cfg = compose(overrides)
    begin = time.perf_counter()
    data = instantiate(cfg.dataset)
    if name == "prepare":
        return _found(begin, counts=data.counts())
    begin = time.perf_counter()
    dataset = instantiate(cfg.protocol)(data, instantiate(cfg.split))
    if name == "split":
        return _found(begin)
    torch.manual_seed(0)
    model = instantiate(cfg.model, dataset)
    if name == "epoch":
        import pytorch_lightning as pl

        from kgrec.training.module import RecommenderModule

        loader = KGDataModule(dataset, cfg.batch_size, 65_536, seed=0, steps_per_call=None)
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=1, logger=False, limit_val_batches=0,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        module = RecommenderModule(model, instantiate(cfg.optimizer), 0, {}, memory_budget=4e9)
        begin = time.perf_counter()
        trainer.fit(module, datamodule=loader)
        return _found(begin)
    with torch.no_grad():
        begin = time.perf_counter()
        if name == "score":
            loader = KGDataModule(dataset, cfg.batch_size, 65_536)
            for rows in (*loader.val_dataloader(), *loader.test_dataloader()):
                for batch in rows:
                    model.score(batch.users, batch.items)
            return _found(begin)
        encoded = model.encode()
        users = torch.arange(min(RANKED_USERS, dataset.num_users))
        top_k(
            lambda some: model.score_all(some, encoded), users, 20, dataset.num_items, dataset.train
        )
        return _found(begin, factor=RANKED_USERS / len(users))


def _found(begin: float, factor: float = 1.0, **more: Any) -> dict[str, Any]:
    seconds = factor * (time.perf_counter() - begin)
    return {"seconds": seconds, "gigabytes": peak_gigabytes(), **more}


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Time and memory against size, both axes logarithmic."""
    from matplotlib.figure import Figure

    sizes = [run["prepare"]["counts"]["positives"] for run in found.values()]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, key, title in zip(
        figure.subplots(1, 2), ("seconds", "gigabytes"), ("seconds", "peak memory, GB"), strict=True
    ):
        for name, label in STAGES.items():
            axes.loglog(sizes, [run[name][key] for run in found.values()], "o-", label=label)
        axes.set_title(title)
        label_sizes(axes, "positives", sizes, decimals=1)
    lines, labels = axes.get_legend_handles_labels()
    figure.legend(lines, labels, fontsize="small", loc="outside lower center", ncols=len(lines))
    figure.savefig(path)


def main() -> None:
    """Reads the arguments, runs, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scales", type=float, nargs="+", default=[0.0625, 0.25, 1.0])
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for scale in args.scales:
        place = args.out.resolve() / f"scale-{scale}"
        overrides = [
            "dataset=synthetic", "dataset.like=movie", f"dataset.scale={scale}",
            f"paths.data={place}",
        ]  # fmt: skip
        load_dataset([*overrides, "protocol=clean"])  # draws the raw files, once
        shutil.rmtree(place / "cache", ignore_errors=True)
        found[str(scale)] = {}
        for name, label in STAGES.items():
            print(f"  {scale:g} of the size: {label}", flush=True)
            task = {"stage": name, "overrides": overrides}
            found[str(scale)][name] = run_alone("scale.py", task)
    rows = [
        [label]
        + [
            f"{run[name]['seconds']:.2f} s, {run[name]['gigabytes']:.2f} GB"
            for run in found.values()
        ]
        for name, label in STAGES.items()
    ]
    header = [""] + [
        f"{float(scale):g} ({run['prepare']['counts']['positives']:,} positives)"
        for scale, run in found.items()
    ]
    table = markdown(header, rows)
    print(f"\n{table}")
    write(args.out, "scale", {"machine": machine(), "scales": found}, table)
    draw(found, args.out / "scale.svg")


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        warnings.filterwarnings("ignore")
        logging.disable(logging.INFO)
        print(json.dumps(stage(json.loads(sys.argv[1]))))
    else:
        main()
