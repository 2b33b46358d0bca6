"""A data set with a large graph: every entity after the items hangs on an entity before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

KINDS, ITEMS, USERS, POSITIVES = 10, 2000, 2000, 20


def write_tree(folder: Path, entities: int) -> None:
    """Writes interactions and triples as Parquet; users of a kind mostly like items of that kind.

    Args:
        folder: a new folder, or one that has them already.
        entities: number of entities of the graph.
    """
    if (folder / "triples.parquet").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draws = np.random.default_rng(0)
    tails = np.arange(ITEMS, entities)
    heads = (draws.random(len(tails)) * tails).astype(np.int64)
    relations = draws.integers(8, size=len(tails))
    users = np.repeat(np.arange(USERS), POSITIVES)
    items = draws.integers(ITEMS // KINDS, size=len(users)) * KINDS + users % KINDS
    other = draws.random(len(users)) < 0.2
    items[other] = draws.integers(ITEMS, size=int(other.sum()))
    likes = pl.DataFrame({"user": users, "item": items}).unique(maintain_order=True)
    likes.write_parquet(folder / "interactions.parquet")
    pl.DataFrame({"item": np.arange(ITEMS)}).write_parquet(folder / "items.parquet")
    graph = pl.DataFrame({"head": heads, "relation": relations, "tail": tails})
    graph.write_parquet(folder / "triples.parquet")
