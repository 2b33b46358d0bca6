"""``kgrec recommend``: the best items for users of a finished run, or for new users."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec.commands.run_choice import (
    add_run,
    add_weigh,
    load_run,
    read_histories,
    read_items,
    relation_weights,
    say,
    split_items,
)  # fmt: skip
from kgrec.errors import ConfigError, DataError

if TYPE_CHECKING:
    import polars as pl

    from kgrec.inference.loaded_model import LoadedModel

FORMATS = ("table", "json", "csv")
OUT = (".parquet", ".csv", ".json")
MANY_USERS = 1000  # from which on progress is shown
WHY_TOP = 3  # reasons from which the line is made
NAMED_IN_FULL = 5  # unknown candidates that a message names


def add_parser(commands: Any) -> None:
    """Adds this command to ``kgrec``."""
    parser = commands.add_parser(
        "recommend",
        help="recommend items with a finished run, to its users or to new ones",
        description="Recommends items with the model of a finished run. The training data are not "
        "needed. Items that a user has interacted with are left out.",
        epilog="examples: kgrec recommend latest --user 196; "
        "kgrec recommend logs/sweeps/A --history 'Toy Story,50' -k 5; "
        "kgrec recommend latest --user 196 --weigh director=2 --weigh genre=0.5; "
        "kgrec recommend latest --all-users --out recs.parquet",
    )
    add_run(parser, FORMATS)
    parser.add_argument("--user", nargs="+", default=[], metavar="ID", help="ids of users")
    parser.add_argument("--all-users", action="store_true", help="all users of the run")
    parser.add_argument(
        "--history", metavar="ITEMS",
        help="items that a new user likes, with commas between them; or a file with columns user "
        "and item, for many new users",
    )  # fmt: skip
    parser.add_argument("-k", type=int, default=10, help="items per user (default: %(default)s)")
    parser.add_argument(
        "--include-seen", action="store_true", help="also recommend items that the user has seen"
    )
    parser.add_argument(
        "--candidates", metavar="FILE",
        help="items to choose from: one id or title per line, or a table with a column item",
    )  # fmt: skip
    add_weigh(parser)
    parser.add_argument(
        "--index", choices=("faiss",),
        help="find the best items by an approximate index: for catalogues of 100,000 items and "
        "more, of a model whose score is one inner product; needs pip install 'kgrec[ann]'",
    )  # fmt: skip
    parser.add_argument(
        "--why", action="store_true", help="also say why, in one line for each item"
    )
    parser.add_argument(
        "--out", metavar="FILE", help=f"file to write: {', '.join(OUT)} (JSON: one line per item)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Prints or writes the recommendations."""
    out = None if arguments.out is None else _checked_out(Path(arguments.out).expanduser())
    if not (arguments.user or arguments.all_users or arguments.history is not None):
        raise ConfigError(
            "found no user, expected --user ID, --all-users, or --history for a new user"
        )
    if arguments.user and arguments.all_users:
        raise ConfigError("--user: found ids and --all-users, expected one of them")
    weights = relation_weights(arguments.weigh)
    rec = load_run(arguments)
    history = None if arguments.history is None else _history(arguments.history, rec)
    users = rec.data.ids.users["user"] if arguments.all_users else _distinct(arguments.user)
    candidates = None
    if arguments.candidates is not None:
        candidates = _candidates(Path(arguments.candidates).expanduser(), rec)
    options = arguments.k, not arguments.include_seen, candidates
    parts: list[Iterator[pl.DataFrame]] = []
    if users is not None:
        known = rec.recommend_blocks(users, *options, relation_weights=weights)
        parts.append(_with_reasons(known, rec, None, weights) if arguments.why else known)
    if history is not None:
        new = rec.recommend_blocks(None, *options, history, relation_weights=weights)
        parts.append(_with_reasons(new, rec, history, weights) if arguments.why else new)
    count = len(set(users)) if users is not None else 0
    if history is not None:
        count += 1 if isinstance(history, list) else history["user"].n_unique()
    blocks = _counted(itertools.chain(*parts), count, arguments.k)
    if out is not None:
        _write(_with_progress(blocks, count), out)
        say(f"wrote {out}")
    elif arguments.format == "csv":
        for number, block in enumerate(blocks):
            sys.stdout.write(block.write_csv(include_header=number == 0))
    elif arguments.format == "json":
        text = json.dumps(_as_json(rec, blocks), indent=2, ensure_ascii=False, allow_nan=False)
        sys.stdout.write(text + "\n")
    else:
        _show(rec, blocks)


def _counted(blocks: Iterable[pl.DataFrame], users: int, k: int) -> Iterator[pl.DataFrame]:
    """The blocks; says at the end how many users have fewer than k items, or none."""
    answered, fewer = 0, 0
    for block in blocks:
        sizes = block.group_by("user").len()["len"]
        answered += len(sizes)
        fewer += int((sizes < k).sum())
        yield block
    if fewer:
        say(f"{fewer} of {users} users have fewer than {k} items left to recommend")
    if answered < users:
        say(f"{users - answered} of {users} users have no item left to recommend")


def _checked_out(path: Path) -> Path:
    """The output file.

    Raises:
        ConfigError: it could not be written.
    """
    if path.suffix not in OUT:
        raise ConfigError(f"--out: found {path}, expected a name that ends in {', '.join(OUT)}")
    if path.is_dir() or not path.parent.is_dir():
        place = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise ConfigError(f"--out: found {place}, expected a file in a folder that exists")
    return path


def _distinct(ids: list[str]) -> list[str] | None:
    """Each id once, or None for no id; says how many were repeated."""
    distinct = list(dict.fromkeys(ids))
    if repeated := len(ids) - len(distinct):
        say(f"--user: {repeated} repeated {'id' if repeated == 1 else 'ids'} left out")
    return distinct or None


def _history(text: str, rec: LoadedModel) -> list[str] | pl.DataFrame:
    """The history of one new user, or a table of histories.

    Raises:
        DataError: an item is unknown, or there is none.
    """
    from kgrec.inference.histories import read_history

    path = Path(text).expanduser()
    is_table = path.suffix in (".csv", ".tsv", ".parquet") or ("/" in text and path.is_file())
    history = read_histories(path) if is_table else split_items(text, rec.item_ids)
    read_history(history, rec.item_ids)  # an error in it comes before any output
    return history


def _candidates(path: Path, rec: LoadedModel) -> list[str]:
    """Known items of a file; unknown ones are counted and listed.

    Raises:
        DataError: no item of the file is known.
    """
    ids = read_items(path)
    _, unknown = rec.item_ids.find(ids)
    if unknown:
        distinct = list(dict.fromkeys(unknown))
        listed = ", ".join(distinct[:NAMED_IN_FULL])
        listed += ", …" if len(distinct) > NAMED_IN_FULL else ""
        if len(unknown) == len(ids):
            raise DataError(f"{path}: {rec.item_ids.unknown(unknown)}")
        say(f"{path}: {len(unknown)} of {len(ids)} candidates are unknown and left out: {listed}")
    left_out = set(unknown)
    return [each for each in ids if each not in left_out]


def _with_reasons(
    blocks: Iterable[pl.DataFrame],
    rec: LoadedModel,
    history: list[str] | pl.DataFrame | None,
    weights: dict[str, float],
) -> Iterator[pl.DataFrame]:
    """The blocks with a column ``why``.

    Args:
        blocks: recommendations.
        rec: loaded model.
        history: items of new users; None: the blocks are of users of the run.
        weights: multipliers of relations.
    """
    import polars as pl

    for block in blocks:
        parts = []
        for (user,), rows in block.group_by("user", maintain_order=True):
            own = history
            if isinstance(history, pl.DataFrame):
                own = history.filter(pl.col("user") == user)
            explainer = rec.explainer(str(user), own, weights)
            numbers = rec.item_ids.numbers(rows["item"]).tolist()
            why = [explainer.explain(number, WHY_TOP).why() for number in numbers]
            parts.append(rows.with_columns(why=pl.Series(why, dtype=pl.String)))
        yield pl.concat(parts)


def _with_progress(blocks: Iterable[pl.DataFrame], users: int) -> Iterator[pl.DataFrame]:
    """The blocks, with a progress bar on a terminal if there are many users."""
    from rich.console import Console
    from rich.progress import Progress

    if users < MANY_USERS or not sys.stderr.isatty():
        yield from blocks
        return
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("users", total=users)
        for block in blocks:
            yield block
            progress.advance(task, block["user"].n_unique())


def _write(blocks: Iterable[pl.DataFrame], out: Path) -> None:
    """Writes blocks one by one under a temporary name, then renames the file."""
    import polars as pl

    from kgrec.files import put_in_place, scratch_folder

    with scratch_folder(out) as folder:
        parts = []
        for number, block in enumerate(blocks):
            parts.append(folder / f"{number:06}.parquet")
            block.write_parquet(parts[-1])
        whole, rows = folder / "whole", pl.scan_parquet(parts, glob=False)
        if out.suffix == ".parquet":
            rows.sink_parquet(whole)
        elif out.suffix == ".csv":
            rows.sink_csv(whole)
        else:
            rows.sink_ndjson(whole)
        put_in_place(whole, out)


def _as_json(rec: LoadedModel, blocks: Iterable[pl.DataFrame]) -> dict[str, Any]:
    """Recommendations by user."""
    users = [
        {
            "user": user,
            "source": rows["source"][0],
            "recommended": rows.drop("user", "source").to_dicts(),
        }
        for block in blocks
        for (user,), rows in block.group_by("user", maintain_order=True)
    ]
    return {"run": str(rec.folder), "model": rec.name, "users": users}


def _show(rec: LoadedModel, blocks: Iterable[pl.DataFrame]) -> None:
    """Prints one table per user."""
    from rich.console import Console
    from rich.table import Table

    from kgrec.errors import printable
    from kgrec.reports.foreign_text import rich_text

    console = Console(highlight=False)
    for block in blocks:
        for (user,), rows in block.group_by("user", maintain_order=True):
            about = f"user {user}, {rec.name}"
            if (source := rows["source"][0]) != "model":
                about += f", by {source}"
            console.print(printable(about), markup=False)
            table = Table()
            table.add_column("", justify="right")
            table.add_column("item", overflow="fold")
            named = rows["name"].null_count() < rows.height
            if named:
                table.add_column("name", overflow="ellipsis", no_wrap=True)
            table.add_column("score", justify="right")
            with_reasons = "why" in rows.columns
            if with_reasons:
                table.add_column("why", overflow="fold")
            for row in rows.iter_rows(named=True):
                rank, item, name, score = (row[key] for key in ("rank", "item", "name", "score"))
                reasons = [rich_text(row["why"])] if with_reasons else []
                names = [rich_text(name or "")] if named else []
                digits = 0 if source == "popularity" else 4
                table.add_row(str(rank), rich_text(item), *names, f"{score:.{digits}f}", *reasons)
            console.print(table)
