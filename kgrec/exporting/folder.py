"""Writes the folder of an export: programs or vectors, id maps, facts on the run, and a README."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from kgrec import __version__
from kgrec.disk_errors import disk_error
from kgrec.errors import ConfigError, DataError
from kgrec.evaluation.results import BASELINE
from kgrec.exporting import embeddings, onnx, torch_program
from kgrec.exporting.formulations import formulation
from kgrec.exporting.programs import exported_score, exported_top_k
from kgrec.exporting.readme import readme
from kgrec.files import atomic_folder, is_empty, write_json, write_text
from kgrec.inference.loaded_model import LoadedModel
from kgrec.models.folding import frozen
from kgrec.models.recommender import Recommender
from kgrec.runs.folder import RunFolder

ONNX, TORCH, EMBEDDINGS = "onnx", "torch", "embeddings"
KINDS = (ONNX, TORCH, EMBEDDINGS)
TOLERANCE = 1e-5  # of a score, relative to scores beyond 1
SAMPLE = 200  # random pairs, and a tenth as many users, that are compared with the model
PROGRAMS = {ONNX: onnx, TORCH: torch_program}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """A written export.

    Attributes:
        folder: its folder.
        files: bytes of each file, by name.
        seconds: time that the export took.
        difference: largest difference of a score from the model's; None for vectors.
    """

    folder: Path
    files: Mapping[str, int]
    seconds: float
    difference: float | None


def check(kind: str, out: Path) -> None:
    """Checks what can be checked before a model is loaded.

    Raises:
        ConfigError: the kind is unknown, a package is missing, or the folder cannot be written.
    """
    if kind not in KINDS:
        raise ConfigError(f"--to: found {kind!r}, expected one of {', '.join(KINDS)}")
    if kind == ONNX:
        onnx.check_packages()
    if out.exists() and not (out.is_dir() and is_empty(out)):
        what = "a folder that is not empty" if out.is_dir() else "a file"
        raise ConfigError(f"--out: {out}: found {what}, expected a new or an empty folder")


def export(
    rec: LoadedModel,
    kind: str,
    out: str | Path,
    k: int = 10,
    with_seen: bool = False,
    say: Say = lambda message: None,
) -> Exported:
    """Exports the model of a run; if that fails, nothing is left.

    Args:
        rec: loaded model.
        kind: onnx, torch or embeddings.
        out: new or empty folder.
        k: number of items of ``top_k``; embeddings have none.
        with_seen: whether to write the items that users have seen.
        say: function that gets a line on each step.

    Raises:
        ConfigError: the kind or k cannot work, a package is missing, or the folder cannot be
            written.
        DataError: the model cannot be exported in this form.
    """
    out, begin = Path(out).expanduser(), time.perf_counter()
    check(kind, out)
    num_items = rec.data.ids.items.height
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= num_items:
        expected = f"an integer from 1 to {num_items}, the number of items"
        raise ConfigError(f"-k: found {k!r}, expected {expected}")
    model = frozen(rec.model).float().cpu()
    facts: dict[str, Any] = {}
    with atomic_folder(out) as folder:
        if kind == EMBEDDINGS:
            say("writing vectors")
            embeddings.write(model, rec.data.ids, folder)
        else:
            facts = _write_programs(model, rec, kind, folder, k, say)
        _write_ids(rec, folder, with_seen)
        about = _about(rec, kind) | facts
        write_json(folder / "about.json", about)
        example = rec.user_ids.ids[int(rec.data.train.user_degrees().argmax())]
        write_text(folder / "README.md", readme(about, folder, example))
        files = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    seconds = time.perf_counter() - begin
    return Exported(out, files, seconds, facts.get("largest_difference"))


def _write_programs(
    model: Recommender, rec: LoadedModel, kind: str, folder: Path, k: int, say: Say
) -> dict[str, Any]:
    """Writes ``score`` and ``top_k``; returns facts on them for about.json.

    Raises:
        DataError: the model cannot be exported.
    """
    name, written = type(model).__name__, PROGRAMS[kind]
    instead = "another model" if model.item_vectors() is None else "--to embeddings"
    if not model.exportable:
        raise DataError(f"--to {kind}: found {name}, which is not exportable, expected {instead}")
    order = rec.ranker.tie_order
    try:
        plain = formulation(model)
        say("exporting score")
        score = exported_score(plain)
        say("exporting top_k")
        top_k = exported_top_k(plain, order, k, lower_first=kind == ONNX)
        say("writing")
        written.write([(written.SCORE, score), (written.TOP_K, top_k)], folder)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:  # of torch
        if disk_error(folder, error) is not None:
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"--to {kind}: found {name}, whose scores torch cannot export ({reason}), expected "
            f"{instead}"
        ) from error
    say("comparing with the model")
    difference = _difference(model, rec, written.Runtime(folder), name)
    return {"k": k, "largest_difference": difference, "note": plain.note}


def _difference(model: Recommender, rec: LoadedModel, runtime: Any, name: str) -> float:
    """The largest difference of the programs' scores from the model's, relative beyond 1.

    Raises:
        DataError: it is larger than :data:`TOLERANCE`.
    """
    users, items = _sample(rec)
    with torch.no_grad():
        pairs = _gap(runtime.score(users, items), model.score(users, items))
        some = torch.unique(users[: SAMPLE // 10])
        num_items = rec.data.ids.items.height
        excluded = torch.zeros(len(some), num_items, dtype=torch.bool)
        excluded[rec.data.seen.of_users(some)] = True
        best, scores = runtime.top_k(some, excluded)
        row, column = torch.nonzero(best >= 0, as_tuple=True)
        own = model.score(some[row], best[row, column])
        lists = _gap(scores[row, column], own)
    largest = max(pairs, lists)
    if not (pairs <= TOLERANCE and lists <= TOLERANCE):  # also where one is NaN
        raise DataError(
            f"found {name}, whose exported scores differ by {largest:.2g} from the model's, "
            f"expected at most {TOLERANCE:g}"
        )
    return largest


def _gap(found: Tensor, expected: Tensor) -> float:
    if not len(expected):
        return 0.0
    return float(((found - expected).abs() / expected.abs().clamp(min=1)).max())


def _sample(rec: LoadedModel) -> tuple[Tensor, Tensor]:
    """Users and items of pairs: the extremes of both, and random ones."""
    users, items = (
        torch.unique(
            torch.stack([torch.tensor(0), torch.tensor(len(n) - 1), n.argmin(), n.argmax()])
        )
        for n in (rec.data.train.user_degrees(), rec.data.popularity)
    )
    draw, sizes = torch.Generator().manual_seed(0), (len(rec.user_ids), len(rec.item_ids))
    random = [torch.randint(size, (SAMPLE,), generator=draw) for size in sizes]
    edges = torch.cartesian_prod(users, items)
    return torch.cat([edges[:, 0], random[0]]), torch.cat([edges[:, 1], random[1]])


def _write_ids(rec: LoadedModel, folder: Path, with_seen: bool) -> None:
    """Writes the numbers of users and items with their ids, names and training positives."""
    ids, train = rec.data.ids, rec.data.train
    columns = {
        "users": (ids.users.select(id="user"), train.user_degrees()),
        "items": (ids.items.select("name", id="item"), rec.data.popularity),
    }
    for name, (frame, positives) in columns.items():
        named = [column for column in ("id", "name") if column in frame.columns]
        frame.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("number"), *named).with_columns(
            positives=positives.numpy()
        ).write_parquet(folder / f"{name}.parquet")
    if with_seen:
        seen = {"user": rec.data.seen.users.numpy(), "item": rec.data.seen.items.numpy()}
        pl.DataFrame(seen).write_parquet(folder / "seen.parquet")


def _about(rec: LoadedModel, kind: str) -> dict[str, Any]:
    """Facts on the export, the run, and its test metrics with those of popularity."""
    about, metrics = rec.data.about, rec.metrics
    test = {
        name: {
            key.removeprefix(prefix): value
            for key, value in metrics.items()
            if key.startswith(f"{prefix}test/")
        }
        for name, prefix in ((rec.name, ""), (BASELINE, f"{BASELINE}/"))
    }
    return {
        "export": kind,
        "model": rec.name,
        "run": rec.folder.absolute().name,
        "dataset": about.get("dataset"),
        "protocol": RunFolder(rec.folder).dataset().get("protocol"),
        "seed": about.get("seed"),
        "users": rec.data.ids.users.height,
        "items": rec.data.ids.items.height,
        "test_metrics": test,
        "versions": {"kgrec": __version__} | _versions(kind),
    }


def _versions(kind: str) -> dict[str, str]:
    versions = {}
    for package in ("torch", *(onnx.PACKAGES if kind == ONNX else ())):
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions
