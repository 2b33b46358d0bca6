"""Inverse relations: pairs of relations that restate each other's triples, reversed.

Such pairs are common in Freebase (Toutanova and Chen, "Observed versus latent features for
knowledge base and text inference", 2015). In an undirected graph an entity then has the same
neighbour twice, once under each relation.
"""

from __future__ import annotations

import polars as pl

LEAST_SHARE = 0.8
"""Share of the larger relation's triples that the other must restate for a pair to be inverse."""


# Relations from one entity to another; where there are more, they are not compared: n in each
# direction make n² candidates.
_MOST_RELATIONS = 32


def inverse_pairs(triples: pl.DataFrame) -> pl.DataFrame:
    """Finds pairs of inverse relations; a relation is in one pair at most.

    Args:
        triples: distinct ``head, relation, tail``, of any type.

    Returns:
        One row per pair, the largest first: ``relation`` (the relation with more triples; if
        equal, the relation that appears first), ``inverse``, ``triples`` and ``inverse_triples``
        (of each), ``shared`` (triples of the first that the second restates) and ``share`` (of
        ``triples``).
    """
    sizes = triples.group_by("relation", maintain_order=True).agg(triples=pl.len())
    sizes = sizes.with_row_index("order")
    ends = ["head", "tail"]
    few = triples.filter(pl.len().over(ends) <= _MOST_RELATIONS)
    reverse = few.select(head="tail", inverse="relation", tail="head")
    pairs = (
        few.join(reverse, on=["head", "tail"])
        .filter(pl.col("relation") != pl.col("inverse"))
        .group_by("relation", "inverse")
        .agg(shared=pl.len())
        .join(sizes, on="relation")
        .join(
            sizes.select(inverse="relation", inverse_triples="triples", inverse_order="order"),
            on="inverse",
        )
        .with_columns(share=pl.col("shared") / pl.col("triples"))
        .filter(
            (pl.col("share") >= LEAST_SHARE)
            & (
                (pl.col("triples") > pl.col("inverse_triples"))
                | (
                    (pl.col("triples") == pl.col("inverse_triples"))
                    & (pl.col("order") < pl.col("inverse_order"))
                )
            )
        )
        .sort(["shared", "order", "inverse_order"], descending=[True, False, False])
    )
    paired: set[object] = set()
    chosen_rows = []
    for row, (relation, inverse) in enumerate(pairs.select("relation", "inverse").iter_rows()):
        if not {relation, inverse} & paired:
            paired |= {relation, inverse}
            chosen_rows.append(row)
    columns = ("relation", "inverse", "triples", "inverse_triples", "shared", "share")
    return pairs[chosen_rows].select(columns)


def merge_inverses(triples: pl.DataFrame, pairs: pl.DataFrame) -> pl.DataFrame:
    """Triples of an inverse become reversed triples of its relation; each triple stays once.

    Args:
        triples: ``head, relation, tail``.
        pairs: see :func:`inverse_pairs`.
    """
    names = pairs.select("inverse", other="relation")
    turned = triples.join(
        names, left_on="relation", right_on="inverse", how="left", maintain_order="left"
    )
    inverse = pl.col("other").is_not_null()
    return turned.select(
        head=pl.when(inverse).then("tail").otherwise("head"),
        relation=pl.coalesce("other", "relation"),
        tail=pl.when(inverse).then("head").otherwise("tail"),
    ).unique(maintain_order=True)
