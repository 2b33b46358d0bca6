"""Readers of run folders of strangers: models, reports, comparisons, and lists of other tools."""

from __future__ import annotations

import io
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import torch

from fuzzing.mutations import Files
from fuzzing.target import Target, folder_files
from fuzzing.targets.small_files import encoded
from kgrec.inference.loading import load
from kgrec.inference.scored_lists import score_lists
from kgrec.models.recommender import Recommender
from kgrec.runs.checkpoints import load_recommender, read_checkpoint
from kgrec.runs.folder import RunFolder

RUN = "run"
SETTINGS = [
    "dataset=synthetic", "dataset.num_users=30", "dataset.num_items=20", "epochs=1",
    "dataset.positives_per_user=8", "dataset.attributes_per_relation=3", "logger=csv", "threads=1",
    "ranking.ks=[2,5]",
]  # fmt: skip
# Models whose checkpoints are changed, with their settings.
MODELS = {
    "kgcn": ["model.d=4", "model.K=3"], "svd": ["model.d=4"], "kgat": ["model.d=4"],
    "ripplenet": ["model.d=4"], "itemknn": [],
}  # fmt: skip
# The large files that no reader of results looks at.
_WITHOUT = ("checkpoints/last.ckpt", "train.log", "wandb")


def train(materials: Path, model: str = "kgcn") -> Path:
    """The folder of a finished run, trained once."""
    from kgrec.pipeline.in_process import run_in_process

    folder = materials / (RUN if model == "kgcn" else f"{RUN}-{model}")
    if not RunFolder(folder).finished:
        shutil.rmtree(folder, ignore_errors=True)
        own = [f"model={model}", *MODELS[model], f"paths.logs={materials}"]
        run_in_process([*SETTINGS, *own], folder, quiet=True)
    return folder


@cache
def _run(materials: Path) -> list[Files]:
    files = folder_files(train(materials))
    return [{n: c for n, c in files.items() if not n.startswith(_WITHOUT)}]


def read_results(folder: Path) -> Any:
    """Reports on a run folder and compares its model with popularity."""
    from kgrec.reports.results.compare import compare
    from kgrec.reports.results.compared_systems import compared_systems
    from kgrec.reports.results.comparison_table import usual_metrics
    from kgrec.reports.results.report import write_report
    from kgrec.runs.finished import find_runs, left_out

    runs = find_runs([folder])
    left_out([folder])
    out = folder.parent / "report"
    try:
        write_report(runs, out)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    group = compared_systems(runs, None, [folder])
    return [c.as_dict() for c in compare(group, usual_metrics(group), 20)]


def read_facts(folder: Path) -> Any:
    """Reads every file of a run folder by itself."""
    from kgrec.runs.finished import Run
    from kgrec.runs.status import read_status

    run = Run.read(folder)
    files = run.files
    facts = [files.kind, run.seed, run.data, run.protocol, run.command, run.settings]
    facts += run.controls()
    frames = [run.rows(), run.users(), files.seen(), files.triples(), run.curves]
    return repr((facts, [f.shape for f in frames], run.slices, files.about(), read_status(folder)))


def read_model(folder: Path) -> Any:
    """Loads the model of a run folder, recommends and explains."""
    rec = load(folder)
    user = rec.users["user"][0]
    top = rec.recommend(user, k=2)
    assert top["score"].is_not_nan().all() or _has_nan(rec), "scores that are no numbers"
    rec.explain(user, top["item"][0])
    rec.score(user, top["item"])
    return top.rows()


def _has_nan(rec: Any) -> bool:
    tensors = [t for t in rec.model.state_dict().values() if t.is_floating_point()]
    return not all(bool(tensor.isfinite().all()) for tensor in tensors)


@cache
def _checkpoints(materials: Path) -> list[Files]:
    """The checkpoints of all models, without what only a resumed run needs."""
    files = []
    for model in MODELS:
        path = RunFolder(train(materials, model)).checkpoint("best")
        content = torch.load(path, weights_only=True)
        for key in ("optimizer_states", "loops", "callbacks", "lr_schedulers"):
            content.pop(key, None)
        torch.save(content, buffer := io.BytesIO())
        files.append({"best.ckpt": buffer.getvalue()})
    return files


def read_recommender(folder: Path) -> Any:
    """Rebuilds the model of a checkpoint."""
    path = folder / "best.ckpt"
    epoch = read_checkpoint(path)["epoch"]
    model = load_recommender(path)
    assert isinstance(model, Recommender), "no recommender"
    return epoch, type(model).__name__, sorted(model.state_dict())


LISTS = "user,item,rank,score\nuser0,item1,1,0.9\nuser0,item2,2,0.5\nuser1,item3,1,0.7\n"
OBJECTS = '{"user": "user0", "item": "item1", "score": 0.5}\n{"user": "user1", "item": "item2", ' \
    '"score": 2}\n'  # fmt: skip
_like: list[Path] = []


@cache
def _lists(_: Path) -> list[Files]:
    frame = pl.read_csv(LISTS.encode())
    frame.write_parquet(buffer := io.BytesIO())
    tabs = LISTS.replace(",", "\t")
    return [*encoded({"l.csv": LISTS}, {"l.tsv": tabs}, {"l.jsonl": OBJECTS}),
            {"l.parquet": buffer.getvalue()}]  # fmt: skip


def read_lists(folder: Path) -> Any:
    """Evaluates lists of another tool."""
    out = folder.parent / "scored"
    shutil.rmtree(out, ignore_errors=True)
    results = []
    for path in sorted(folder.iterdir()):
        try:
            result = score_lists(path, RunFolder(_like[0]), "other", out)
            results.append((sorted(result.metrics.items()), result.remarks))
        finally:
            shutil.rmtree(out, ignore_errors=True)
    return results


def _begin_lists(materials: Path) -> None:
    _like[:] = [train(materials)]


_FACTS = ("*.json", "*.yaml", "*.csv", "evaluation/*")
TARGETS = [
    Target("run_facts", _run, read_facts, files=(*_FACTS, "inference/*"), share=2),
    Target("run_results", _run, read_results, files=_FACTS, share=0.02),
    Target("run_model", _run, read_model,
           files=("inference/*", "ids/*", "environment.json", "config.yaml", "checkpoints/*"),
           share=0.5),
    Target("checkpoint", _checkpoints, read_recommender, share=1),
    Target("score_lists", _lists, read_lists, share=0.3, begin=_begin_lists),
]  # fmt: skip
