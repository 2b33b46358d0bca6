"""The one interface of every model, trained or not.

Shapes: B rows.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.dataset import RecDataset
from kgrec.errors import CheckpointError, ConfigError

BLOCK = 2**23  # numbers that :func:`in_blocks` holds at once


class Recommender(nn.Module):
    """Scores user-item pairs; higher is better.

    A subclass implements :meth:`score` and, if it is trained, :meth:`loss`. Its constructor
    takes plain numbers, strings, containers of them, and tensors; a tensor must become a
    persistent buffer, because a checkpoint keeps of it only shape and dtype beside the state.
    ``from_dataset`` binds plain settings to a data set and computes nothing long.

    Attributes:
        batches: the kinds of batch that :meth:`loss` eats; the first defines the epoch.
        logits: whether scores are logits, so that 0 is the point of indifference.
        ranks: whether its order of a user's items is worth looking at.
        arguments: what the constructor was called with.
        found: figures that :meth:`precompute` has to tell, by name; they go into metrics.json.
    """

    batches: ClassVar[tuple[type[NamedTuple], ...]] = (PointwiseBatch,)
    logits: ClassVar[bool] = True
    ranks: ClassVar[bool] = True
    arguments: dict[str, Any]
    found: dict[str, float]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Notes the constructor's arguments, from which a checkpoint rebuilds the model."""
        self = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(self, *args, **kwargs)
        bound.apply_defaults()
        names = list(bound.arguments)[1:]
        object.__setattr__(self, "arguments", {name: bound.arguments[name] for name in names})
        object.__setattr__(self, "found", {})
        return self

    def score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """Scores pairs.

        Args:
            users: (B,) int64.
            items: (B,) int64.
            encoded: what :meth:`encode` returned, or None to compute what is needed.

        Returns:
            (B,) float, higher is better.
        """
        raise NotImplementedError

    def loss(self, *batches: Any) -> Tensor:
        """The mean loss over the rows of one batch of each kind in ``batches``."""
        raise NotImplementedError

    def score_all(self, users: Tensor, encoded: Any = None) -> Tensor:
        """(B, num_items) scores of every item for each user; override where it goes faster."""
        num_items = int(self.arguments["num_items"])
        items = torch.arange(num_items, device=users.device)
        return torch.stack([self.score(user.expand(num_items), items, encoded) for user in users])

    def encode(self) -> Any:
        """What depends on parameters alone, computed once an evaluation."""
        return None

    def precompute(self, dataset: RecDataset) -> None:
        """What is computed rather than trained; called once, never on load."""

    def resample(self, generator: torch.Generator) -> None:
        """Draws anew what the model samples; called at the start of every epoch."""

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) estimated bytes that one training row of each item needs at the peak."""
        return torch.zeros(len(items))

    @property
    def trainable(self) -> bool:
        """Whether any parameter needs gradients."""
        return any(p.requires_grad for p in self.parameters())

    def recipe(self) -> dict[str, Any]:
        """Class path and plain arguments, tensors as shape and dtype; see :func:`rebuild`."""
        plain = {
            name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
            if isinstance(value, Tensor)
            else value
            for name, value in self.arguments.items()
        }
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}", "arguments": plain}


def rebuild(recipe: Mapping[str, Any]) -> Recommender:
    """Builds a model from :meth:`Recommender.recipe`; the state dict then fills it.

    Raises:
        CheckpointError: its class is not there any more, or takes other arguments.
    """
    arguments = {
        name: torch.zeros(value["shape"], dtype=getattr(torch, value["dtype"]))
        if isinstance(value, Mapping) and set(value) == {"shape", "dtype"}
        else value
        for name, value in recipe["arguments"].items()
    }
    try:
        model = import_object(recipe["class"])(**arguments)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"the model {recipe['class']} cannot be rebuilt: {error}") from error
    if not isinstance(model, Recommender):
        raise CheckpointError(f"found the class {recipe['class']}, expected a Recommender")
    return model


def import_object(path: str) -> Any:
    """The object at a dotted path.

    Raises:
        ConfigError: there is none.
    """
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"found the path {path!r}, expected an importable one: {error}"
        ) from error


def in_blocks(score: Callable[[Tensor], Tensor], users: Tensor, numbers: int) -> Tensor:
    """Scores users (B,), a few at a time, where a user needs many numbers on the way.

    Args:
        score: from users (b,) to (b, num_items).
        users: (B,) int64.
        numbers: that are held at once for a user.

    Returns:
        (B, num_items).
    """
    return torch.cat([score(some) for some in torch.split(users, max(1, BLOCK // numbers))])


def check_at_least(name: str, value: Any, minimum: int) -> None:
    """Raises ConfigError unless ``value`` is an integer of at least ``minimum``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{name}: found {value!r}, expected an integer >= {minimum}")
