"""Tasks of kgrec that benchmarks/speed.py times; one task per process, JSON in and out."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from typing import Any

import torch
from common import compose, load_dataset, peak_gigabytes


def epochs(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of what precedes training, and of training epochs through ``trainer.fit``."""
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from kgrec.data.datamodule import KGDataModule
    from kgrec.training.callbacks import EpochLog
    from kgrec.training.module import RecommenderModule

    dataset, cfg = load_dataset(task["overrides"]), compose(task["overrides"])
    pl.seed_everything(0, verbose=False)
    model, clock = instantiate(cfg.model, dataset), EpochLog()
    begin = time.perf_counter()
    model.precompute(dataset)
    before = time.perf_counter() - begin
    if not model.trainable:
        return {"precompute": [before], "seconds": []}
    kinds = model.batches
    data = KGDataModule(dataset, cfg.batch_size, 65_536, seed=0, steps_per_call=None, kinds=kinds)
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=task["count"], logger=False, callbacks=[clock],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(RecommenderModule(model, instantiate(cfg.optimizer), 0, {}), datamodule=data)
    rows = data.train_batches.num_rows
    return {"precompute": [before], "seconds": clock.seconds, "rows": rows}


def steps(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of training steps in a bare loop; a step over ``memory_budget`` is cut."""
    from hydra.utils import instantiate

    from kgrec.config.sizes import parse_bytes
    from kgrec.data.batches import Epochs
    from kgrec.data.training_rows import PointwiseRows
    from kgrec.training.memory import RowBudget

    dataset, cfg = load_dataset(task["overrides"]), compose(task["overrides"])
    torch.manual_seed(0)
    model = instantiate(cfg.model, dataset)
    if "port" in task:
        from port import GatherEverything

        model = GatherEverything(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    budget = None if "port" in task else RowBudget(model, parse_bytes(cfg.memory_budget))
    found: list[float] = []
    for [((batch,), _)] in Epochs([PointwiseRows(dataset.train)], cfg.batch_size, lambda: 0):
        begin = time.perf_counter()
        optimizer.zero_grad()
        pieces = [((batch,), 1.0)] if budget is None else budget.cut((batch,))
        for piece, share in pieces:
            (model.loss(*piece) * share).backward()
        optimizer.step()
        found.append(time.perf_counter() - begin)
        if len(found) > task["count"]:
            break
    return {"seconds": found[1:], "pieces": len(pieces)}


def rank(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds in which the best 20 of all items are found, for the first ``count`` users."""
    from hydra.utils import instantiate

    from kgrec.evaluation.topk import top_k

    dataset, cfg = load_dataset(task["overrides"]), compose(task["overrides"])
    model = instantiate(cfg.model, dataset)
    model.precompute(dataset)
    users = torch.arange(min(task["count"], dataset.num_users))
    port = None
    if "port" in task:
        from port import GatherEverything

        port = GatherEverything(model)
    with torch.no_grad():
        begin = time.perf_counter()
        if port is not None:
            items = torch.arange(dataset.num_items)
            for user in users:
                port.score(user.expand(dataset.num_items), items).topk(20)
        else:
            encoded = model.encode()
            top_k(lambda some: model.score_all(some, encoded), users, 20, dataset.num_items)
        seconds = time.perf_counter() - begin
    return {"seconds": [seconds], "users": len(users), "items": dataset.num_items}


def evaluate(task: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the whole top-K evaluation: all items for all users, every metric at every k."""
    from hydra.utils import instantiate

    from kgrec.evaluation.candidates import full_candidates
    from kgrec.evaluation.full_ranking import overall, per_user, rank

    dataset, cfg = load_dataset(task["overrides"]), compose(task["overrides"])
    model = instantiate(cfg.model, dataset)
    users = torch.arange(min(task["count"], dataset.num_users))
    with torch.no_grad():
        begin = time.perf_counter()
        encoded, found = model.encode(), full_candidates(dataset, "test")
        ks = list(cfg.ranking.ks)
        ranking = rank(
            lambda some: model.score_all(some, encoded), found._replace(users=users), max(ks)
        )
        per_user(ranking, ks)
        degrees = dataset.train.item_degrees()
        overall(ranking, degrees, ks, dataset.num_users, dataset.neighborhood)
        seconds = time.perf_counter() - begin
    return {"seconds": [seconds], "users": len(users), "items": dataset.num_items}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    tasks = {"epochs": epochs, "steps": steps, "rank": rank, "evaluate": evaluate}
    found = tasks[asked["task"]](asked)
    print(json.dumps(found | {"peak_gb": peak_gigabytes()}))
