"""Synthetic twins: raw files with the sizes and shapes of a public data set, and planted truth.

The truth is a KGCN teacher, as in :mod:`kgrec.data.synthetic`: each archetype of users g has a
preference a_g for relations and a taste t_g in attributes, each attribute entity a vector z, and

    score(g, v) = t_g · tanh(Σ_e softmax_e(a_g[r(v, e)]) · z_e)

A user of archetype g chooses its positives one after the other, each with a probability in
proportion to appeal(v) · exp(taste · score(g, v)); the appeals are fitted so that the popularity of
items has the shape of the real data's. Files are written piece by piece, an archetype each, so
that memory is bounded by the number of items.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from kgrec.data.dataset import PreparedData
from kgrec.data.formats import FORMATS, released_raw
from kgrec.data.loading import load
from kgrec.data.raw_tables import RawTables
from kgrec.data.shapes import SHAPES, Counts, Shape, draw_counts
from kgrec.data.synthetic import generate
from kgrec.errors import ConfigError

log = logging.getLogger(__name__)

VERSION = 1
"""Of what is drawn: folders of another version are written anew."""

DIMENSION = 4
TASTE = 2.0
_ABOUT = "twin.json"
Floats = NDArray[np.float64]


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
    """The target of conf/dataset/synthetic.yaml: a small planted set, or a twin.

    Args:
        like: movie, book or music, for raw files of its size; None: a small data set.
        scale: share of the users, items, rows and triples of ``like``.
        format: that the raw files are written in, a key of ``formats.FORMATS``.
        data_dir: the project's data folder; the raw files go to a folder in it.
        cache: the folder that prepared data are kept in, or None.
        seed: of every draw.
        num_users: of the small data set; as all that follow, see
            :func:`kgrec.data.synthetic.generate`.
        num_items: likewise.
        num_relations: likewise.
        attributes_per_relation: likewise.
        edges_per_relation: likewise.
        positives_per_user: likewise.
        taste: likewise.
        popularity: likewise.
        noise: likewise.

    Raises:
        ConfigError: a value that cannot work.
    """
    if like is None:
        return generate(
            "synthetic", seed, num_users, num_items, num_relations, attributes_per_relation,
            edges_per_relation, positives_per_user, taste, popularity, noise,
        )  # fmt: skip
    check(like, scale, format)
    name = f"synthetic-{like}" + ("" if scale == 1 else f"-{scale:g}")
    folder = Path(data_dir) / f"{name}-seed{seed}-{format}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if not is_twin(folder, like, scale, format, seed):
            write_twin(folder, like, scale, format, seed)
    return load(
        name=name,
        sources=[],
        root=str(folder),
        data_dir=data_dir,
        # Formats without ratings hold the positives alone.
        min_rating=SHAPES[like].min_rating if has_ratings(format) else None,
        unlinked="drop",
        seed=seed,
        table1=table1(like) if scale == 1 else None,
        cache=cache,
    )


def check(like: str, scale: float, format: str) -> None:  # noqa: A002
    """Raises ConfigError for values that cannot work."""
    if like not in SHAPES:
        raise ConfigError(f"dataset.like: found {like!r}, expected one of {', '.join(SHAPES)}")
    if format not in FORMATS:
        raise ConfigError(f"dataset.format: found {format!r}, expected one of {', '.join(FORMATS)}")
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise ConfigError(f"dataset.scale: found {scale!r}, expected a number above 0, at most 1")
    shape = SHAPES[like]
    # Users keep their rows, so that few items would be too few for them.
    least = max(200 / shape.items, 4.5 * shape.rows / shape.raw_users / shape.raw_items)
    if scale < least:
        raise ConfigError(f"dataset.scale: found {scale}, expected at least {least:.2g}")


def table1(like: str) -> dict[str, int]:
    """The sizes of Table 1 of the KGCN paper."""
    shape = SHAPES[like]
    names = ("users", "items", "positives", "entities", "relations", "triples")
    return {name: getattr(shape, name) for name in names}


def has_ratings(format: str) -> bool:  # noqa: A002
    """Whether files of a format say how an item was rated."""
    return format not in ("released_final", "kgat")


def is_twin(folder: Path, like: str, scale: float, format: str, seed: int) -> bool:  # noqa: A002
    """Whether a folder holds, whole, what :func:`write_twin` would write."""
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        sizes = {name: (folder / name).stat().st_size for name in about["bytes"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = {"version": VERSION, "like": like, "scale": scale, "format": format, "seed": seed}
    return sizes == about["bytes"] and wanted == {key: about.get(key) for key in wanted}


def write_twin(folder: Path, like: str, scale: float, format: str, seed: int) -> None:  # noqa: A002
    """Writes raw files, and beside them what was planted; whole or not at all.

    ``planted_users.parquet`` tells each user's archetype, ``planted_preferences.parquet`` the
    preference a_g[r] of each archetype for each relation.

    Args:
        folder: new, or one that an earlier version wrote.
        like: movie, book or music.
        scale: share of its users, items, rows and triples.
        format: a key of ``formats.FORMATS``.
        seed: of every draw.

    Raises:
        ConfigError: a value that cannot work, or a folder with other things in it.
    """
    check(like, scale, format)
    if folder.exists() and any(folder.iterdir()) and not (folder / _ABOUT).is_file():
        raise ConfigError(f"{folder}: found a folder that is not empty, expected a new one")
    log.info("writing %s: synthetic data like %s", folder, like)
    shape = SHAPES[like].scaled(scale)
    # The files of some formats are named after their folder.
    incoming = folder.parent / f".incoming-{folder.name}" / folder.name
    shutil.rmtree(incoming.parent, ignore_errors=True)
    incoming.mkdir(parents=True)
    try:
        twin = _Twin(shape, seed)
        tables = twin.tables(format)
        if format == "released_raw":
            released_raw.write(incoming, tables, twin.pieces(format), shape.ratings)
        else:
            FORMATS[format].write(incoming, tables, twin.pieces(format))
        twin.users_table().write_parquet(incoming / "planted_users.parquet")
        twin.preferences_table().write_parquet(incoming / "planted_preferences.parquet")
        about = {
            "version": VERSION, "like": like, "scale": scale, "format": format, "seed": seed,
            "bytes": {path.name: path.stat().st_size for path in sorted(incoming.iterdir())},
        }  # fmt: skip
        (incoming / _ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        incoming.rename(folder)
    finally:
        shutil.rmtree(incoming.parent, ignore_errors=True)


class _Twin:
    """Everything that is drawn, but for the interactions, which come in pieces."""

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, self.seed = shape, seed
        self.rng = np.random.default_rng([seed, 1])
        # Raw ids: items and their entities have different numbers, in no order.
        self.item_ids = self.rng.permutation(shape.raw_items) + 1
        self.user_ids = self.rng.permutation(shape.raw_users) + 1
        self.entity_ids = self.rng.permutation(shape.entities)
        self._draw_graph()
        self._draw_users()
        self._draw_archetypes()
        self._fit_appeals()

    def _draw_graph(self) -> None:
        """Triples from items to attributes; each attribute and relation has one at least."""
        shape, rng = self.shape, self.rng
        num_attributes, R = shape.entities - shape.items, shape.relations
        degrees = draw_counts(
            shape.item_degree, shape.items, shape.triples, 1, max(2, num_attributes // 2)
        )
        heads = rng.permutation(np.repeat(rng.permutation(shape.items), degrees))
        # Every relation leads to attributes of its own, to the more of them the commoner it is.
        share = (1.0 + np.arange(R)) ** -shape.relation_exponent
        share /= share.sum()
        sizes = 1 + rng.multinomial(num_attributes - R, share)
        starts = np.cumsum(sizes) - sizes
        relations = np.empty(shape.triples, dtype=np.int64)
        tails = np.empty(shape.triples, dtype=np.int64)
        relations[:num_attributes] = np.repeat(np.arange(R), sizes)
        tails[:num_attributes] = np.arange(num_attributes)
        redraw = np.arange(num_attributes, shape.triples)
        while len(redraw):
            drawn = rng.choice(R, len(redraw), p=share)
            relations[redraw] = drawn
            # Some attributes (a genre, a country) are far commoner than others.
            tails[redraw] = starts[drawn] + (sizes[drawn] * rng.random(len(redraw)) ** 2).astype(
                int
            )
            keys = heads * num_attributes + tails  # the tail tells the relation
            first = np.unique(keys, return_index=True)[1]
            again = np.ones(shape.triples, dtype=bool)
            again[first] = False
            redraw = np.flatnonzero(again)
        self.heads, self.relations, self.tails = heads, relations, tails

    def _draw_users(self) -> None:
        """How many positives and how many other rows each raw user has."""
        shape, rng = self.shape, self.rng
        n, most = shape.users, shape.items // 3
        extra = shape.rows - shape.positives
        if shape.min_rating is not None:
            # Whole rows have the shape; a share of each user's is positive.
            room = min(shape.raw_items // 3, 3 * shape.items)
            least = min(int(shape.per_user[0]), shape.rows // shape.raw_users)
            rows = draw_counts(shape.per_user, shape.raw_users, shape.rows, least, room)
            rows = rng.permutation(rows)
            chosen = np.sort(rng.permutation(shape.raw_users)[:n])
            leaning = np.clip(rng.normal(1, 0.3, n), 0.2, 1.8) * rows[chosen]
            ideal = np.maximum(leaning * shape.positives / leaning.sum(), 1)
            most_here = np.minimum(rows[chosen] - 1, most)
            positives = np.zeros(shape.raw_users, dtype=np.int64)
            positives[chosen] = _fit_sum(ideal, shape.positives, 1, most_here)
            self.positives, self.others = positives, rows - positives
        else:
            counts = draw_counts(shape.per_user, n, shape.positives, 1, most)
            self.positives = np.zeros(shape.raw_users, dtype=np.int64)
            self.positives[rng.permutation(shape.raw_users)[:n]] = rng.permutation(counts)
            # Users without a positive must have some other row.
            self.others = (self.positives == 0).astype(np.int64)
            spare = extra - int(self.others.sum())
            self.others += rng.multinomial(
                max(spare, 0), np.full(shape.raw_users, 1 / shape.raw_users)
            )

    def _draw_archetypes(self) -> None:
        """Preferences and tastes, and which item each archetype likes how much."""
        shape, rng = self.shape, self.rng
        G, R, num_items = max(4, min(512, shape.users // 60)), shape.relations, shape.items
        self.archetype = rng.integers(G, size=shape.raw_users)
        self.preferences = rng.normal(size=(G, R)) * 1.5
        tastes = rng.normal(size=(G, DIMENSION))
        z = rng.normal(size=(shape.entities - num_items, DIMENSION))
        # By relation, so that the softmax over an item's neighbours is two products.
        cell = self.relations * num_items + self.heads
        counts = np.bincount(cell, minlength=R * num_items).reshape(R, -1).astype(np.float32)
        sums = np.stack(
            [
                np.bincount(cell, z[self.tails, k], minlength=R * num_items)
                for k in range(DIMENSION)
            ]
        ).astype(np.float32).reshape(DIMENSION, R, -1)  # fmt: skip
        weights = np.exp(self.preferences).astype(np.float32)  # (G, R)
        below = weights @ counts  # (G, I)
        scores = np.zeros_like(below)
        for k in range(DIMENSION):
            scores += tastes[:, k, None].astype(np.float32) * np.tanh(weights @ sums[k] / below)
        scores -= scores.mean(axis=1, keepdims=True)
        scores /= scores.std(axis=1, keepdims=True) + 1e-9
        liking = np.exp(TASTE * scores)
        self.liking = liking / liking.mean(axis=0)  # (G, I) the popularity of an item stays

    def _fit_appeals(self) -> None:
        """Appeals under which the popularity of items gets its shape."""
        shape, rng = self.shape, self.rng
        most = int(0.7 * shape.users)
        counts = draw_counts(shape.per_item, shape.raw_items, shape.rows, 0, most)
        popularity = rng.permutation(counts).astype(float)
        linked, free = popularity[: shape.items], popularity[shape.items :]
        if shape.min_rating is None:
            counts = draw_counts(shape.per_item, shape.items, shape.positives, 0, most)
            linked = rng.permutation(counts).astype(float)
        share = shape.positives / max(linked.sum(), 1)
        # An item that should have a positive has one: the first goes to a user at random, in
        # proportion to how many it has; the shape is of the others.
        sure = np.flatnonzero(linked * share >= 0.9)
        slots = np.repeat(np.arange(shape.raw_users), self.positives)
        sure = sure[: len(slots) // 2]
        self.first_owner = np.full(shape.items, -1)
        self.first_owner[sure] = rng.permutation(slots)[: len(sure)]
        left = self.positives - np.bincount(self.first_owner[sure], minlength=shape.raw_users)
        wanted = np.maximum(linked * share - (self.first_owner >= 0), 0.01)
        self.appeal = _fit_appeal(wanted, left[left > 0])
        # Other rows: linked items that are no positives, where there is a threshold, and items
        # that the graph does not know.
        rest = linked * max(1 - share, 0) if shape.min_rating is not None else np.zeros(shape.items)
        self.other_appeal = _fit_appeal(
            np.concatenate([rest, free + 0.01]), self.others[self.others > 0]
        )

    # -------------------------------------------------------------- what goes into the files

    def tables(self, format: str) -> RawTables:  # noqa: A002
        """Links and triples, and an interactions table that has columns but no rows."""
        shape = self.shape
        schema: dict[str, Any] = {"user": pl.String, "item": pl.String}
        if has_ratings(format):
            schema["rating"] = pl.Float64
            if format != "released_raw" or shape.ratings == "ratings.csv":
                schema["timestamp"] = pl.Float64
        if format == "kgat":
            schema["part"] = pl.Int8
        nodes = pl.Series(self.entity_ids).cast(pl.String)
        links = pl.DataFrame({
            "item": pl.Series(self.item_ids[: shape.items]).cast(pl.String),
            "entity": nodes[: shape.items],
        })  # fmt: skip
        triples = pl.DataFrame({
            "head": nodes[self.heads],
            "relation": ("relation" + pl.Series(self.relations).cast(pl.String)),
            "tail": nodes[self.tails + shape.items],
        })  # fmt: skip
        parts = {"part": pl.Series([0, 2], dtype=pl.Int8)} if format == "kgat" else {}
        empty = pl.DataFrame(schema=schema)
        if parts:  # the format asks which parts there are
            empty = pl.DataFrame({"user": ["", ""], "item": ["", ""], **parts})
        return RawTables(empty, links, triples)

    def pieces(self, format: str) -> Iterator[pl.DataFrame]:  # noqa: A002
        """The interactions, an archetype at a time."""
        columns = self.tables(format).interactions.columns
        archetypes = range(len(self.preferences))
        # disable=None: no bar where nobody looks.
        for g in tqdm(archetypes, desc="drawing", unit="archetype", disable=None, leave=False):
            users = np.flatnonzero(self.archetype == g)
            if len(users):
                piece = self._piece(g, users, positives_only=not has_ratings(format))
                yield piece.select(columns)

    def _piece(self, g: int, users: Counts, positives_only: bool) -> pl.DataFrame:
        shape, rng = self.shape, np.random.default_rng([self.seed, 2, g])
        number = np.full(shape.raw_users, -1)
        number[users] = np.arange(len(users))
        held = self.first_owner >= 0
        held[held] = number[self.first_owner[held]] >= 0
        items = np.flatnonzero(held)
        owners = number[self.first_owner[items]]
        left = self.positives[users] - np.bincount(owners, minlength=len(users))
        more_owners, more_items = _draw_distinct(
            left, self.appeal * self.liking[g], (owners, items), rng
        )
        owners, items = np.concatenate([owners, more_owners]), np.concatenate([items, more_items])
        liked = np.ones(len(items), dtype=bool)
        if not positives_only:
            more_owners, more_items = _draw_distinct(
                self.others[users], self.other_appeal, (owners, items), rng
            )
            owners = np.concatenate([owners, more_owners])
            items = np.concatenate([items, more_items])
            liked = np.concatenate([liked, np.zeros(len(more_items), dtype=bool)])
        n = len(items)
        if shape.min_rating is not None:
            high = rng.choice([4.0, 4.5, 5.0], n, p=[0.56, 0.15, 0.29])
            low = rng.choice(np.arange(1, 8) / 2, n, p=[0.03, 0.07, 0.03, 0.14, 0.09, 0.42, 0.22])
            unknown = items >= shape.items  # nothing is said of items without an entity
            rating = np.where(liked | (unknown & (rng.random(n) < 0.5)), high, low)
        elif shape.ratings == "BX-Book-Ratings.csv":
            rating = rng.integers(0, 11, n).astype(float)
        else:
            rating = np.ceil(rng.lognormal(5.5, 1.3, n))
        # A user comes at some time in twenty years and stays for some days.
        came = rng.uniform(789_652_009, 1_427_784_002, len(users))
        times = np.floor(came[owners] + rng.exponential(2e5, n))
        order = np.lexsort((times, owners))
        part = np.where(rng.random(n) < 0.8, 0, 2)
        return pl.DataFrame({
            "user": pl.Series(self.user_ids[users[owners]]).cast(pl.String),
            "item": pl.Series(self.item_ids[items]).cast(pl.String),
            "rating": rating,
            "timestamp": times,
            "part": pl.Series(part, dtype=pl.Int8),
        })[order]  # fmt: skip

    def users_table(self) -> pl.DataFrame:
        """``user, archetype``."""
        ids = pl.Series(self.user_ids).cast(pl.String)
        return pl.DataFrame({"user": ids, "archetype": self.archetype})

    def preferences_table(self) -> pl.DataFrame:
        """``archetype, relation, preference``."""
        G, R = self.preferences.shape
        return pl.DataFrame({
            "archetype": np.repeat(np.arange(G), R),
            "relation": [f"relation{r}" for r in range(R)] * G,
            "preference": self.preferences.ravel(),
        })  # fmt: skip


def _fit_sum(ideal: Floats, total: int, least: int, most: Counts) -> Counts:
    """Whole numbers near ``ideal``, each from ``least`` to its ``most``, with an exact sum."""
    low, high = 0.0, 1.0
    while np.clip(ideal * high, least, most).sum() < total:
        high *= 2
        if high > 1e9:
            raise ValueError(f"no numbers up to {most.sum()} in all sum to {total}")
    for _ in range(100):
        middle = (low + high) / 2
        small = np.clip(ideal * middle, least, most).sum() < total
        low, high = (middle, high) if small else (low, middle)
    counts = np.clip(np.floor(ideal * high), least, most).astype(np.int64)
    missing = total - int(counts.sum())
    while missing:
        step = np.sign(missing)
        able = np.flatnonzero(counts < most if step > 0 else counts > least)[: abs(missing)]
        counts[able] += step
        missing -= step * len(able)
    return counts


def _fit_appeal(popularity: Floats, draws: Counts) -> Floats:
    """Weights w under which items are drawn ``popularity`` times in all.

    A user who draws n items without replacement, each in proportion to w, gets item v with a
    probability of about 1 - exp(-w_v τ), τ such that these sum to n.
    """
    target = popularity * (draws.sum() / popularity.sum())
    sizes = np.quantile(draws, (np.arange(64) + 0.5) / 64)  # users in 64 bins by activity
    sizes *= draws.sum() / (sizes.sum() * len(draws) / 64)
    appeal: Floats = target / target.sum()
    tau = sizes.copy()
    for _ in range(30):
        for _ in range(8):  # Newton
            missed = np.exp(-np.outer(tau, appeal))
            slope = (missed * appeal).sum(axis=1)
            tau = np.maximum(
                tau - ((1 - missed).sum(axis=1) - sizes) / np.maximum(slope, 1e-12), 1e-6
            )
        found = (1 - np.exp(-np.outer(tau, appeal))).sum(axis=0) * len(draws) / 64
        appeal = appeal * np.clip(target / np.maximum(found, 1e-12), 0.25, 4)
        appeal /= appeal.sum()
    return appeal


def _draw_distinct(
    counts: Counts,
    weights: Floats,
    taken: tuple[Counts, Counts],
    rng: np.random.Generator,
) -> tuple[Counts, Counts]:
    """Draws ``counts[u]`` distinct items for each user, one after the other by weight.

    An exponential race: the items with the smallest Exp(1) / weight come first.

    Args:
        counts: (U,) how many items; few enough that so many can be drawn.
        weights: (I,) positive where an item can be drawn.
        taken: (users, items) that must not be drawn.
        rng: draws.

    Returns:
        (users, items).
    """
    users, items = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    never = weights <= 0
    slowness = (1 / np.where(never, 1, weights)).astype(np.float32)
    by_count = np.argsort(counts, kind="stable")
    by_count = by_count[counts[by_count] > 0]
    for start in range(0, len(by_count), 32):  # users of about as many items
        block = by_count[start : start + 32]
        times = rng.standard_exponential((len(block), len(weights)), dtype=np.float32)
        times *= slowness
        times[:, never] = np.inf
        row = np.full(len(counts), -1)
        row[block] = np.arange(len(block))
        here = row[taken[0]] >= 0
        times[row[taken[0][here]], taken[1][here]] = np.inf
        most = int(counts[block].max())
        first = torch.from_numpy(times).topk(most, largest=False).indices.numpy()
        kept = np.arange(most) < counts[block, None]
        users.append(np.repeat(block, counts[block]))
        items.append(first[kept])
    return np.concatenate(users), np.concatenate(items)
