"""New users in a trained model: their parameters are found from histories, all others are frozen.

A model with trained tables of one row per user inherits from :class:`WithUserTables`. For a user
with n positives, and negatives drawn once from the other items, u is the user's row in each table
and s the root mean square of the numbers in that table, over the trained users:

    L = ½ mean over positives of -ln σ(ŷ) + ½ mean over negatives of -ln σ(-ŷ)     pointwise models
    L = mean over pairs of -ln σ(ŷ_positive - ŷ_negative)                          pairwise models
    u = argmin L + PRIOR / n · ‖u / s‖²                       by steps of Adam, from u = 0

The second term is a Gaussian prior, so a short history moves a user less. In units of s one step
size suits every model.

Shapes: n users of a history, b users of a block, D numbers of a user in a table.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kgrec.data.batches import PointwiseBatch
from kgrec.data.draws import generator
from kgrec.data.interactions import Interactions
from kgrec.data.negatives import NegativeSampler
from kgrec.errors import SettingError
from kgrec.models.recommender import Recommender

# Chosen on music and movie-100k with SVD, BPR-MF, LibFM and KGCN, by the validation positives of
# users who were neither trained on nor tested. Twice the steps, or negatives, change nothing there.
STEPS = 30
LEARNING_RATE = 0.1  # of the first step, in units of s; it falls linearly to 0
NEGATIVES = 100  # at least so many for each user
PRIOR = 0.05
TINY = 1e-12  # s of a table of zeros
BLOCK_BYTES = 2**28  # memory of a step, which bounds the users of a block

M = TypeVar("M", bound=nn.Module)


class WithUserTables(Recommender):
    """A model with trained tables of one row per user, in which new users get rows by steps.

    Attributes:
        user_tables: names of the tables in the state dict; the model may lack some of them.
    """

    fold_in_method: ClassVar[str | None] = "steps"
    user_tables: ClassVar[tuple[str, ...]] = ("user_embedding.weight",)

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """The model with rows for the users of a history; see :mod:`kgrec.models.folding`."""
        check_history(history, self.arguments["num_items"])
        model, history, state = frozen(self), history.to("cpu"), self.state_dict()
        trained = {name: state[name] for name in self.user_tables if name in state}
        device = next(iter(trained.values())).device
        with torch.inference_mode(False), torch.enable_grad():
            solved = []
            for block in _blocks(model, history):
                model.set_histories(block.to(device))
                solved.append(_solve(model, trained, block, seed))
            for name, parts in zip(trained, zip(*solved, strict=True), strict=True):
                _set_table(model, name, torch.cat(parts))
        model.arguments = {**self.arguments, "num_users": history.num_users}
        model.set_histories(history.to(device))
        return model

    def set_histories(self, history: Interactions) -> None:
        """Replaces the histories of all users, in a model that has them; here: none."""


def check_history(history: Interactions, num_items: int) -> None:
    """Checks that a model of ``num_items`` items can fold in the users of a history.

    Raises:
        SettingError: the history has another catalogue, or a user without an item.
    """
    if history.num_items != num_items:
        raise SettingError(
            f"history: found a catalogue of {history.num_items} items, expected {num_items}"
        )
    if len(history) and not 0 <= int(history.items.min()) <= int(history.items.max()) < num_items:
        found = int(history.items.max() if int(history.items.min()) >= 0 else history.items.min())
        raise SettingError(f"history: found item {found}, expected items from 0 to {num_items - 1}")
    empty = torch.nonzero(history.user_degrees() == 0).flatten()
    if history.num_users == 0 or len(empty):
        found_user = f"user {int(empty[0])} without an item" if len(empty) else "no user"
        raise SettingError(f"history: found {found_user}, expected an item for every user")


def frozen(module: M) -> M:
    """A copy in eval mode that needs no gradients and shares every tensor of the module."""
    twin = copy.copy(module)
    attributes = vars(twin)
    attributes["training"] = False
    attributes["_buffers"] = dict(module._buffers)
    attributes["_parameters"] = {
        name: None if p is None else nn.Parameter(p.detach(), requires_grad=False)
        for name, p in module._parameters.items()
    }
    attributes["_modules"] = {
        name: None if child is None else frozen(child) for name, child in module._modules.items()
    }
    return twin


def own_generator(seed: int, purpose: str, items: Tensor) -> torch.Generator:
    """A generator for one user, which depends only on the seed and the user's items (n,)."""
    digest = hashlib.sha256(items.cpu().numpy().tobytes()).hexdigest()
    return generator(seed, f"{purpose} of {digest}")


def _set_table(model: nn.Module, name: str, table: Tensor) -> None:
    """Replaces a table of a frozen copy, by its name in the state dict."""
    path, _, attribute = name.rpartition(".")
    module = model.get_submodule(path)
    if attribute in module._buffers:
        module._buffers[attribute] = table
    else:
        parameter = table if isinstance(table, nn.Parameter) else nn.Parameter(table, False)
        module._parameters[attribute] = parameter
    if isinstance(module, nn.Embedding):
        module.num_embeddings, module.sparse = len(table), False


def _blocks(model: Recommender, history: Interactions) -> Iterator[Interactions]:
    """Parts of a history, numbered from 0 each, whose steps fit in the memory of a block."""
    degrees = history.user_degrees().cpu()
    row_bytes = float(model.bytes_per_row(torch.arange(history.num_items)).mean()) + 100
    needed = (degrees + _num_negatives(degrees)) * row_bytes
    number = torch.div(needed.cumsum(0) - needed, BLOCK_BYTES, rounding_mode="floor").long()
    begin = 0
    for size in torch.unique_consecutive(number, return_counts=True)[1].tolist():
        row, items = history.of_users(torch.arange(begin, begin + size))
        yield Interactions(row, items, size, history.num_items)
        begin += size


def _num_negatives(degrees: Tensor) -> Tensor:
    """(n,) number of negatives: the same for every positive of a user."""
    return degrees * torch.div(degrees + NEGATIVES - 1, degrees, rounding_mode="floor")


class Rows(NamedTuple):
    """Training rows of the users of a block: p positives and q negatives, both grouped by user.

    Attributes:
        users: (p + q,) int64, positives first.
        items: (p + q,) int64.
        weights: (p + q,) float; those of a user's positives sum to 1, those of its negatives too.
        pairs: (q,) int64, the positive with which each negative makes a pair.
    """

    users: Tensor
    items: Tensor
    weights: Tensor
    pairs: Tensor

    @classmethod
    def draw(cls, history: Interactions, seed: int) -> Rows:
        """All positives, and negatives that depend only on the seed and each user's own items."""
        sampler, degrees = NegativeSampler(history), history.user_degrees()
        counts = torch.where(sampler.num_drawable > 0, _num_negatives(degrees), 0)
        draws = [
            torch.rand(count, generator=own_generator(seed, "negatives", own), dtype=torch.float64)
            for count, own in zip(
                counts.tolist(), torch.split(history.items, degrees.tolist()), strict=True
            )
        ]
        users = torch.repeat_interleave(counts)
        bounds = sampler.num_drawable[users]
        k = torch.minimum((torch.cat(draws) * bounds).long(), bounds - 1)
        negatives = sampler.nth_drawable(users, k)
        each = torch.div(counts, degrees, rounding_mode="floor")  # negatives of each positive
        pairs = torch.repeat_interleave(each[history.users])
        return cls(
            torch.cat([history.users, users]),
            torch.cat([history.items, negatives]),
            torch.cat([1 / degrees[history.users], 1 / counts[users]]),
            pairs,
        )

    def loss(self, model: WithUserTables, encoded: Any) -> Tensor:
        """Sum of the users' losses, of the kind on which the model is trained."""
        scores, q = model.training_score(self.users, self.items, encoded), len(self.pairs)
        if model.objective is not None:
            scores = scores / model.objective.temperature
        weights = self.weights.to(scores.dtype)
        positive, negative = torch.split(scores, [len(scores) - q, q])
        if model.step_batches[0] is not PointwiseBatch:  # scores of one user are compared
            return F.softplus(negative - positive[self.pairs]) @ weights[len(positive) :]
        return 0.5 * (F.softplus(torch.cat([-positive, negative])) @ weights)


def _solve(
    model: WithUserTables, trained: Mapping[str, Tensor], history: Interactions, seed: int
) -> list[Tensor]:
    """Rows (b, D) of the users of a block, for every table.

    Args:
        model: frozen copy of the model, whose tables are replaced.
        trained: tables of the trained users, by name.
        history: items of the users of the block.
        seed: seed of the negatives.
    """
    device = next(iter(trained.values())).device
    rows = Rows(*(column.to(device) for column in Rows.draw(history, seed)))
    shrinkage = PRIOR / history.user_degrees().to(device)[:, None]
    with torch.no_grad():
        encoded = model.encode()
    tables, groups = [], []
    for name, table in trained.items():
        scale = max(float(table.square().mean().sqrt()), TINY)
        new = nn.Parameter(table.new_zeros(history.num_users, table.shape[1]))
        _set_table(model, name, new)
        tables.append((new, scale))
        groups.append({"params": [new], "lr": LEARNING_RATE * scale})
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / STEPS, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = rows.loss(model, encoded)
        for new, scale in tables:
            loss = loss + (shrinkage * (new / scale).square()).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return [new.detach() for new, _ in tables]
