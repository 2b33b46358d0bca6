"""The target of every conf/dataset file: find, read, prepare and cache a data set."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgrec.data.cache import cached
from kgrec.data.dataset import PreparedData
from kgrec.data.formats import Format
from kgrec.data.prepare import prepare
from kgrec.data.rows import Rows
from kgrec.data.sources.locate import locate
from kgrec.data.sources.public_files import Source
from kgrec.errors import ConfigError
from kgrec.files import user_path

log = logging.getLogger(__name__)


def load(
    name: str,
    sources: Sequence[Mapping[str, Any]],
    root: str | None,
    data_dir: str,
    min_rating: float | None,
    unlinked: str,
    seed: int,
    table1: Mapping[str, int] | None = None,
    columns: Mapping[str, str] | None = None,
    pool_splits: bool = False,
    inverses: str = "keep",
    cache: str | None = None,
    weights: str = "ignore",
    user_graph: str = "ignore",
) -> PreparedData:
    """Finds, reads and prepares a data set.

    Args:
        name: name of the data set.
        sources: public forms of its files, see :class:`kgrec.data.sources.public_files.Source`.
        root: folder that the user names, or None.
        data_dir: data folder of the project.
        min_rating: lowest rating of a positive; None: every interaction is a positive.
        unlinked: "drop" or "keep" items without an entity.
        seed: seed of the split and of the evaluation negatives.
        table1: sizes in Table 1 of the KGCN paper, for comparison.
        columns: for CSV and Parquet, names of columns in the files.
        pool_splits: whether to ignore the split given in the files.
        inverses: "keep" or "merge" pairs of inverse relations.
        cache: folder of prepared data; None: prepare the data each time.
        weights: "ignore", "use" or "repeats": weights of the positives in training.
        user_graph: "ignore" or "use" the attributes of users and the links between them.

    Raises:
        ConfigError: an unknown value.
        DataError: files are missing or malformed, or do not fit together.
    """
    if not isinstance(pool_splits, bool):
        raise ConfigError(f"dataset.pool_splits: found {pool_splits!r}, expected true or false")
    public = [Source.from_config(source) for source in sources]
    if user_graph == "use":
        public = [_with_users(source) for source in public]
    located = locate(
        name,
        public,
        user_path(root) if root is not None else None,
        user_path(data_dir),
    )
    named = {key: value for key, value in (columns or {}).items() if value is not None}
    settings: dict[str, Any] = {
        "min_rating": min_rating,
        "unlinked": unlinked,
        "pool_splits": pool_splits,
        "inverses": inverses,
        "weights": weights,
        "user_graph": user_graph,
    }

    folder = user_path(cache) if cache is not None else None

    def make() -> PreparedData:
        disk = folder if folder is not None and os.access(folder, os.W_OK) else None
        log.info("preparing %s from %s", name, located.folder)
        return prepare(
            located.format.read(located.folder, named, Rows(disk)),
            name,
            place=str(located.folder),
            **settings,
        )

    inputs = {
        # The prepared data depend on the code of these functions, and on all that it imports.
        "modules": [Format.read.__module__, prepare.__module__],
        "name": name,
        "format": located.format.name,
        "files": located.files,
        "columns": named,
        **settings,
    }
    data = cached(folder, name, inputs, make)
    return replace(data, seed=seed, files=located.files, published_counts=dict(table1 or {}))


def _with_users(source: Source) -> Source:
    """A source whose file on users is required, so that it is fetched where it is missing."""
    files = [
        replace(file, optional=False) if Path(file.name).suffix == ".user" else file
        for file in source.files
    ]
    return replace(source, files=tuple(files))
