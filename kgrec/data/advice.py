"""Warnings on a data set: what will make results poor or misleading, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import polars as pl

from kgrec.data.describe import Description

# Thresholds from which a warning is given.
FEW_TEST_USERS = 100
FEW_POSITIVES = 3  # median positives per user
ITEMS_ALONE = 0.1  # share of the items without a neighbour
ITEMS_DROPPED = 0.05  # share of the files' items without an entity
APART = 0.5  # share of the items in the largest component
COLD_USERS = 0.1  # share of the test users without a training positive
CONCENTRATED = 0.5  # share of the positives that 1 % of the items have
NEARLY_ALL = 0.95  # share of the items that one value of a relation covers
RARE = 0.05  # share of the items up to which a relation is too rare to warn about
NAMED = 3  # relations that a warning names

Check = Callable[[Description], Iterator[str]]


def advice(description: Description) -> list[str]:
    """Warnings, the most important first; each says what was found and what to do."""
    return [warning for check in CHECKS for warning in check(description)]


def _few_test_users(d: Description) -> Iterator[str]:
    users = d.facts.get("test_users")
    if users is not None and users < FEW_TEST_USERS:
        yield (
            f"Only {users:,.0f} users have a test positive: differences between models will "
            "mostly be noise. Run several seeds (-m seed=1,2,3) and use kgrec compare."
        )


def _few_positives(d: Description) -> Iterator[str]:
    median = d.distributions["positives_per_user"].median
    if median < FEW_POSITIVES:
        yield (
            f"Half of the users have at most {median:,.0f} positives: there is little to learn a "
            "user from. Compare with model=popularity, and look at the results by number of "
            "training positives."
        )


def _all_positive(d: Description) -> Iterator[str]:
    density = d.facts["density"]
    if density > 0.5:
        yield (
            f"{density:.0%} of all pairs are positives, so few pairs are left as negatives. If "
            "the files have ratings, set dataset.min_rating."
        )


def _items_dropped(d: Description) -> Iterator[str]:
    without = sum(
        line["count"] for line in d.account
        if line["what"].startswith("items without an entity, dropped")
    )  # fmt: skip
    share = without / max(d.counts["items"] + without, 1)
    if share > ITEMS_DROPPED:
        yield (
            f"{without:,} items ({share:.0%}) of the interactions are in no link and are dropped. "
            "Add them to links.csv, or keep them with dataset.unlinked=keep."
        )


def _items_alone(d: Description) -> Iterator[str]:
    share = d.facts["items_without_neighbor"] / d.counts["items"]
    if share > ITEMS_ALONE:
        yield (
            f"{share:.0%} of the items have no neighbour in the graph: a graph model knows only "
            "their interactions. Add attributes of these items."
        )


def _apart(d: Description) -> Iterator[str]:
    share = d.facts["largest_component_item_share"]
    if share < APART and d.facts["items_without_neighbor"] < d.counts["items"] / 2:
        yield (
            f"Only {share:.0%} of the items are connected with each other through the graph. "
            "Attributes with fewer distinct values (bins, years, categories) connect more items."
        )


def _unique_values(d: Description) -> Iterator[str]:
    """Relations whose every triple has ends of its own, which connect nothing."""
    triples = pl.col("triples")
    alone = d.relations.filter(
        (pl.col("heads") == triples) & (pl.col("tails") == triples)
        & (pl.col("coverage") > RARE) & (pl.col("items") < 2 * triples)
    )  # fmt: skip
    if names := alone["relation"].to_list():
        yield (
            f"Each item has a value of its own in {_named(names)}: such a relation connects no "
            "two items. Leave it out, or group its values."
        )


def _same_value(d: Description) -> Iterator[str]:
    same = d.relations.filter(
        (pl.min_horizontal("heads", "tails") == 1) & (pl.col("coverage") > NEARLY_ALL)
    )
    if names := same["relation"].to_list():
        yield (
            f"Nearly all items have the same value in {_named(names)}: such a relation tells no "
            "items apart. Leave it out."
        )


def _inverses(d: Description) -> Iterator[str]:
    if d.inverses.height:
        first = d.inverses.row(0, named=True)
        yield (
            f"Relations say the same in both directions: {first['relation']} and "
            f"{first['inverse']} ({d.inverses.height} such in all). dataset.inverses=merge keeps "
            "one relation of each pair."
        )


def _cold_users(d: Description) -> Iterator[str]:
    share = d.facts.get("test_users_without_training_share", 0.0)
    if share > COLD_USERS:
        yield (
            f"{share:.0%} of the test users have no training positive, so no model knows them. "
            "split=temporal split.scope=user or split=leave_one_out splits within each user."
        )


def _concentrated(d: Description) -> Iterator[str]:
    share = d.distributions["positives_per_item"].top1
    if share > CONCENTRATED:
        yield (
            f"1 % of the items have {share:.0%} of the positives: popularity alone will look "
            "good. Look at the matched AUC of protocol=clean."
        )


def _lookalikes(d: Description) -> Iterator[str]:
    groups = [group for groups in d.lookalikes.values() for group in groups]
    if groups:
        yield (
            f"Ids differ only by blanks, case or Unicode form: "
            f"{' and '.join(map(repr, groups[0][:2]))} ({len(groups):,} such in all). If they mean "
            "the same, make them equal in the files."
        )


def _named(names: list[str]) -> str:
    rest = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {rest} more relations" if rest > 0 else "")


CHECKS: tuple[Check, ...] = (
    _few_test_users, _few_positives, _all_positive, _items_dropped, _items_alone, _apart,
    _cold_users, _same_value, _unique_values, _inverses, _concentrated, _lookalikes,
)  # fmt: skip
