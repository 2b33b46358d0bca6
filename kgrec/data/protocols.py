"""The two evaluation protocols: from prepared data to a split data set.

``paper``: balanced negatives are drawn first, then all rows are split, as the released KGCN code
does. Because each user is balanced before the split, the labels of a user's training rows reveal
those of the test rows. Results under this protocol are for comparison with the paper.

``clean``: positives are split first; evaluation negatives are then drawn for each part.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kgrec.data.account import Account
from kgrec.data.dataset import PreparedData, RecDataset
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions, LabelledRows
from kgrec.data.negatives import NegativeSampler, draw_popularity_matched
from kgrec.data.splits import TEST, TRAIN, VAL, Rows, Split, check_needs
from kgrec.errors import ConfigError, DataError

Protocol = Callable[[PreparedData, Split], RecDataset]


def paper(data: PreparedData, split: Split) -> RecDataset:
    """Negatives before the split (KGCN, section 4.3, and the released preprocessing).

    Each user gets as many distinct negatives as it has positives, from the items that the user
    has not rated at all. Where the files give label-0 rows, the rows are used instead. All copies
    of a pair are put into the part of the first copy, so that no test row is a training row.

    Args:
        data: prepared data.
        split: the part of each row.

    Raises:
        ConfigError: the split goes by time or by the files' own split, which negatives do not
            have.
        DataError: a part would be empty or have only one label.
    """
    _check_given(data, split)
    if split.needs:
        raise ConfigError(
            "protocol: found paper, which draws negatives first and splits them with the "
            f"positives, but the split goes by {' and '.join(split.needs)}, which negatives do not "
            "have; expected protocol=clean (or split=random, cold_items, cold_users)"
        )
    positives, account, seed = data.positives, data.account.copy(), data.seed
    if data.given_negatives is None:
        sampler = NegativeSampler(data.rated)
        counts = positives.user_degrees()
        negatives = sampler.draw_distinct(counts, generator(seed, "evaluation negatives"))
        del sampler  # of large data, as large as the rows
        account.add("protocol", "negatives drawn before the split", len(negatives[0]))
        account.add(
            "protocol",
            "negatives that could not be drawn (the user has rated too many items)",
            int(counts.sum()) - len(negatives[0]),
            changes=True,
        )
    else:
        negatives = data.given_negatives
        account.add("protocol", "negatives given in the files", len(negatives[0]))
        clash = positives.contains(*negatives)
        negatives = (negatives[0][~clash], negatives[1][~clash])
        line = "given negatives that are positives too, dropped"
        account.add("protocol", line, int(clash.sum()), changes=True)
    rows = LabelledRows.from_parts((positives.users, positives.items), negatives)
    del negatives
    size = positives.num_users, positives.num_items
    parts = split(Rows(rows.users, rows.items, *size), generator(seed, "split"))
    if data.given_negatives is not None:
        parts = _copies_together(rows, parts, positives.num_items, account)
    train = rows.take(parts == TRAIN)
    liked = train.labels > 0
    return _finish(
        data,
        "paper",
        Interactions.from_pairs(train.users[liked], train.items[liked], *size),
        (train.users[~liked], train.items[~liked]),
        {"val": rows.take(parts == VAL), "test": rows.take(parts == TEST)},
        {},
        account,
        split.items_apart,
    )


def _copies_together(rows: LabelledRows, parts: Tensor, num_items: int, account: Account) -> Tensor:
    """(n,) parts in which every copy of a pair is in the part of its first copy.

    The parts of all other rows stay as they are.
    """
    keys = rows.users * num_items + rows.items
    pairs, pair = torch.unique(keys, return_inverse=True)
    row = torch.arange(len(keys))
    first = torch.full((len(pairs),), len(keys)).scatter_reduce(0, pair, row, "amin")[pair]
    copies, together = int((first != row).sum()), parts[first]
    account.add("protocol", "further copies of a given negative, kept", copies)
    line = "copies of a given negative, moved to the part (train, val, test) of the first copy"
    account.add("protocol", line, int((parts != together).sum()), changes=True)
    return together


def clean(data: PreparedData, split: Split) -> RecDataset:
    """Positives are split first; the validation and test parts then get negatives of their own.

    Each user gets as many distinct negatives as the part has positives of the user, from items
    that are not a positive of the user in any part. A second set of negatives is drawn in
    proportion to how often an item occurs among the part's own positives.

    Args:
        data: prepared data.
        split: the part of each positive.

    Raises:
        ConfigError: the files have a split, and another split is chosen.
        DataError: the data lack the property by which to split, or a part would be empty.
    """
    _check_given(data, split)
    positives, account, seed = data.positives, data.account.copy(), data.seed
    rows = Rows(
        positives.users, positives.items, positives.num_users, positives.num_items,
        data.times, data.given_parts,
    )  # fmt: skip
    check_needs(split, rows, data.name)
    parts = split(rows, generator(seed, "split"))
    if data.given_negatives is not None:
        line = "negatives given in the files, not used under clean"
        account.add("protocol", line, len(data.given_negatives[0]), changes=True)
    held_out, matched = {}, {}
    for name, part in (("val", VAL), ("test", TEST)):
        own = positives.take(parts == part)
        if split.items_apart:
            items = torch.unique(own.items)
            sampler = NegativeSampler(own, items)
            line = f"{name} items (its negatives are drawn from them)"
            account.add("protocol", line, len(items))
        else:
            sampler = NegativeSampler(positives)
        negatives = sampler.draw_distinct(own.user_degrees(), generator(seed, f"{name} negatives"))
        account.add("protocol", f"{name} negatives drawn after the split", len(negatives[0]))
        account.add(
            "protocol",
            f"{name} negatives that could not be drawn (the user has too many items)",
            len(own) - len(negatives[0]),
            changes=True,
        )
        held_out[name] = LabelledRows.from_parts((own.users, own.items), negatives)
        popular = draw_popularity_matched(own, positives, generator(seed, f"{name} matched"))
        account.add("protocol", f"{name} popularity-matched negatives drawn", len(popular[0]))
        account.add(
            "protocol",
            f"{name} popularity-matched negatives that could not be drawn",
            len(own) - len(popular[0]),
            changes=True,
        )
        matched[name] = LabelledRows.from_parts((own.users, own.items), popular)
    train = positives.take(parts == TRAIN)
    among = torch.unique(train.items) if split.items_apart else None
    static = NegativeSampler(train, among).draw(train.users, generator(seed, "static negatives"))
    return _finish(data, "clean", train, static, held_out, matched, account, split.items_apart)


def _check_given(data: PreparedData, split: Split) -> None:
    """Raises ConfigError where a split that the files come with would be ignored."""
    if data.given_parts is not None and "given" not in split.needs:
        raise ConfigError(
            f"split: found a split in the files of dataset {data.name}, expected split=given and "
            "protocol=clean (protocol=paper draws negatives before it splits, so its rows would "
            "not be the given ones); dataset.pool_splits=true ignores the given split"
        )


def _check_parts(
    data: PreparedData, train: Interactions, held_out: dict[str, LabelledRows], account: Account
) -> None:
    """Counts the rows of each part.

    Raises:
        DataError: a part is empty, or an evaluation part has only one label.
    """
    parts: dict[str, Interactions | LabelledRows] = {"train": train, **held_out}
    for name, rows in parts.items():
        account.add("split", "train positives" if name == "train" else f"{name} rows", len(rows))
        if len(rows) == 0:
            raise DataError(
                f"dataset {data.name}: found {len(data.positives)} positives, too few to give the "
                f"{name} split a row; expected more interactions or other split.ratios"
            )
    for name, labelled in held_out.items():
        labels = labelled.labels
        if float(labels.min()) == float(labels.max()):
            raise DataError(
                f"dataset {data.name}: found only label {labels[0]:g} among the {len(labels)} "
                f"{name} rows, expected positives and negatives; more interactions or items, or "
                "other split.ratios"
            )


def _finish(
    data: PreparedData,
    protocol: str,
    train: Interactions,
    static_negatives: tuple[Tensor, Tensor],
    held_out: dict[str, LabelledRows],
    matched: dict[str, LabelledRows],
    account: Account,
    items_apart: bool,
) -> RecDataset:
    """Checks the parts and puts the data set together."""
    with account.shown_on_failure():
        _check_parts(data, train, held_out, account)
    val, test = held_out["val"], held_out["test"]
    # AUC against popular items needs popular items in validation and test.
    if any(float(rows.labels.min()) > 0 for rows in matched.values()):
        line = "popularity-matched rows not used, as a part has no negative among them"
        account.add("protocol", line, sum(map(len, matched.values())), changes=True)
        matched = {}
    liked = test.labels > 0
    testers = torch.unique(test.users[liked])
    without = int((train.user_degrees()[testers] == 0).sum())
    account.add("split", "users with a test positive", len(testers))
    account.add("split", "users with a test positive, but without a training positive", without)
    weights = data.weights
    if weights is not None:
        weights = weights[torch.searchsorted(data.positives.keys, train.keys)]
    return RecDataset(
        name=data.name,
        protocol=protocol,
        graph=data.graph,
        train=train,
        static_negatives=static_negatives,
        val=val,
        test=test,
        matched=matched,
        ids=data.ids,
        account=account,
        files=data.files,
        train_weights=weights,
        user_graph=data.user_graph,
        items_apart=items_apart,
    )
