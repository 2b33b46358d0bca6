"""The approximate index of items against all scores: recall, speed, building time and memory.

``python benchmarks/index.py`` asks for the best 10 and 100 items of 256 users, on one core, each
catalogue and way in a process of its own:

- all scores: the product of the user's vector with all items, and the best k of it;
- index: :class:`kgrec.inference.index.ItemIndex`, which is an IVF of faiss;
- graph: an HNSW of faiss with 32 neighbours and efSearch 200, the usual alternative.

Catalogues are the vectors of models trained on music, and synthetic vectors of 64 numbers with the
structure of trained ones: √n clusters of unequal size, items scattered around their centres and of
unequal length (as popularity makes them), and users who like three clusters to different degrees.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import compose, machine, markdown, run_alone, write
from torch import Tensor

from kgrec.evaluation.topk import top_k
from kgrec.inference.index import ItemIndex

D, USERS, BATCH = 64, 256, 256
KS = (10, 100)
WAYS = ("all scores", "index", "graph")
Find = Callable[[Tensor, int], Tensor]


def synthetic(n: int) -> tuple[Tensor, Tensor]:
    """Vectors (USERS, D) of users and (n, D) of items; see the module."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    centres = F.normalize(noise(max(50, round(n**0.5)), D), dim=1)
    sizes = torch.arange(1, len(centres) + 1).double() ** -0.8

    def near(count: int, scatter: float) -> Tensor:
        cluster = torch.multinomial(sizes, count, replacement=True, generator=generator)
        return F.normalize(centres[cluster] + scatter * noise(count, D) / D**0.5, dim=1)

    items = near(n, 0.8) * torch.exp(0.35 * noise(n, 1))
    users = near(USERS, 0.3) + 0.7 * near(USERS, 0.3) + 0.5 * near(USERS, 0.3)
    return users, items


def trained_vectors(model: str, toy: bool) -> tuple[Tensor, Tensor]:
    """Vectors of users and items of a model trained on music."""
    from fold_in import trained
    from hydra.utils import instantiate

    from kgrec.models.inner_product import InnerProduct

    data = os.environ.get("KGREC_DATA_DIR", str(Path(__file__).parents[1] / "data"))
    overrides = [f"dataset={'synthetic' if toy else 'music'}", f"model={model}", "settings=tuned"]
    cfg = compose([*overrides, f"paths.data={data}", *(["epochs=1"] if toy else [])])
    dataset = instantiate(cfg.protocol)(instantiate(cfg.dataset), instantiate(cfg.split))
    made = trained(cfg, dataset)
    assert isinstance(made, InnerProduct)
    with torch.no_grad():
        users = torch.nonzero(dataset.train.user_degrees() > 0).squeeze(1)[:USERS]
        return made.user_factors(users).contiguous(), made.item_factors().clone()


def build(way: str, items: Tensor) -> tuple[Find, int]:
    """A function from users' vectors (B, D) and k to items (B, k), and bytes of what it keeps."""
    import faiss

    def rank(users: Tensor, k: int) -> Tensor:
        rows = torch.arange(len(users))
        return top_k(lambda part: users[part] @ items.T, rows, k, len(items))[1]

    if way == "all scores":
        return rank, items.numel() * items.element_size()
    if way == "index":
        index = ItemIndex(items)

        def find(users: Tensor, k: int) -> Tensor:
            _, numbers, complete = index.best(users, k)
            if not bool(complete.all()):  # as the ranker does
                numbers[~complete] = rank(users[~complete], k)
            return numbers

        return find, len(faiss.serialize_index(index._index))
    graph: Any = faiss.index_factory(items.shape[1], "HNSW32,Flat", faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efSearch = 200
    graph.add(items.numpy())

    def search(users: Tensor, k: int) -> Tensor:
        return torch.from_numpy(graph.search(users.numpy(), k)[1])

    return search, len(faiss.serialize_index(graph))


def measure(task: dict[str, Any]) -> dict[str, Any]:
    """What one way does on one catalogue; or, without a way, trains a model for its vectors."""
    torch.set_num_threads(1)
    if "way" not in task:
        torch.save(trained_vectors(task["catalogue"], task["toy"]), task["file"])
        return {}
    if isinstance(task["catalogue"], int):
        users, items = synthetic(task["catalogue"])
    else:
        users, items = torch.load(task["file"])
    best = {k: build("all scores", items)[0](users, k) for k in KS if k <= len(items) // 2}
    begin = time.perf_counter()
    find, size = build(task["way"], items)
    result: dict[str, Any] = {"items": len(items), "built": time.perf_counter() - begin}
    result["mb"] = size / 1e6
    for k, expected in best.items():
        parts = torch.split(users, BATCH)
        begin = time.perf_counter()
        ranked = torch.cat([find(part, k) for part in parts])
        result[f"{k} in batches"] = len(users) / (time.perf_counter() - begin)
        alone, done, begin = users[:64], 0, time.perf_counter()
        while done < len(alone) and time.perf_counter() - begin < 10:
            find(alone[done : done + 1], k)
            done += 1
        result[f"{k} alone"] = done / (time.perf_counter() - begin)
        hits = [
            len(set(a) & set(b)) for a, b in zip(ranked.tolist(), expected.tolist(), strict=True)
        ]
        result[f"recall@{k}"] = sum(hits) / (k * len(users))
    return result


def main() -> None:
    """Reads the arguments, measures, prints; or does one task, for a process of its own."""
    if len(sys.argv) == 2 and sys.argv[1].startswith("{"):
        print(json.dumps(measure(json.loads(sys.argv[1]))))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", nargs="*", type=int, default=[10**4, 10**5, 10**6])
    parser.add_argument("--models", nargs="*", default=["svd", "lightgcn"])
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=WAYS)
    parser.add_argument("--toy", action="store_true", help="small synthetic data, 1 epoch")
    parser.add_argument("--out", type=Path, default=Path("logs/benchmarks"))
    args = parser.parse_args()
    catalogues: list[int | str] = [*args.models, *([2000] if args.toy else args.sizes)]
    columns = [f"recall@{k}" for k in KS] + [
        f"{k} {how}" for k in KS for how in ("alone", "in batches")
    ]
    header = ["catalogue", "items", "way", *(f"recall@{k}" for k in KS),
              *(f"users/s, k={k}, {how}" for k in KS for how in ("one by one", f"{BATCH} at once")),
              "built in, s", "MB"]  # fmt: skip
    rows, results = [], {}
    scratch = tempfile.TemporaryDirectory()  # gone at the end of the process
    for catalogue in catalogues:
        task = {"catalogue": catalogue, "toy": args.toy, "file": f"{scratch.name}/vectors.pt"}
        if isinstance(catalogue, str):
            run_alone("index.py", task)
        label = "synthetic" if isinstance(catalogue, int) else f"music, {catalogue}"
        for way in args.ways:
            result = run_alone("index.py", task | {"way": way})
            results[f"{label}, {result['items']}, {way}"] = result
            cells = [
                "" if name not in result else f"{result[name]:.{3 if name in columns[:2] else 0}f}"
                for name in columns
            ]
            numbers = [f"{result['built']:.1f}", f"{result['mb']:.0f}"]
            rows.append([label, f"{result['items']:,}", way, *cells, *numbers])
            print("  ".join(rows[-1]), flush=True)
    table = markdown(header, rows)
    print(f"\n{table}")
    write(args.out, "index", {"machine": machine(), "results": results}, table)


if __name__ == "__main__":
    main()
