"""Links by title and year: which entity of a graph an item is, where the two share no id."""

from __future__ import annotations

import polars as pl

from kgrec.data.build.values import YEAR

# Articles that catalogues put behind a title: "Matrix, The".
_MOST_ENTITIES = 100  # of one title

_ARTICLES = "the|a|an|le|la|les|l'|il|lo|der|die|das|el|los|las"


def link_by_title(
    items: pl.DataFrame, entities: pl.DataFrame, with_year: bool
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Links items to the entities of the same title, and year if wanted.

    Titles are compared without case, accents, punctuation, an article behind a comma and a year in
    brackets at the end. A year in the title is used where the cell of the year is blank.

    Args:
        items: ``item, title`` and ``year`` if wanted; strings, null where blank.
        entities: ``entity, title`` and ``year`` if wanted.
        with_year: whether the years must be equal too.

    Returns:
        ``item, entity`` of the exact matches; and for every item ``item, title, year, outcome,
        entities`` (at most 100): "exact" for one item and one entity, "ambiguous" for several
        of either, else "missing"; or, if the title occurs, "other year", and "no year" where the
        item or all entities of the title have none.
    """
    left, right = _keyed(items, with_year), _keyed(entities, with_year)
    right = right.unique(["entity", "key", "year_key"]).drop_nulls("entity")
    keys = ["key", "year_key"] if with_year else ["key"]
    # Two entities of a title make it ambiguous already, and a list of all would only be longer.
    right = right.sort("entity").filter(pl.int_range(pl.len()).over(keys) < _MOST_ENTITIES)
    usable = pl.all_horizontal(pl.col(k).is_not_null() & (pl.col(k) != "") for k in keys)
    matches = left.filter(usable).join(right.filter(usable), on=keys, how="inner")
    matches = matches.select("item", "entity").unique().sort("item", "entity")
    alone = pl.col("entity").n_unique().over("item") == 1
    exact = matches.filter(alone & (pl.col("item").n_unique().over("entity") == 1))
    candidates = matches.group_by("item").agg(pl.col("entity").str.join("|").alias("entities"))
    title_there = pl.col("key").is_in(right["key"].drop_nulls().unique().implode())
    with_years = right.filter(pl.col("year_key").is_not_null())["key"].unique()
    years_there = pl.col("year_key").is_not_null() & pl.col("key").is_in(with_years.implode())
    outcome = (
        pl.when(pl.col("item").is_in(exact["item"].implode())).then(pl.lit("exact"))
        .when(pl.col("entities").is_not_null()).then(pl.lit("ambiguous"))
        .when(~title_there | (pl.col("key") == "") | (not with_year)).then(pl.lit("missing"))
        .when(years_there).then(pl.lit("other year"))
        .otherwise(pl.lit("no year"))
    )  # fmt: skip
    outcomes = left.join(candidates, on="item", how="left", maintain_order="left")
    outcomes = outcomes.with_columns(outcome=outcome)
    return exact, outcomes.select("item", "title", "year", "outcome", "entities")


def _keyed(frame: pl.DataFrame, with_year: bool) -> pl.DataFrame:
    """Adds ``key`` and ``year_key``, by which titles and years are compared."""
    title = pl.col("title").str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase()
    in_title = title.str.extract(r"\(([12][0-9]{3})\)\s*$")
    key = title.str.replace(r"\s*\(([12][0-9]{3})\)\s*$", "")
    key = key.str.replace(rf"^(.*), ({_ARTICLES})$", "$2 $1").str.replace_all("&", " and ")
    key = key.str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars()
    if not with_year:
        frame = frame.with_columns(year=pl.lit(None, dtype=pl.String))
    year = pl.col("year").str.extract(YEAR)
    return frame.with_columns(key=key, year_key=pl.coalesce(year, in_title))
