"""Controls: models without training that every run evaluates for comparison.

Under the usual protocols popularity is as good as published models, so a result is hard to
interpret without it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.evaluation.ctr import auc
from kgrec.models.folding import check_history, frozen
from kgrec.models.reasons import POPULARITY, Reasons, Term, ordered
from kgrec.models.recommender import Recommender


class SameForAll(Recommender):
    """A model whose scores do not depend on the user."""

    fold_in_method: ClassVar[str | None] = "exact"

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """A copy of the model: the users play no part."""
        check_history(history, self.arguments["num_items"])
        return frozen(self)


class AllPositive(SameForAll):
    """Scores every pair as positive: F1 = 2/3 on balanced rows, AUC = 1/2.

    Args:
        num_items: number of items.
    """

    ranks: ClassVar[bool] = False

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.num_items = num_items

    @classmethod
    def from_dataset(cls, dataset: RecDataset) -> Self:
        """Builds the model for a data set."""
        return cls(dataset.num_items)

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) ones, from users (B,) and items (B,)."""
        return torch.ones(len(users), device=users.device)


class Popularity(SameForAll):
    """Scores an item by its number of training positives, the same for all users.

    Args:
        num_items: number of items.
    """

    logits: ClassVar[bool] = False

    def __init__(self, num_items: int) -> None:
        super().__init__()
        self.num_items = num_items
        self.counts: Tensor
        self.register_buffer("counts", torch.zeros(num_items))

    @classmethod
    def from_dataset(cls, dataset: RecDataset) -> Self:
        """Builds the model for a data set; :meth:`precompute` counts."""
        return cls(dataset.num_items)

    def precompute(self, dataset: RecDataset) -> None:
        """Counts the training positives of every item."""
        self.counts.copy_(dataset.train.item_degrees())

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) counts, from users (B,) and items (B,)."""
        return self.counts[items]

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) counts, from users (B,)."""
        return self.counts.repeat(len(users), 1)

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """The number of training positives, which is all that the score depends on."""
        score = self.score_of(user, item)
        terms, left_out = ordered([Term(float(self.counts[item]), score)], top)
        return Reasons(score, POPULARITY, terms, left_out, score)


class PopularityPrior(Popularity):
    """Popularity, where an item without a training positive counts as the average trained item.

    The average is the geometric mean of the numbers of training positives. A catalogue that was
    made from all positives has no item without any, so an item that training has not seen must
    have a positive in validation or test. Under uniform negatives it is therefore more often a
    positive than an item with a single training positive is. This control shows what that is
    worth to a model whose training negatives are trained items alone.

    Args:
        num_items: number of items.
    """

    ranks: ClassVar[bool] = False

    def precompute(self, dataset: RecDataset) -> None:
        """Counts the training positives of every item, and takes their mean for the others."""
        super().precompute(dataset)
        seen = self.counts > 0
        if seen.any():
            self.counts[~seen] = self.counts[seen].log().mean().exp()


class PopularityBalance(Recommender):
    """Popularity and the user's balance of training rows, which leaks test labels.

    ``log(1 + count(v)) - a * (training positives of u - training negatives of u)``. Where each
    user is exactly balanced before the split, a user whose training rows are mostly positive
    has mostly negative test rows. This control shows the effect of that leak. ``a`` is chosen on
    validation.

    Args:
        num_users: number of users.
        num_items: number of items.
    """

    logits: ClassVar[bool] = False
    ranks: ClassVar[bool] = False  # it ranks a user's items as Popularity does
    GRID: ClassVar[tuple[float, ...]] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        self.num_items = num_items
        self.log_counts: Tensor
        self.balance: Tensor
        self.a: Tensor
        self.register_buffer("log_counts", torch.zeros(num_items))
        self.register_buffer("balance", torch.zeros(num_users))
        self.register_buffer("a", torch.zeros(()))

    @classmethod
    def from_dataset(cls, dataset: RecDataset) -> Self:
        """Builds the model for a data set; :meth:`precompute` counts."""
        return cls(dataset.num_users, dataset.num_items)

    def precompute(self, dataset: RecDataset) -> None:
        """Counts training rows and chooses ``a`` on the validation rows."""
        negatives = torch.bincount(dataset.static_negatives[0], minlength=dataset.num_users)
        self.balance.copy_(dataset.train.user_degrees() - negatives)
        self.log_counts.copy_(dataset.train.item_degrees().log1p())
        val = dataset.val
        best = -1.0
        for a in self.GRID:
            scores = self.log_counts[val.items] - a * self.balance[val.users]
            if (val_auc := auc(scores, val.labels)) > best:
                best = val_auc
                self.a.fill_(a)

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) scores, from users (B,) and items (B,)."""
        return self.log_counts[items] - self.a * self.balance[users]


class UnseenItem(Popularity):
    """Whether the item has any training positive.

    This signal remains even with popularity-matched negatives.
    """

    ranks: ClassVar[bool] = False

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) 1 for a seen item and 0 for an unseen one, from users (B,) and items (B,)."""
        return (self.counts[items] > 0).float()

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        return (self.counts > 0).float().repeat(len(users), 1)
