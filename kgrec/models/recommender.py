"""The interface of every model, trained or not.

Shapes: B rows.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError
from kgrec.models.objectives import Objective
from kgrec.models.reasons import NONE, Reasons, cosines, similar_history

BLOCK = 2**23  # numbers that :func:`in_blocks` keeps in memory at once
PAIRS = 2**16  # pairs that :meth:`Recommender.scorer` scores at once
LARGEST_SIZE = 2**31 - 1  # of any setting that is a whole number
LARGEST_NUMBER = 2**62  # of any other setting; more would overflow in float32, or soon
MOST_ROUNDS = 100_000  # of an inner loop without a validation that would end it
MOST_LAYERS = 64  # layers of any model: far more than is useful, few enough to build


class Recommender(nn.Module):
    """Scores user-item pairs; higher is better.

    A subclass implements :meth:`score` and, if it is trained, :meth:`loss`. Its constructor
    takes plain numbers, strings, containers of them, and tensors. It must register a tensor as a
    persistent buffer, because a checkpoint's recipe keeps only the shape and dtype of a tensor.
    One of the arguments is ``num_items``, the size of the catalogue. Every setting that changes
    results is an argument of the constructor, so that a checkpoint knows it. ``from_dataset`` binds
    settings to a data set and computes nothing long.

    Attributes:
        batches: batch types that :meth:`loss` takes; the first defines the epoch.
        logits: whether scores that :meth:`loss` trains are logits, so that 0 means a probability
            of one half.
        objective: what the model is trained on in place of :meth:`loss`; None: nothing.
        ranks: whether to compute ranking metrics.
        fold_in_method: how :meth:`fold_in` finds new users' parameters: "exact", "propagation"
            or "steps"; None: the model cannot.
        adds_items: whether the model has :meth:`add_items`.
        exportable: whether ``kgrec export`` may write the scores as a program. Of a model that
            kgrec does not know, :meth:`score` itself is exported.
        weighs_relations: whether the model has :meth:`reweighed`.
        arguments: arguments of the constructor, by name.
        precompute_metrics: metrics of :meth:`precompute`, by name, for metrics.json.
    """

    batches: ClassVar[tuple[type[NamedTuple], ...]] = (PointwiseBatch,)
    logits: ClassVar[bool] = True
    ranks: ClassVar[bool] = True
    fold_in_method: ClassVar[str | None] = None
    adds_items: ClassVar[bool] = False
    exportable: ClassVar[bool] = True
    objective: Objective | None = None
    weighs_relations: bool = False  # of KGCN only with attention, so it is no class variable
    arguments: dict[str, Any]
    precompute_metrics: dict[str, float]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Records the constructor's arguments, from which a checkpoint rebuilds the model."""
        self = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        names = list(bound.arguments)[1:]
        object.__setattr__(self, "arguments", {name: bound.arguments[name] for name in names})
        object.__setattr__(self, "precompute_metrics", {})
        return self

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """Scores pairs.

        Args:
            users: (B,) int64.
            items: (B,) int64.
            encoded: result of :meth:`encode`, or None to compute what is needed.

        Returns:
            (B,) float, higher is better.
        """
        raise NotImplementedError

    def loss(self, *batches: Any) -> Tensor:
        """The mean loss over the rows of one batch of each type in ``batches``."""
        raise NotImplementedError

    def regularizer(self, rows: PointwiseBatch, *others: Any) -> Tensor | None:
        """Terms of the loss besides those of positives and negatives; None: there are none.

        A model whose :meth:`loss` has such terms computes them here, so that they are kept where
        an objective takes the place of the others.

        Args:
            rows: positives and negatives of the step, with labels.
            others: one batch of each further type in ``batches``.
        """
        return None

    def training_score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) scores as the loss computes them, as :meth:`score` does unless overridden.

        A model in which a user's history is a part of the score leaves the scored item out of it.
        """
        return self.score(users, items, encoded)

    def step_values(self) -> Any:
        """Values with gradients that a training step computes once, as ``encoded``; or None."""
        return None

    @property
    def trained_part(self) -> Recommender:
        """The model whose scores the loss takes: this one, or the trained part of a sum."""
        return self

    @property
    def gives_logits(self) -> bool:
        """Whether scores are logits after training on the objective, or on the own loss."""
        return self.logits if self.objective is None else self.objective.logits

    @property
    def step_batches(self) -> tuple[type[NamedTuple], ...]:
        """Batch types of a training step on the objective, or on the own loss."""
        return self.batches if self.objective is None else (self.objective.batch, *self.batches[1:])

    def score_lists(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B, n) training scores of a list of items (B, n) for each user (B,)."""
        rows = users.repeat_interleave(items.shape[1])
        return self.training_score(rows, items.flatten(), encoded).view(items.shape)

    def score_grid(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B, n) training scores of the same items (n,) for each user (B,)."""
        return self.score_lists(users, items.expand(len(users), -1), encoded)

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) scores of some items; no gradients are needed.

        Override it where values that depend only on the items can be computed once. Processes that
        share tables call it and the function together, each with n items of its own and the same
        users; so both must read tables equally often, whichever the items.

        Args:
            items: (n,) int64, distinct.
        """

        def scores(users: Tensor) -> Tensor:
            blocks = torch.split(items, max(1, PAIRS // max(1, len(users))))
            parts = [
                self.score(users.repeat_interleave(len(block)), block.repeat(len(users)))
                for block in blocks
            ]
            return torch.cat([part.view(len(users), -1) for part in parts], dim=1)

        return scores

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) scores of all items for each user; override it with something faster."""
        items = torch.arange(self.catalogue_size, device=users.device)
        return torch.stack([self.score(user.expand_as(items), items, encoded) for user in users])

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """A model of the same items whose users are new users; nothing else is trained.

        The result for a user depends only on the model, the user's own history and the seed. This
        model does not change; the new one shares its tensors.

        Args:
            history: positives of n new users, numbered from 0; each has at least one.
            seed: seed of draws.

        Returns:
            A model of n users, in eval mode and without gradients.

        Raises:
            SettingError: the model cannot fold in users (``fold_in_method`` is None); or the
                history has a user without an item, or another catalogue.
        """
        raise SettingError(f"found {type(self).__name__}, expected a model that folds in users")

    def add_items(self, edges: Neighborhood, known: Tensor, seed: int = 0) -> Recommender:
        """A model with n further items, which training has not seen, without training it again.

        Args:
            edges: neighbours of the new items, with entities in the numbering of the training.
            known: (n,) int64, the entity of the training that a new item is, or -1.
            seed: seed of draws.

        Returns:
            A model of num_items + n items that shares all other parameters with this one. The new
            items follow the old ones, and the other entities follow the new items.

        Raises:
            SettingError: the model cannot score items without training (``adds_items`` is false).
        """
        raise SettingError(f"found {type(self).__name__}, expected a model that adds items")

    def reweighed(self, weights: Tensor) -> Recommender:
        """A model whose attention counts the neighbours of each relation by a multiplier.

        The new model shares its tensors with this one, and :meth:`encode` gives both the same
        values. New users are folded in with the attention of the training, and reweighed then.

        Args:
            weights: (R,) positive multipliers of the relations; 1 changes nothing.

        Raises:
            SettingError: the model has no attention to relations (``weighs_relations`` is false),
                or the weights are not R positive numbers.
        """
        raise SettingError(
            f"found {type(self).__name__}, expected a model with attention to relations"
        )

    def encode(self) -> Any:
        """Values that depend only on parameters, computed once per evaluation."""
        return None

    def item_vectors(self) -> Tensor | None:
        """(num_items, d) vectors whose cosine says how similar two items are; None: no vectors."""
        return None

    def similar_to(self, item: int) -> Tensor:
        """(num_items,) similarity of one item to every item, by default the cosine of vectors.

        Raises:
            SettingError: the model has no similarity of items.
        """
        vectors = self.item_vectors()
        if vectors is None:
            raise SettingError(f"found {type(self).__name__}, expected a model that compares items")
        return cosines(vectors, item)

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """What the score of a user and an item rests on; see :mod:`kgrec.models.reasons`.

        By default the most similar items of the history, which are no cause.

        Args:
            user: number of the user.
            item: number of the item.
            history: (n,) items of the user's history without ``item``.
            top: number of terms to return; None: all that are computed.
        """
        score = self.score_of(user, item)
        vectors = self.item_vectors()
        if vectors is None:
            return Reasons(score, NONE)
        return similar_history(score, cosines(vectors, item), history, top)

    def score_of(self, user: int, item: int) -> float:
        """The score of one pair."""
        device = next((t.device for t in [*self.parameters(), *self.buffers()]), None)
        with torch.no_grad():
            pair = torch.tensor([[user], [item]], device=device)
            return float(self.score(pair[0], pair[1]))

    def precompute(self, dataset: RecDataset) -> None:
        """Computes what is not trained; called once before training, never on load."""

    def resample(self, generator: torch.Generator) -> None:
        """Redraws the model's samples; called at the start of every epoch."""

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) estimated bytes at the peak of a training step for one row of each item (B,)."""
        return torch.zeros(len(items))

    def fixed_bytes(self) -> float:
        """Estimated bytes at the peak of a training step that do not depend on its rows.

        Parameters, their gradients and the optimiser's state are not part of it.
        """
        return 0.0

    @property
    def catalogue_size(self) -> int:
        """Number of items, the constructor's argument ``num_items``.

        Raises:
            SettingError: the constructor has no such argument.
        """
        if "num_items" not in self.arguments:
            kind = f"{type(self).__module__}.{type(self).__qualname__}"
            raise SettingError(
                f"num_items: found no such argument of the constructor of {kind}, expected the "
                "number of items"
            )
        return int(self.arguments["num_items"])

    @property
    def trainable(self) -> bool:
        """Whether any parameter needs gradients."""
        return any(p.requires_grad for p in self.parameters())

    def recipe(self) -> dict[str, Any]:
        """Class path and arguments, with tensors as shape and dtype.

        :func:`kgrec.models.recipes.rebuild` builds the model from it.
        """
        plain = {
            name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            if isinstance(value, Tensor)
            else value
            for name, value in self.arguments.items()
        }
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", "arguments": plain}


def in_blocks(score: Callable[[Tensor], Tensor], users: Tensor, numbers: int) -> Tensor:
    """Scores users (B,) in blocks, for scores with large intermediate results.

    Args:
        score: function from users (b,) to scores (b, num_items).
        users: (B,) int64.
        numbers: size of the intermediate results for one user.

    Returns:
        (B, num_items).
    """
    return torch.cat([score(block) for block in torch.split(users, max(1, BLOCK // numbers))])


def check_at_least(name: str, value: Any, minimum: int, maximum: int = LARGEST_SIZE) -> None:
    """Raises SettingError unless a setting is an integer from ``minimum`` to ``maximum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise SettingError(f"{name}: found {value!r}, expected an integer >= {minimum}")
    if value > maximum:
        raise SettingError(f"{name}: found {value!r}, expected at most {maximum}")


def check_number(name: str, value: Any, minimum: float, below: float = math.inf) -> None:
    """Raises SettingError unless a setting is a number with ``minimum <= number < below``."""
    if type(value) not in (int, float) or not minimum <= value < below:
        limit = f" and < {below:g}" if below < math.inf else ""
        expected = f"a finite number >= {minimum:g}{limit}"
        raise SettingError(f"{name}: found {value!r}, expected {expected}")
    if value >= LARGEST_NUMBER:
        raise SettingError(f"{name}: found {value!r}, expected less than {LARGEST_NUMBER:.2g}")


def check_bool(name: str, value: Any) -> None:
    """Raises SettingError unless a setting is a boolean: the text "no" would count as true."""
    if not isinstance(value, bool):
        raise SettingError(f"{name}: found {value!r}, expected true or false")
