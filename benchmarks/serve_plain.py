"""What serve.py compares with: the loop a user would write, and Cornac's serving app.

``python serve_plain.py TASK`` serves until it is ended. The task is JSON: ``server`` (flask,
waitress or gunicorn), ``port`` and ``app``:

- ``score``: Flask and one ``rec.score`` of all items for each request, as the manual shows it;
- ``numbers``: the same with the numbers of the model and one thread of torch, about the most that
  the loop can do without sharing work between requests;
- ``cornac``: the app of ``cornac.serving``, with a BPR of the same size on the same positives.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

THREADS = 8  # of waitress, and of each worker of gunicorn


def score_app(run: str) -> Any:
    """Flask and ``rec.score``."""
    import polars as pl
    from flask import Flask, request

    import kgrec

    rec = kgrec.load(run)
    every = rec.items["item"].to_list()
    pairs = rec.data.seen
    seen = pl.DataFrame({"user": pairs.users.numpy(), "item": pairs.items.numpy()}).select(
        rec.data.ids.users["user"].gather(pairs.users.numpy()),
        rec.data.ids.items["item"].gather(pairs.items.numpy()),
    ).partition_by("user", as_dict=True)  # fmt: skip
    app = Flask("plain")

    def recommend() -> Any:
        body: Any = request.get_json()
        user, k = str(body["user"]), int(body["k"])
        scores = rec.score(user, every).join(seen[(user,)], on="item", how="anti")
        best = scores.top_k(k, by="score").sort("score", descending=True)
        return {"user": user, "items": best.select("item", "name", "score").to_dicts()}

    app.post("/recommend")(recommend)
    return app


def numbers_app(run: str) -> Any:
    """Flask and the model's own numbers."""
    import torch
    from flask import Flask, request

    import kgrec

    torch.set_num_threads(1)
    rec = kgrec.load(run)
    ids, names = rec.items["item"].to_list(), rec.items["name"].to_list()
    numbers = {user: number for number, user in enumerate(rec.users["user"])}
    items = torch.arange(len(ids))
    seen = rec.data.seen
    encoded = rec.model.encode()
    app = Flask("numbers")

    def recommend() -> Any:
        body: Any = request.get_json()
        user, k = str(body["user"]), int(body["k"])
        number = torch.tensor([numbers[user]])
        with torch.inference_mode():
            scores = rec.model.score(number.expand(len(items)), items, encoded)
            scores[seen.of_users(number)[1]] = -torch.inf
            values, best = scores.topk(k)
        rows = zip(values.tolist(), best.tolist(), strict=True)
        return {
            "user": user,
            "items": [{"item": ids[i], "name": names[i], "score": value} for value, i in rows],
        }

    app.post("/recommend")(recommend)
    return app


def cornac_app(run: str) -> Any:
    """Cornac's app with BPR on what the run's users have seen."""
    import cornac

    import kgrec

    rec = kgrec.load(run)
    ids = rec.data.ids
    pairs = rec.data.positives
    rows = zip(
        ids.users["user"].gather(pairs.users.numpy()).to_list(),
        ids.items["item"].gather(pairs.items.numpy()).to_list(),
        [1.0] * len(pairs), strict=True,
    )  # fmt: skip
    model = cornac.models.BPR(k=32, max_iter=100, seed=1, verbose=False)
    model.fit(cornac.data.Dataset.from_uir(list(rows)))
    folder = os.environ["CORNAC_FOLDER"]  # of the parent, which removes it
    os.environ |= {
        "MODEL_PATH": str(Path(model.save(folder, save_trainset=True)).resolve()),
        "MODEL_CLASS": "cornac.models.BPR",
    }
    from cornac.serving.app import app

    return app


APPS = {"score": score_app, "numbers": numbers_app, "cornac": cornac_app}


def main() -> None:
    """Serves."""
    task = json.loads(sys.argv[1])
    server, port = task["server"], task["port"]
    if server == "gunicorn":
        from gunicorn.app.base import BaseApplication

        class Server(BaseApplication):  # type: ignore[misc]
            def load_config(self) -> None:
                settings = {"bind": f"127.0.0.1:{port}", "workers": os.cpu_count(),
                            "worker_class": "gthread", "threads": THREADS, "timeout": 300,
                            "keepalive": 60}  # fmt: skip
                for key, value in settings.items():
                    self.cfg.set(key, value)

            def load(self) -> Any:
                return APPS[task["app"]](task["run"])

        Server().run()
        return
    app = APPS[task["app"]](task["run"])
    if server == "waitress":
        from waitress import serve

        serve(app, host="127.0.0.1", port=port, threads=THREADS)
    else:
        app.run(host="127.0.0.1", port=port, threaded=True)


if __name__ == "__main__":
    main()
