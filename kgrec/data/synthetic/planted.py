"""Generator of a synthetic twin: a graph, users, their tastes and their choices.

The positives follow a KGCN teacher, as in :mod:`kgrec.data.synthetic.small`: each archetype of
users g has a preference a_g for relations and a taste t_g in attributes, each attribute entity has
a vector z, and

    score(g, v) = t_g · tanh(Σ_e softmax_e(a_g[r(v, e)]) · z_e)

A user of archetype g chooses positives one after the other, each with a probability proportional
to appeal(v) · exp(taste · score(g, v)). The appeals are fitted so that the popularity of items is
distributed as in the real data.

Shapes: G archetypes, R relations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
from tqdm import tqdm

from kgrec.data.formats import FORMATS
from kgrec.data.raw_tables import RawTables
from kgrec.data.synthetic.shapes import Counts, Shape, draw_counts, fit_counts
from kgrec.data.synthetic.weighted import draw_distinct, fit_weights

DIMENSION = 4
TASTE = 2.0


class TwinGenerator:
    """Draws a graph, users and their tastes at once, and the interactions in pieces.

    Args:
        shape: sizes and shapes to draw.
        seed: seed of every draw.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        self.shape, self.seed = shape, seed
        self.rng = np.random.default_rng([seed, 1])
        # Raw ids: items and their entities have different numbers, in random order.
        self.item_ids = self.rng.permutation(shape.raw_items) + 1
        self.user_ids = self.rng.permutation(shape.raw_users) + 1
        self.entity_ids = self.rng.permutation(shape.entities)
        self._draw_graph()
        self._draw_users()
        self._draw_archetypes()
        self._fit_appeals()

    def _draw_graph(self) -> None:
        """Draws triples from items to attributes; each attribute and relation has at least one."""
        shape, rng = self.shape, self.rng
        num_attributes, R = shape.entities - shape.items, shape.relations
        degrees = draw_counts(
            shape.item_degree, shape.items, shape.triples, 1, max(2, num_attributes // 2)
        )
        heads = rng.permutation(np.repeat(rng.permutation(shape.items), degrees))
        # Every relation leads to its own attributes; a more frequent relation has more attributes.
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
            # Some attributes (a genre, a country) are far more frequent than others.
            tails[redraw] = starts[drawn] + (sizes[drawn] * rng.random(len(redraw)) ** 2).astype(
                int
            )
            keys = heads * num_attributes + tails  # the tail determines the relation
            first = np.unique(keys, return_index=True)[1]
            again = np.ones(shape.triples, dtype=bool)
            again[first] = False
            redraw = np.flatnonzero(again)
        self.heads, self.relations, self.tails = heads, relations, tails

    def _draw_users(self) -> None:
        """Draws the number of positives and of other rows of each raw user."""
        shape, rng = self.shape, self.rng
        n, most = shape.users, shape.items // 3
        extra = shape.rows - shape.positives
        if shape.min_rating is not None:
            # shape.per_user is of all rows; a share of each user's rows is positive.
            max_rows = min(shape.raw_items // 3, 3 * shape.items)
            least = min(int(shape.per_user[0]), shape.rows // shape.raw_users)
            rows = draw_counts(shape.per_user, shape.raw_users, shape.rows, least, max_rows)
            rows = rng.permutation(rows)
            chosen = np.sort(rng.permutation(shape.raw_users)[:n])
            positive_weight = np.clip(rng.normal(1, 0.3, n), 0.2, 1.8) * rows[chosen]
            ideal = np.maximum(positive_weight * shape.positives / positive_weight.sum(), 1)
            max_positives = np.minimum(rows[chosen] - 1, most)
            positives = np.zeros(shape.raw_users, dtype=np.int64)
            positives[chosen] = fit_counts(ideal, shape.positives, 1, max_positives)
            self.positives, self.others = positives, rows - positives
        else:
            counts = draw_counts(shape.per_user, n, shape.positives, 1, most)
            self.positives = np.zeros(shape.raw_users, dtype=np.int64)
            self.positives[rng.permutation(shape.raw_users)[:n]] = rng.permutation(counts)
            # Users without a positive must have at least one other row.
            self.others = (self.positives == 0).astype(np.int64)
            spare = extra - int(self.others.sum())
            self.others += rng.multinomial(
                max(spare, 0), np.full(shape.raw_users, 1 / shape.raw_users)
            )

    def _draw_archetypes(self) -> None:
        """Draws preferences and tastes, and how much each archetype likes each item."""
        shape, rng = self.shape, self.rng
        G, R, num_items = max(4, min(512, shape.users // 60)), shape.relations, shape.items
        self.archetype = rng.integers(G, size=shape.raw_users)
        self.preferences = rng.normal(size=(G, R)) * 1.5
        tastes = rng.normal(size=(G, DIMENSION))
        z = rng.normal(size=(shape.entities - num_items, DIMENSION))
        # Counts and sums are by relation, so that the softmax over an item's neighbours is two
        # products.
        cell = self.relations * num_items + self.heads
        counts = np.bincount(cell, minlength=R * num_items).reshape(R, -1).astype(np.float32)
        sums = np.stack(
            [
                np.bincount(cell, z[self.tails, k], minlength=R * num_items)
                for k in range(DIMENSION)
            ]
        ).astype(np.float32).reshape(DIMENSION, R, -1)  # fmt: skip
        weights = np.exp(self.preferences).astype(np.float32)  # (G, R)
        denominator = weights @ counts  # (G, I)
        scores = np.zeros_like(denominator)
        for k in range(DIMENSION):
            scores += tastes[:, k, None].astype(np.float32) * np.tanh(
                weights @ sums[k] / denominator
            )
        scores -= scores.mean(axis=1, keepdims=True)
        scores /= scores.std(axis=1, keepdims=True) + 1e-9
        liking = np.exp(TASTE * scores)  # (G, I)
        # Divide by the mean over archetypes: item popularity is unchanged.
        self.liking = liking / liking.mean(axis=0)

    def _fit_appeals(self) -> None:
        """Fits appeals so that item popularity follows ``shape.per_item``."""
        shape, rng = self.shape, self.rng
        most = int(0.7 * shape.users)
        counts = draw_counts(shape.per_item, shape.raw_items, shape.rows, 0, most)
        popularity = rng.permutation(counts).astype(float)
        linked, unlinked = popularity[: shape.items], popularity[shape.items :]
        if shape.min_rating is None:
            counts = draw_counts(shape.per_item, shape.items, shape.positives, 0, most)
            linked = rng.permutation(counts).astype(float)
        share = shape.positives / max(linked.sum(), 1)
        # Each item expected to have a positive is given one by a random user, in proportion to the
        # user's number of positives; the rest follow the fitted appeals.
        guaranteed = np.flatnonzero(linked * share >= 0.9)
        slots = np.repeat(np.arange(shape.raw_users), self.positives)
        guaranteed = guaranteed[: len(slots) // 2]
        self.first_owner = np.full(shape.items, -1)
        self.first_owner[guaranteed] = rng.permutation(slots)[: len(guaranteed)]
        num_fitted = self.positives - np.bincount(
            self.first_owner[guaranteed], minlength=shape.raw_users
        )
        target = np.maximum(linked * share - (self.first_owner >= 0), 0.01)
        self.appeal = fit_weights(target, num_fitted[num_fitted > 0])
        # Other rows: linked items rated below the threshold, if there is a threshold, and items
        # that are not in the graph.
        low_rated = np.zeros(shape.items)
        if shape.min_rating is not None:
            low_rated = linked * max(1 - share, 0)
        self.other_appeal = fit_weights(
            np.concatenate([low_rated, unlinked + 0.01]), self.others[self.others > 0]
        )

    # -------------------------------------------------------------- content of the files

    def tables(self, format: str) -> RawTables:  # noqa: A002
        """Links and triples, and a table of interactions with columns but without rows."""
        shape = self.shape
        schema: dict[str, Any] = {"user": pl.String, "item": pl.String}
        if FORMATS[format].has_ratings:
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
        if parts:  # the format needs the list of parts
            empty = pl.DataFrame({"user": ["", ""], "item": ["", ""], **parts})
        return RawTables(empty, links, triples)

    def pieces(self, format: str) -> Iterator[pl.DataFrame]:  # noqa: A002
        """Yields the interactions, one archetype at a time."""
        columns = self.tables(format).interactions.columns
        archetypes = range(len(self.preferences))
        # disable=None: no bar without a terminal.
        for g in tqdm(archetypes, desc="drawing", unit="archetype", disable=None, leave=False):
            users = np.flatnonzero(self.archetype == g)
            if len(users):
                piece = self._piece(g, users, positives_only=not FORMATS[format].has_ratings)
                yield piece.select(columns)

    def _piece(self, g: int, users: Counts, positives_only: bool) -> pl.DataFrame:
        shape, rng = self.shape, np.random.default_rng([self.seed, 2, g])
        number = np.full(shape.raw_users, -1)
        number[users] = np.arange(len(users))
        owned_here = self.first_owner >= 0
        owned_here[owned_here] = number[self.first_owner[owned_here]] >= 0
        items = np.flatnonzero(owned_here)
        owners = number[self.first_owner[items]]
        num_fitted = self.positives[users] - np.bincount(owners, minlength=len(users))
        more_owners, more_items = draw_distinct(
            num_fitted, self.appeal * self.liking[g], (owners, items), rng
        )
        owners, items = np.concatenate([owners, more_owners]), np.concatenate([items, more_items])
        liked = np.ones(len(items), dtype=bool)
        if not positives_only:
            more_owners, more_items = draw_distinct(
                self.others[users], self.other_appeal, (owners, items), rng
            )
            owners = np.concatenate([owners, more_owners])
            items = np.concatenate([items, more_items])
            liked = np.concatenate([liked, np.zeros(len(more_items), dtype=bool)])
        n = len(items)
        if shape.min_rating is not None:
            high = rng.choice([4.0, 4.5, 5.0], n, p=[0.56, 0.15, 0.29])
            low = rng.choice(np.arange(1, 8) / 2, n, p=[0.03, 0.07, 0.03, 0.14, 0.09, 0.42, 0.22])
            unknown = items >= shape.items  # items without an entity have no score
            rating = np.where(liked | (unknown & (rng.random(n) < 0.5)), high, low)
        elif shape.ratings == "BX-Book-Ratings.csv":
            rating = rng.integers(0, 11, n).astype(float)
        else:
            rating = np.ceil(rng.lognormal(5.5, 1.3, n))
        # A user arrives at some time in twenty years and stays for some days.
        arrival = rng.uniform(789_652_009, 1_427_784_002, len(users))
        times = np.floor(arrival[owners] + rng.exponential(2e5, n))
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
        """Table of ``user, archetype``."""
        ids = pl.Series(self.user_ids).cast(pl.String)
        return pl.DataFrame({"user": ids, "archetype": self.archetype})

    def preferences_table(self) -> pl.DataFrame:
        """Table of ``archetype, relation, preference``."""
        G, R = self.preferences.shape
        return pl.DataFrame({
            "archetype": np.repeat(np.arange(G), R),
            "relation": [f"relation{r}" for r in range(R)] * G,
            "preference": self.preferences.ravel(),
        })  # fmt: skip
