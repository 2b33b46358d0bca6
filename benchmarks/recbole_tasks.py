"""What benchmarks/speed.py times of RecBole's KGCN; runs with the Python that has RecBole.

One task a process, JSON in and out.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import KGDataLoaderState, get_model, init_seed


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Trains, or ranks all items for all users with ``full_sort_predict``."""
    settings = {
        "data_path": task["folder"],
        "embedding_size": task["d"],
        "n_iter": task["H"],
        "neighbor_sample_size": task["K"],
        "aggregator": "sum",
        "reg_weight": 1e-5,
        "train_batch_size": task["batch"] // 2,  # counts positives; as many negatives join them
        "learning_rate": 1e-3,
        "use_gpu": False,
        "show_progress": False,
        "eval_args": {
            "split": {"RS": [6, 2, 2]},
            "group_by": "none",
            "order": "RO",
            "mode": "full",
        },
    }
    sys.argv = sys.argv[:1]  # RecBole reads it too
    config = Config(model="KGCN", dataset=task["name"], config_dict=settings)
    init_seed(2019, True)
    logging.disable(logging.CRITICAL)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = get_model("KGCN")(config, train._dataset)
    if task["task"] == "rank":
        model.eval()
        users = torch.arange(1, dataset.user_num)
        with torch.no_grad():
            begin = time.perf_counter()
            for some in users.split(4):  # faster than one at a time, or many
                scores = model.full_sort_predict(Interaction({model.USER_ID: some}))
                scores.view(len(some), -1).topk(20)
            seconds = [time.perf_counter() - begin]
        return {"seconds": seconds, "users": len(users), "items": dataset.item_num - 1}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)  # as its trainer makes it
    train.set_mode(KGDataLoaderState.RS)  # interactions, of which alone KGCN learns
    epochs, steps = [], []
    for _ in range(task["count"] if task["task"] == "epochs" else 1):
        start = time.perf_counter()
        for batch in train:
            begin = time.perf_counter()
            optimizer.zero_grad()
            model.calculate_loss(batch).backward()
            optimizer.step()
            steps.append(time.perf_counter() - begin)
            if task["task"] == "steps" and len(steps) > task["count"]:
                break
        epochs.append(time.perf_counter() - start)
    return {"seconds": epochs if task["task"] == "epochs" else steps[1:]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    asked = json.loads(sys.argv[1])
    print("\n" + json.dumps(run(asked)))
