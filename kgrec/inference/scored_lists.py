"""Lists of another tool, evaluated as the model of a finished run was.

Users, relevant items, exclusions and cut-offs are those of the run's own test, from the pairs that
its folder keeps. The result is a run folder without a model, for ``kgrec compare`` and
``kgrec report``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import torch
from omegaconf import OmegaConf

from kgrec.data.build.columns import UserTable
from kgrec.data.json_lines import read_json_lines
from kgrec.errors import ConfigError, DataError, several
from kgrec.evaluation.candidates import Candidates
from kgrec.evaluation.full_ranking import Ranking, overall, per_user, rank
from kgrec.evaluation.ranked_lists import RankedLists
from kgrec.evaluation.results import BASELINE
from kgrec.evaluation.ties import tie_order
from kgrec.files import atomic_folder
from kgrec.inference.kept_data import KeptData, read
from kgrec.inference.raw_ids import RawIds
from kgrec.runs.environment import environment
from kgrec.runs.folder import LISTS, VALIDATED, RunFolder
from kgrec.runs.results import users_frame

JSON_LINES = (".json", ".jsonl", ".ndjson")
CONTROLS = (BASELINE, "popularity_prior", "popularity_balance", "unseen_item", "all_positive")
EXAMPLES = 5  # unknown ids that are named


class ScoredLists(NamedTuple):
    """The result of an evaluation of lists.

    Attributes:
        folder: the written run folder.
        metrics: content of metrics.json.
        remarks: sentences on rows that were left out, and on short or missing lists.
    """

    folder: Path
    metrics: dict[str, float]
    remarks: list[str]


def score_lists(file: Path, like: RunFolder, name: str, out: Path) -> ScoredLists:
    """Evaluates lists with the ranking metrics of a run, and writes a run folder.

    Args:
        file: table with ``user``, ``item`` and ``rank`` or ``score``; raw ids.
        like: finished run whose data, split and protocol count.
        name: name of the system.
        out: new folder.

    Raises:
        DataError: the file cannot be used, or the run lacks what is needed.
        ConfigError: the name or the folder cannot be used, or the run has no full ranking.
    """
    config = _checked(like, name, out)
    data = read(like)
    users = RawIds("user", data.ids.users["user"])
    items = RawIds("item", data.ids.items["item"])
    remarks: list[str] = []
    rows, by_score = _rows(file, remarks)
    rows = _numbered(rows, users, items, remarks)
    if rows.is_empty():
        raise DataError(
            f"{file}: found no row whose user and item are of {like.path}, expected raw ids such "
            f"as user {users.ids[0]} and item {items.ids[0]}"
        )
    seed, num_items = int(config["seed"]), len(items)
    exclude = data.train.union(data.val)
    order = tie_order(items.ids.to_list(), seed)
    among = torch.unique(data.test.items) if data.about.get("items_apart") else None
    evaluated = Candidates(torch.unique(data.test.users), data.test, exclude, order, among)
    num_ranked = num_items if among is None else len(among)
    ks = [int(k) for k in config["ranking"]["ks"] if int(k) <= num_ranked]
    ranking = rank(RankedLists(rows, num_items).score_all, evaluated, max(ks))
    popular = data.popularity.float()
    control = rank(lambda u: popular.repeat(len(u), 1), evaluated, max(ks))
    counts = _counts(rows, evaluated, ranking, ks, remarks)
    metrics = {f"lists/{key}": float(value) for key, value in counts.items()}
    for prefix, each in (("", ranking), (f"{BASELINE}/", control)):
        values = _metrics(each, data, ks)
        metrics |= {f"{prefix}test/{key}": value for key, value in values.items()}
    if not by_score:  # ranks do not say which items are tied
        metrics = {k: v for k, v in metrics.items() if not k.startswith("test/tied_users@")}
    if not bool(ranking.hits.any()):
        remarks.append(
            "no list has a test positive among the ranked items; lists that leave out everything "
            "a user has seen (kgrec recommend without --include-seen) leave out test positives too"
        )
    remarks.append("AUC, F1 and slices are absent: lists do not score the test rows")
    settings = {**config, "paths": {**config["paths"], "run": str(out)}}
    with atomic_folder(out) as incoming:
        folder = RunFolder(incoming)
        _write(folder, like, settings, name, file)
        for system, each in ((name, ranking), (BASELINE, control)):
            folder.write_users(system, users_frame(data.ids, data.train, each, ks))
        folder.write_metrics(metrics)
    return ScoredLists(out, metrics, remarks)


def _checked(like: RunFolder, name: str, out: Path) -> dict[str, Any]:
    """The configuration of the run, after checks of all arguments but the file."""
    if like.kind != VALIDATED:
        raise ConfigError(f"--like: found {like.path} without a test, expected a run with one")
    if not re.fullmatch(r"[\w.+-]+", name) or name.strip(".") == "" or name in CONTROLS:
        raise ConfigError(
            f"--name: found {name!r}, expected letters, digits, _, -, + or ., and not the name of "
            f"a control ({', '.join(CONTROLS)})"
        )
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"--out: found files in {out}, expected a new folder")
    config = like.config()
    ranking = config.get("ranking") or {}
    if (kind := ranking.get("name")) != "full" or min(ranking.get("ks") or [0]) < 1:
        raise ConfigError(
            f"--like: found {like.path} with ranking={kind}, expected a run with ranking=full"
        )
    return config


def _rows(file: Path, remarks: list[str]) -> tuple[pl.DataFrame, bool]:
    """``user``, ``item`` and ``order`` (ascending: best first), and whether scores gave the order.

    Raises:
        DataError: the file or a column is missing or malformed.
    """
    table = _table(file)
    columns = table.frame.columns
    if "rank" not in columns and "score" not in columns:
        raise DataError(f"{file}: found no column rank or score, expected one of them, and user, "
                        f"item; the columns are {several(columns)}")  # fmt: skip
    by_score = "rank" not in columns
    order = table.numbers("score" if by_score else "rank", "FILE")
    if by_score:
        order = -order
    rows = pl.DataFrame({
        "user": table.ids("user", "FILE"), "item": table.ids("item", "FILE"),
        "order": order,
    })  # fmt: skip
    whole = rows.drop_nulls()
    _remark(remarks, rows.height - whole.height, "rows without a user, an item or a "
            f"{'score' if by_score else 'rank'}", "left out")  # fmt: skip
    best = whole.sort("order", maintain_order=True).unique(
        ["user", "item"], keep="first", maintain_order=True
    )
    _remark(remarks, whole.height - best.height, "duplicates of a user and an item",
            "left out; the best place counts")  # fmt: skip
    return best, by_score


def _table(file: Path) -> UserTable:
    """A table in CSV, TSV, Parquet or JSON lines."""
    if file.suffix not in JSON_LINES or not file.is_file():
        return UserTable(file)
    return UserTable(file, frame=read_json_lines(file, ("user", "item", "rank", "score")))


def _numbered(rows: pl.DataFrame, users: RawIds, items: RawIds, remarks: list[str]) -> pl.DataFrame:
    """Rows of known users and items: numbers of both, and ``place`` from 1; equal orders tie."""
    for name, known in (("user", users), ("item", items)):
        numbers = pl.DataFrame({name: known.ids}).with_row_index(f"{name}_number")
        joined = rows.join(numbers, on=name, how="left", maintain_order="left")
        unknown = joined.filter(pl.col(f"{name}_number").is_null())
        ids = unknown[name].unique(maintain_order=True)
        shown = several(ids.head(EXAMPLES)) + (", …" if len(ids) > EXAMPLES else "")
        _remark(remarks, unknown.height, f"rows of {len(ids)} unknown {name}s ({shown})",
                "left out")  # fmt: skip
        rows = joined.drop_nulls(f"{name}_number")
    place = pl.col("order").rank("dense").over("user")
    return rows.select(pl.col("user_number").alias("user"), pl.col("item_number").alias("item"),
                       place.alias("place"))  # fmt: skip


def _counts(
    rows: pl.DataFrame, evaluated: Candidates, ranking: Ranking, ks: Sequence[int],
    remarks: list[str],
) -> dict[str, int]:  # fmt: skip
    """Counts for metrics.json: users, seen items, missing and short lists."""
    users = torch.tensor(rows["user"].to_list(), dtype=torch.int64)
    items = torch.tensor(rows["item"].to_list(), dtype=torch.int64)
    tested = torch.isin(users, evaluated.users)
    seen = int(evaluated.exclude.contains(users[tested], items[tested]).sum())
    others = len(torch.unique(users[~tested]))
    lengths = (ranking.items >= 0).sum(dim=1)
    missing = int((lengths == 0).sum())
    n = len(evaluated.users)
    _remark(remarks, others, "users without a test positive", "not evaluated")
    _remark(remarks, seen, "items that their users have in training or validation", "left out")
    _remark(remarks, missing, f"of {n} test users have no list", "their metrics are 0")
    counts = {"users": n, "rows": rows.height, "seen_items": seen, "users_without_list": missing}
    for k in ks:
        counts[f"users_with_fewer_than_{k}"] = short = int((lengths < k).sum())
        if k == max(ks):
            _remark(remarks, short, f"of {n} test users have lists of fewer than {k} items",
                    "missing places count as misses")  # fmt: skip
    return counts


def _metrics(ranking: Ranking, data: KeptData, ks: Sequence[int]) -> dict[str, float]:
    """Means over users, and metrics over all users together; without what is undefined.

    Lists of one item have no diversity, for example.
    """
    values = {name: float(each.mean()) for name, each in per_user(ranking, ks).items()}
    size = data.train.num_users
    values |= overall(ranking, data.popularity, ks, size, data.neighborhood)
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _write(folder: RunFolder, like: RunFolder, config: Any, name: str, file: Path) -> None:
    """Writes what the folder of every run has, with the data and the split of ``like``."""
    choices = {**like.environment().get("choices", {}), "model": name, "settings": "none"}
    marks = {"kind": LISTS, "lists": str(file.absolute()), "like": str(like.path.absolute())}
    overrides: list[str] = []
    settings = {**config, "model": {"_target_": f"kgrec.lists.{name}"}, "settings": "none"}
    folder.write_inputs(
        OmegaConf.to_yaml(OmegaConf.create(settings)),
        environment() | {"choices": choices, "overrides": overrides} | marks,
        like.dataset(),
    )


def _remark(remarks: list[str], count: int, what: str, consequence: str) -> None:
    """Adds a sentence on something that happened."""
    if count:
        remarks.append(f"{count} {what}: {consequence}")
