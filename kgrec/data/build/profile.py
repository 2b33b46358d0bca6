"""What a column looks like: the choice that ``--guess`` makes for it, and why."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from kgrec.data.build.attributes import ONE_VALUE
from kgrec.data.build.columns import has_texts, parse_numbers
from kgrec.data.build.values import YEAR

SEPARATORS = ("|", ";", ",", " / ")
MISSING = ("n/a", "na", "none", "null", "nan", "unknown", "-", "?", "not available")
FEW = 12  # a number with so few values is a category
_DATE = (
    r"^\s*(?:[12][0-9]{3}-[0-9]{2}(?:-[0-9]{2}.*)?|[0-9]{1,2}[./-][0-9]{1,2}[./-][12][0-9]{3}.*"
    r"|[0-9]{1,2}[ -][A-Za-z]{3,9}[ -][12][0-9]{3})\s*$"
)
_DECIMAL_COMMA = r"^[\s€$£¥]*-?[0-9]{1,3}(?:\.?[0-9]{3})*,[0-9]{2}[\s€$£¥]*$"


@dataclass(frozen=True)
class Choice:
    """What ``--guess`` does with a column.

    Attributes:
        comment: the reason, for people.
        settings: settings of the attribute; None: the column is left out.
        missing: texts in it that look like missing values.
    """

    comment: str
    settings: dict[str, object] | None = None
    missing: tuple[str, ...] = field(default=())


def choose(column: str, cells: pl.Series, owners: str) -> Choice:  # noqa: PLR0911
    """Chooses how a column of a table with one row for each item becomes an attribute.

    Args:
        column: name of the column.
        cells: its cells.
        owners: "items" or "users", for the comment.
    """
    total = len(cells)
    kind = cells.dtype
    if isinstance(kind, pl.List | pl.Array) and has_texts(kind.inner):
        flat = cells.explode(empty_as_null=True).drop_nulls()
        return Choice(f"lists: {flat.n_unique():,} values, "
                      f"{_share(cells.drop_nulls(), total)} of {owners}", {})  # fmt: skip
    if not has_texts(kind):
        return Choice(f"the type {kind}: left out")
    texts = cells.cast(pl.String).str.strip_chars()
    missing = texts.filter(texts.str.to_lowercase().is_in(MISSING)).unique().sort().to_list()
    filled = texts.filter(texts.is_not_null() & (texts != "") & ~texts.is_in(missing))
    if filled.is_empty():
        return Choice("no value: left out")
    number, distinct = len(filled), filled.n_unique()
    most = filled.value_counts(sort=True).row(0)
    share = _share(filled, total)
    if most[1] >= ONE_VALUE * total:
        part = percent(most[1] / total)
        return Choice(f"one value ({most[0][:30]}) on {part} of {owners}: left out")
    if (
        kind in (pl.Date, pl.Datetime)
        or _mostly(filled.str.contains(_DATE))
        or _is_year(column, filled)
    ):
        years = filled.str.extract(YEAR).n_unique()
        to = "year" if years <= 30 else "decade"
        return Choice(f"date: {years:,} years, {share} of {owners}", {"date": to}, tuple(missing))
    numbers = parse_numbers(filled)
    if _mostly(numbers.is_not_null()):
        choice = _number(numbers.drop_nulls(), distinct, number, f"{share} of {owners}", owners)
        return Choice(choice.comment, choice.settings, tuple(missing))
    if _mostly(filled.str.contains(_DECIMAL_COMMA)):
        return Choice("number with a decimal comma, expected a point (12.50): left out")
    return _text(filled, distinct, f"{share} of {owners}", owners, tuple(missing))


def percent(share: float) -> str:
    """A share in per cent; one that is not whole does not become 100 %."""
    return f"{100 * share:.1f} %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def _share(filled: pl.Series, total: int) -> str:
    return percent(len(filled) / max(total, 1))


def _mostly(flags: pl.Series) -> bool:
    return float(flags.cast(pl.Float64).fill_null(0.0).sum()) >= 0.9 * len(flags)


def _is_year(column: str, filled: pl.Series) -> bool:
    """Whether a column of whole numbers is one of years, also by its name."""
    named = any(word in column.lower() for word in ("year", "date", "released", "published"))
    return named and _mostly(filled.str.contains(r"^[12][0-9]{3}(?:\.0)?$"))


def _number(numbers: pl.Series, distinct: int, filled: int, share: str, owners: str) -> Choice:
    low, high = numbers.to_frame("n").select(pl.min("n").alias("a"), pl.max("n").alias("b")).row(0)
    whole = bool((numbers == numbers.round()).all())
    if whole and distinct == filled and filled > FEW:
        return Choice(f"looks like an id (another number for each of the {owners}): left out")
    if distinct <= FEW:
        return Choice(f"number with {distinct} values, {share}", {})
    comment = f"number from {low:.4g} to {high:.4g}, {share}; or edges: [LIMIT, LIMIT]"
    return Choice(comment, {"bins": 5})


def _text(
    filled: pl.Series, distinct: int, share: str, owners: str, missing: tuple[str, ...]
) -> Choice:
    words = float(filled.str.count_matches(r"\S+").cast(pl.Float64).sum()) / len(filled)
    for separator in SEPARATORS:
        parts = _parts(filled, separator)
        if parts is not None:
            comment = f"several values: {parts.n_unique():,} values, {share}"
            return Choice(comment, {"separator": separator}, missing)
    if distinct == len(filled) and distinct > FEW and words < 1.5:
        return Choice(f"looks like an id (another value for each of the {owners}): left out")
    if distinct > 0.5 * len(filled) and words > 5:
        return Choice(f"text of {words:.0f} words on average: left out")
    if distinct > 0.9 * len(filled) and distinct > FEW:
        return Choice(f"another value for most {owners}, which connects none: left out")
    comment = f"category: {distinct:,} values, {share}"
    tokens = filled.str.split(" ").explode(empty_as_null=True)
    if words > 1.3 and tokens.n_unique() * 3 < distinct:
        comment += '; if each word is a value: separator: " "'
    return Choice(comment, {}, missing)


def _parts(filled: pl.Series, separator: str) -> pl.Series | None:
    """The values between separators, or None where cells do not look like lists."""
    within = filled.str.contains(separator, literal=True)
    if int(within.sum()) < 0.2 * len(filled):
        return None
    parts = filled.str.split(separator).explode(empty_as_null=True).str.strip_chars()
    words = float(parts.str.count_matches(r"\S+").cast(pl.Float64).sum()) / len(parts)
    return parts if words <= 3 and parts.n_unique() * 2 <= len(parts) else None
