"""The two evaluation protocols: from prepared data to a split data set.

``paper``: balanced negatives are drawn first, then all rows are split, as the released KGCN
code does. Because each user is balanced before the split, a user's training balance tells of
the test labels; figures under this protocol are for comparison with the paper.

``clean``: positives are split first; evaluation negatives are then drawn for each split.
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

    Each user gets as many distinct negatives as it has positives, from the items it has not
    rated at all; where the files bring their own label-0 rows, those are used.

    Args:
        data: prepared data.
        split: which row goes where.

    Raises:
        ConfigError: a split of positives (by time, or as the files give it): the negatives,
            drawn before, have no place in it.
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
        wanted = positives.user_degrees()
        negatives = sampler.draw_distinct(wanted, generator(seed, "evaluation negatives"))
        account.add("protocol", "negatives drawn before the split", len(negatives[0]))
        account.add(
            "protocol",
            "negatives that could not be drawn (the user has rated too many items)",
            int(wanted.sum()) - len(negatives[0]),
        )
    else:
        negatives = data.given_negatives
        account.add("protocol", "negatives given in the files", len(negatives[0]))
        clash = positives.contains(*negatives)
        negatives = (negatives[0][~clash], negatives[1][~clash])
        account.add("protocol", "of these, positives too, dropped", int(clash.sum()))
        twice = len(negatives[0]) - len(
            Interactions.from_pairs(*negatives, positives.num_users, positives.num_items)
        )
        account.add("protocol", "of these, pairs that stand there twice, kept", twice)
    rows = LabelledRows.from_parts((positives.users, positives.items), negatives)
    size = positives.num_users, positives.num_items
    parts = split(Rows(rows.users, rows.items, *size), generator(seed, "split"))
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
    )


def clean(data: PreparedData, split: Split) -> RecDataset:
    """Positives are split first; each split then gets negatives of its own.

    For each user as many as that split's positives of the user, distinct, from items that are
    no positive of the user in any split. A second set of negatives is drawn in proportion to
    how often an item occurs among that split's own positives.

    Args:
        data: prepared data.
        split: which positive goes where.

    Raises:
        ConfigError: the files come split, and another split is asked for.
        DataError: the data lack what the split goes by, or a part would be empty.
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
        what = "negatives given in the files, not used under clean"
        account.add("protocol", what, len(data.given_negatives[0]))
    sampler = None if split.items_apart else NegativeSampler(positives)
    held_out, matched = {}, {}
    for name, part in (("val", VAL), ("test", TEST)):
        own = positives.take(parts == part)
        negatives = (sampler or _OwnItems(own)).draw_distinct(
            own.user_degrees(), generator(seed, f"{name} negatives")
        )
        if split.items_apart:
            count = int((own.item_degrees() > 0).sum())
            account.add("protocol", f"{name} items, apart; its negatives come from them", count)
        account.add("protocol", f"{name} negatives drawn after the split", len(negatives[0]))
        account.add(
            "protocol",
            f"{name} negatives that could not be drawn (the user has too many items)",
            len(own) - len(negatives[0]),
        )
        held_out[name] = LabelledRows.from_parts((own.users, own.items), negatives)
        popular = draw_popularity_matched(own, positives, generator(seed, f"{name} matched"))
        account.add("protocol", f"{name} popularity-matched negatives drawn", len(popular[0]))
        account.add(
            "protocol",
            f"{name} popularity-matched negatives that could not be drawn",
            len(own) - len(popular[0]),
        )
        matched[name] = LabelledRows.from_parts((own.users, own.items), popular)
    train = positives.take(parts == TRAIN)
    static = NegativeSampler(train).draw(train.users, generator(seed, "static negatives"))
    return _finish(data, "clean", train, static, held_out, matched, account)


def _check_given(data: PreparedData, split: Split) -> None:
    """A split that the files bring is never dropped unsaid."""
    if data.given_parts is not None and "given" not in split.needs:
        raise ConfigError(
            f"split: found a split in the files of dataset {data.name}, expected split=given and "
            "protocol=clean (protocol=paper draws negatives before it splits, so its rows would "
            "be others than those given); dataset.pool_splits=true forgets the given split"
        )


class _OwnItems:
    """Draws negatives among the items of one part, which no other part has.

    Args:
        own: the positives of the part.
    """

    def __init__(self, own: Interactions) -> None:
        self.items, numbers = torch.unique(own.items, return_inverse=True)
        self._sampler = NegativeSampler(
            Interactions.from_pairs(own.users, numbers, own.num_users, len(self.items))
        )

    def draw_distinct(self, counts: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """As :meth:`NegativeSampler.draw_distinct`."""
        users, numbers = self._sampler.draw_distinct(counts, generator)
        return users, self.items[numbers]


def _finish(
    data: PreparedData,
    protocol: str,
    train: Interactions,
    static_negatives: tuple[Tensor, Tensor],
    held_out: dict[str, LabelledRows],
    matched: dict[str, LabelledRows],
    account: Account,
) -> RecDataset:
    val, test = held_out["val"], held_out["test"]
    for name, rows in (("train", train), ("val", val), ("test", test)):
        account.add("split", "train positives" if name == "train" else f"{name} rows", len(rows))
        if len(rows) == 0:
            raise DataError(
                f"dataset {data.name}: found {len(data.positives)} positives, too few to give the "
                f"{name} split a row; expected more interactions or other split.ratios"
            )
    for name, rows in held_out.items():
        if float(rows.labels.min()) == float(rows.labels.max()):
            raise DataError(
                f"dataset {data.name}: found only label {rows.labels[0]:g} among the {len(rows)} "
                f"{name} rows, expected positives and negatives; more interactions or items, or "
                "other split.ratios"
            )
    # AUC against popular items needs some of them, in validation and test.
    if any(float(rows.labels.min()) > 0 for rows in matched.values()):
        account.add("protocol", "splits without a popularity-matched negative: none is shown", 1)
        matched = {}
    liked = test.labels > 0
    testers = torch.unique(test.users[liked])
    without = int((train.user_degrees()[testers] == 0).sum())
    account.add("split", "users with a test positive", len(testers))
    account.add("split", "of these, users without a training positive", without)
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
    )
