"""Multipliers of relations that a reader gives by raw id or by name."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import SupportsFloat

import polars as pl
import torch
from torch import Tensor

from kgrec.errors import DataError

RelationWeights = Mapping[str, float]
"""A multiplier above 0 for each relation, by raw id or name; other relations have 1."""

KEY = "relation_weights"
EXAMPLES = 5  # relations that a message names


def multipliers(weights: RelationWeights, relations: pl.DataFrame) -> Tensor:
    """(R,) float64 multipliers of the relations, in the order of their numbers.

    A raw id is looked up first, then a name in words, such as "directed by", in any case. If
    several relations have the name, the multiplier is of all of them.

    Args:
        weights: multipliers by raw id or name.
        relations: ``relation`` (raw id) and ``name`` (in words) of every relation, by number.

    Raises:
        DataError: a relation is unknown or named twice, or a multiplier is no finite number above
            0.
    """
    if not isinstance(weights, Mapping):
        raise DataError(f"{KEY}: found {weights!r}, expected a multiplier for each relation")
    ids = relations["relation"].to_list()
    names = [str(name).lower() for name in relations["name"]]
    result = torch.ones(len(ids), dtype=torch.float64)
    given: set[int] = set()
    for relation, weight in weights.items():
        wanted = str(relation)
        word = wanted.strip().lower()
        found = [i for i, raw in enumerate(ids) if raw == wanted] or [
            i for i, name in enumerate(names) if name == word
        ]
        if not found:
            raise DataError(f"{KEY}: {_unknown(wanted, relations)}")
        if given.intersection(found):
            raise DataError(f"{KEY}: found {wanted!r} twice, by id and by name, expected it once")
        number = _positive(weight)
        if number is None:
            raise DataError(
                f"{KEY}: found {weight!r} for {wanted}, expected a finite number above 0"
            )
        given.update(found)
        result[found] = number
    return result


def _positive(weight: object) -> float | None:
    """A finite number above 0; None: it is none."""
    if isinstance(weight, bool) or not isinstance(weight, SupportsFloat):
        return None
    try:
        number = float(weight)
    except OverflowError:
        return None
    return number if math.isfinite(number) and number > 0 else None


def _unknown(wanted: str, relations: pl.DataFrame) -> str:
    """A message on an unknown relation."""
    pairs, words = relations.head(EXAMPLES).rows(), [*relations["name"], *relations["relation"]]
    close = difflib.get_close_matches(wanted.lower(), words, n=1)
    examples = ", ".join(raw if raw == name else f"{raw} ({name})" for raw, name in pairs)
    return (
        f"found relation {wanted!r}, expected one of the {relations.height} relations of the run, "
        f"such as {examples}{f'; did you mean {close[0]}?' if close else ''}"
    )
