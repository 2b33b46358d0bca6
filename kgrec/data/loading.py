"""The target of every conf/dataset file: find, read, prepare, keep."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kgrec.data.cache import cached
from kgrec.data.dataset import PreparedData
from kgrec.data.prepare import prepare
from kgrec.data.sources.locate import locate
from kgrec.data.sources.public_files import Source
from kgrec.errors import ConfigError

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
    cache: str | None = None,
) -> PreparedData:
    """Finds, reads and prepares a data set.

    Args:
        name: of the data set.
        sources: the public forms of its files, see :class:`kgrec.data.sources.public_files.Source`.
        root: the folder that the user names, or None.
        data_dir: the project's data folder.
        min_rating: ratings below it are no positives; None: every interaction is one.
        unlinked: "drop" or "keep" items that no entity is known for.
        seed: for the split and the evaluation negatives.
        table1: sizes that the KGCN paper's Table 1 gives, to be shown beside ours.
        columns: for CSV and Parquet, the files' own names of columns.
        pool_splits: forget the parts that the files come split into.
        cache: the folder that prepared data are kept in; None: prepare anew each time.

    Raises:
        ConfigError: an unknown value.
        DataError: files that are missing, malformed or do not fit together.
    """
    if not isinstance(pool_splits, bool):
        raise ConfigError(f"dataset.pool_splits: found {pool_splits!r}, expected true or false")
    found = locate(
        name,
        [Source.from_config(source) for source in sources],
        Path(root).expanduser() if root is not None else None,
        Path(data_dir),
    )
    named = {key: value for key, value in (columns or {}).items() if value is not None}
    settings = {"min_rating": min_rating, "unlinked": unlinked, "pool_splits": pool_splits}

    def make() -> PreparedData:
        log.info("preparing %s from %s", name, found.folder)
        raw = found.format.read(found.folder, named)
        return prepare(
            raw, name, min_rating, unlinked, pool_splits=pool_splits, place=str(found.folder)
        )

    inputs = {
        "name": name,
        "format": found.format.name,
        "files": found.files,
        "columns": named,
        **settings,
    }
    data = cached(Path(cache).expanduser() if cache is not None else None, name, inputs, make)
    return replace(data, seed=seed, files=found.files, published_counts=dict(table1 or {}))
