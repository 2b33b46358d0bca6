"""The README of an export, with lines of Python that use it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CODE = {
    "onnx": """\
import numpy, onnxruntime, polars
users, items = polars.read_parquet("users.parquet"), polars.read_parquet("items.parquet")
top_k, number = onnxruntime.InferenceSession("top_k.onnx"), users.filter(id={user})["number"]
inputs = {{"users": number.to_numpy(), "excluded": numpy.zeros((1, len(items)), bool)}}
best, scores = top_k.run(None, inputs)
print(items[best[0]].with_columns(score=scores[0]))
""",
    "torch": """\
import polars, torch
users, items = polars.read_parquet("users.parquet"), polars.read_parquet("items.parquet")
top_k, number = torch.export.load("top_k.pt2").module(), users.filter(id={user})["number"]
top_k.load_state_dict(torch.load("parameters.pt")["top_k"], assign=True)
best, scores = top_k(number.to_torch(), torch.zeros(1, len(items), dtype=torch.bool))
print(items[best[0].numpy()].with_columns(score=scores[0].numpy()))
""",
    "factors": """\
import numpy, polars
factors = polars.read_parquet("factors.parquet")
users, items = factors.filter(kind="user", id={user}), factors.filter(kind="item")
scores = numpy.array(items["vector"].to_list()) @ numpy.array(users["vector"][0])
print(items.select("id", "name").with_columns(score=scores).top_k(10, by="score"))
""",
    "vectors": """\
import numpy, polars
items = polars.read_parquet("vectors.parquet").filter(kind="item")
vectors = numpy.array(items["vector"].to_list())
likeness = vectors @ vectors[0] / (numpy.linalg.norm(vectors, axis=1) + 1e-12)
print(items.select("id", "name").with_columns(likeness=likeness).top_k(10, by="likeness"))
""",
}

PROGRAMS = """\
## Programs

| file | inputs | outputs |
|---|---|---|
| `score.{suffix}` | `users` (B,) int64, `items` (B,) int64 | `scores` (B,) float32 |
| `top_k.{suffix}` | `users` (B,) int64, `excluded` (B, {items}) bool | `items` (B, {k}) int64, \
`scores` (B, {k}) float32 |

B is any number. Users and items are the column `number` of `users.parquet` and `items.parquet`.
Items that are `excluded` are not ranked; if fewer than {k} are left, the rest is item -1 with score
-inf. Equal scores are in the order of the evaluation of the run. Both programs read their
parameters from `{parameters}`, which must lie beside them.

{note}

The programs differ by at most {difference:.1g} from the model on a sample of pairs and users.
A user with 0 `positives` was never trained: rank the items by their own `positives` instead.
"""

SHOWN = ("test/auc", "test/recall@10", "test/ndcg@10", "test/hit@10")

TABLES = {
    "vectors.parquet": "vectors of the model: kind, number, id, name, vector",
    "factors.parquet": "factors: the inner product of a user's and an item's vector is the score",
}


def readme(about: Mapping[str, Any], folder: Path, user: str) -> str:
    """The text of README.md.

    Args:
        about: content of about.json.
        folder: folder with the files of the export.
        user: raw id of a user, for the example.
    """
    kind, files = about["export"], {path.name for path in folder.iterdir()}
    example = kind
    if kind == "embeddings":
        example = "factors" if "factors.parquet" in files else "vectors"
    code = CODE[example].format(user=json.dumps(user, ensure_ascii=False))
    parts = [
        f"# {about['model']} on {about['dataset']}\n\nExported by kgrec from run {about['run']}; "
        "`about.json` has its versions and metrics.\n",
        f"```python\n{code}```\n",
    ]
    if kind == "embeddings":
        rows = [f"| `{name}` | {text} |\n" for name, text in TABLES.items() if name in files]
        parts.append(f"| file | content |\n|---|---|\n{''.join(rows)}")
    else:
        names = {"onnx": ("onnx", "parameters.bin"), "torch": ("pt2", "parameters.pt")}
        suffix, parameters = names[kind]
        note = "\n".join(textwrap.wrap(about["note"], 100))
        facts = {"k": about["k"], "items": about["items"], "note": note}
        difference = about["largest_difference"]
        parts.append(
            PROGRAMS.format(suffix=suffix, parameters=parameters, difference=difference, **facts)
        )
    if "seen.parquet" in files:
        parts.append("`seen.parquet` has the numbers of the users and the items they have seen.\n")
    if table := _metrics(about["test_metrics"]):
        parts.append(table)
    return "\n".join(parts)


def _metrics(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """A table of some test metrics of model and popularity; about.json has them all."""
    names = [name for name, values in metrics.items() if values]
    rows = [key for key in SHOWN if any(key in metrics[name] for name in names)]
    if not rows:
        return ""
    lines = ["## Test metrics", "", f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for key in rows:
        values = (metrics[name].get(key) for name in names)
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        lines.append(f"| {key.removeprefix('test/')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
