"""Synthetic twins: raw files with the size and shape of a public data set, and planted truth.

Their content is drawn by :mod:`kgrec.data.synthetic.planted`. Files are written in pieces, one for
each archetype of users, so that the number of items bounds the memory.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from filelock import FileLock

from kgrec.data.dataset import PreparedData
from kgrec.data.formats import FORMATS, released_raw
from kgrec.data.loading import load
from kgrec.data.synthetic.planted import TwinGenerator
from kgrec.data.synthetic.shapes import SHAPES
from kgrec.data.synthetic.small import generate
from kgrec.errors import ConfigError
from kgrec.files import atomic_folder, is_empty, make_folder, user_path, write_json

log = logging.getLogger(__name__)

VERSION = 1
"""Version of the draws; folders of another version are written again."""

_ABOUT = "twin.json"


def synthetic(
    like: str | None = None,
    scale: float = 1,
    format: str = "released_raw",  # noqa: A002
    data_dir: str = "data",
    cache: str | None = None,
    seed: int = 0,
    num_users: int = 300,
    num_items: int = 400,
    num_relations: int = 4,
    attributes_per_relation: int = 15,
    edges_per_relation: int = 2,
    positives_per_user: int = 60,
    taste: float = 1.5,
    popularity: float = 0.2,
    noise: float = 0.1,
) -> PreparedData:
    """The target of conf/dataset/synthetic.yaml: a small planted data set, or a twin.

    Args:
        like: movie, book or music, for a twin of that data set; None: a small data set.
        scale: the twin's share of users, items, rows and triples.
        format: format of the raw files, a key of ``formats.FORMATS``.
        data_dir: data folder of the project; the raw files go to a folder in it.
        cache: folder of prepared data, or None.
        seed: seed of every draw.
        num_users: users of the small data set; for this and the following arguments see
            :func:`kgrec.data.synthetic.small.generate`.
        num_items: items.
        num_relations: relations.
        attributes_per_relation: attribute entities per relation.
        edges_per_relation: attributes per item and relation.
        positives_per_user: mean number of positives per user.
        taste: standard deviation of a user's preferences for relations.
        popularity: weight of an item's appeal.
        noise: standard deviation of the noise.

    Raises:
        ConfigError: a value is not valid.
    """
    if like is None:
        return generate(
            "synthetic", seed, num_users, num_items, num_relations, attributes_per_relation,
            edges_per_relation, positives_per_user, taste, popularity, noise,
        )  # fmt: skip
    check(like, scale, format)
    name = f"synthetic-{like}" + ("" if scale == 1 else f"-{scale:g}")
    folder = user_path(data_dir) / f"{name}-seed{seed}-{format}"
    make_folder(folder.parent)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not is_twin(folder, like, scale, format, seed):
            write_twin(folder, like, scale, format, seed)
    return load(
        name=name,
        sources=[],
        root=str(folder),
        data_dir=data_dir,
        # Files of formats without ratings have only the positives.
        min_rating=SHAPES[like].min_rating if FORMATS[format].has_ratings else None,
        unlinked="drop",
        seed=seed,
        table1=table1(like) if scale == 1 else None,
        cache=cache,
    )


def check(like: str, scale: float, format: str) -> None:  # noqa: A002
    """Raises ConfigError for values that are not valid."""
    if like not in SHAPES:
        raise ConfigError(f"dataset.like: found {like!r}, expected one of {', '.join(SHAPES)}")
    if format not in FORMATS:
        raise ConfigError(f"dataset.format: found {format!r}, expected one of {', '.join(FORMATS)}")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise ConfigError(f"dataset.scale: found {scale!r}, expected a number above 0, at most 1")
    shape = SHAPES[like]
    # Users keep their number of rows, so there must be enough items for them.
    least = max(200 / shape.items, 4.5 * shape.rows / shape.raw_users / shape.raw_items)
    if scale < least:
        raise ConfigError(f"dataset.scale: found {scale}, expected at least {least:.2g}")


def table1(like: str) -> dict[str, int]:
    """Sizes in Table 1 of the KGCN paper."""
    shape = SHAPES[like]
    names = ("users", "items", "positives", "entities", "relations", "triples")
    return {name: getattr(shape, name) for name in names}


def is_twin(folder: Path, like: str, scale: float, format: str, seed: int) -> bool:  # noqa: A002
    """Whether a folder has all files that :func:`write_twin` would write."""
    try:
        record = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in record["bytes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    expected = {"version": VERSION, "like": like, "scale": scale, "format": format, "seed": seed}
    return sizes == record["bytes"] and expected == {key: record.get(key) for key in expected}


def write_twin(folder: Path, like: str, scale: float, format: str, seed: int) -> None:  # noqa: A002
    """Writes raw files and the planted truth, whole or not at all.

    ``planted_users.parquet`` has the archetype of each user, ``planted_preferences.parquet`` the
    preference a_g[r] of each archetype for each relation.

    Args:
        folder: a new folder, or the folder of an earlier twin.
        like: movie, book or music.
        scale: share of users, items, rows and triples.
        format: a key of ``formats.FORMATS``.
        seed: seed of every draw.

    Raises:
        ConfigError: a value is not valid, or the folder has other files.
    """
    check(like, scale, format)
    if folder.exists() and not is_empty(folder) and not (folder / _ABOUT).is_file():
        raise ConfigError(f"{folder}: found a folder that is not empty, expected a new one")
    log.info("writing %s: synthetic data like %s", folder, like)
    shape = SHAPES[like].scaled(scale)
    with atomic_folder(folder) as incoming:
        generator = TwinGenerator(shape, seed)
        tables = generator.tables(format)
        if format == "released_raw":
            released_raw.write(incoming, tables, generator.pieces(format), shape.ratings)
        else:
            FORMATS[format].write(incoming, tables, generator.pieces(format))
        generator.users_table().write_parquet(incoming / "planted_users.parquet")
        generator.preferences_table().write_parquet(incoming / "planted_preferences.parquet")
        record = {
            "version": VERSION, "like": like, "scale": scale, "format": format, "seed": seed,
            "bytes": {path.name: path.stat().st_size for path in sorted(incoming.iterdir())},
        }  # fmt: skip
        write_json(incoming / _ABOUT, record, sync=False)
