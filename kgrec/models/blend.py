"""Blend: the score of a trained model plus a weighted score of a closed-form one.

A weighted hybrid in the terms of Burke: "Hybrid Recommender Systems: Survey and Experiments", User
Modeling and User-Adapted Interaction 2002, section 2:

    ŷ(u, v) = ŷ_trained(u, v) + weight · ŷ_closed(u, v)

The closed-form model is computed once, before the training. The training sees the trained model
alone: its loss, its batches and its scores. The sum is what is evaluated, so the epoch with the
best sum is kept.

Shapes: B rows.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import torch
from torch import Tensor

from kgrec.data.dataset import RecDataset
from kgrec.data.interactions import Interactions
from kgrec.errors import ConfigError, SettingError, unknown_key
from kgrec.models.folding import frozen
from kgrec.models.importing import import_class
from kgrec.models.item_based import ItemBased
from kgrec.models.objectives import Objective
from kgrec.models.reasons import EXACT, LEAVE_ONE_OUT, Reasons, Term, ordered
from kgrec.models.recipes import blank
from kgrec.models.recommender import Recommender, check_number

R = TypeVar("R", bound=Recommender)

FOLD_IN_METHODS = (None, "steps", "propagation", "exact")  # the weakest first


class Encoded(NamedTuple):
    """What the parts compute once per evaluation."""

    trained: Any
    closed_form: Any


class Blend(Recommender):
    """A trained model plus a weighted closed-form one; only the first is trained.

    Scores are no logits, because the closed-form model's are not.

    Args:
        num_users: number of users.
        num_items: number of items.
        trained: recipe of the trained model, see :meth:`Recommender.recipe`.
        closed_form: recipe of the closed-form model, an :class:`ItemBased`.
        weight: factor of the closed-form model's scores.

    Raises:
        SettingError: a setting that cannot work.
    """

    logits: ClassVar[bool] = False
    fold_in_method: ClassVar[str | None] = "propagation"  # of LightCKG; an instance has its own
    trained: Recommender
    closed_form: ItemBased

    def __init__(
        self,
        num_users: int,
        num_items: int,
        trained: Mapping[str, Any],
        closed_form: Mapping[str, Any],
        weight: float = 5.0,
    ) -> None:
        super().__init__()
        check_number("weight", weight, 0)
        self.weight = weight
        self._set_parts(blank(trained, Recommender), blank(closed_form, ItemBased))

    @classmethod
    def from_dataset(
        cls,
        dataset: RecDataset,
        trained: Mapping[str, Any],
        closed_form: Mapping[str, Any],
        weight: float = 5.0,
    ) -> Self:
        """Binds settings to a data set.

        Args:
            dataset: split data.
            trained: ``class``, the dotted path of a model, and the arguments of its
                ``from_dataset``.
            closed_form: the same of an :class:`ItemBased`, such as EASE or ItemKNN.
            weight: factor of the closed-form model's scores.

        Raises:
            SettingError: a setting that cannot work; of a part, as in ``trained.d``.
        """
        fitted = _part("trained", trained, Recommender, dataset)
        if not fitted.trainable:
            path = trained["class"]
            raise SettingError(f"trained.class: found {path!r}, expected a model that is trained")
        closed = _part("closed_form", closed_form, ItemBased, dataset)
        sizes = dataset.num_users, dataset.num_items
        model = cls(*sizes, fitted.recipe(), closed.recipe(), weight)
        model._set_parts(fitted, closed)
        return model

    def _set_parts(self, trained: Recommender, closed_form: ItemBased) -> None:
        """Sets both models, and what other models have as class variables."""
        self.trained, self.closed_form = trained, closed_form
        methods = trained.fold_in_method, closed_form.fold_in_method
        vars(self).update(
            batches=trained.batches,
            fold_in_method=min(methods, key=FOLD_IN_METHODS.index),
            exportable=trained.exportable and closed_form.exportable,
            weighs_relations=trained.weighs_relations,
        )

    def precompute(self, dataset: RecDataset) -> None:
        """Computes what is not trained, of both models."""
        for part in (self.trained, self.closed_form):
            part.precompute(dataset)
            self.precompute_metrics |= part.precompute_metrics

    # ------------------------------------------------------------------ scores

    def encode(self) -> Encoded:
        """What both models compute once."""
        return Encoded(self.trained.encode(), self.closed_form.encode())

    def score(self, users: Tensor, items: Tensor, encoded: Encoded | None = None) -> Tensor:
        """(B,) scores ŷ(u, v), from users (B,) and items (B,)."""
        trained, closed_form = encoded or (None, None)
        closed = self.closed_form.score(users, items, closed_form)
        return self.trained.score(users, items, trained) + self.weight * closed

    def score_all(self, users: Tensor, encoded: Encoded | None = None) -> Tensor:
        """(B, num_items) scores, from users (B,)."""
        trained, closed_form = encoded or (None, None)
        closed = self.closed_form.score_all(users, closed_form)
        return self.trained.score_all(users, trained) + self.weight * closed

    def scorer(self, items: Tensor) -> Callable[[Tensor], Tensor]:
        """A function from users (B,) to (B, n) scores of items (n,), from those of both models."""
        trained, closed = self.trained.scorer(items), self.closed_form.scorer(items)
        return lambda users: trained(users) + self.weight * closed(users)

    # ------------------------------------------------------------------ training

    @property
    def trained_part(self) -> Recommender:
        """The trained model."""
        return self.trained.trained_part

    @property
    def objective(self) -> Objective | None:
        """The objective of the trained model, which reads it where it folds in users."""
        return self.trained.objective

    @objective.setter
    def objective(self, value: Objective | None) -> None:
        self.trained.objective = value

    @property
    def gives_logits(self) -> bool:
        """False: the closed-form model's scores are no logits, whichever the objective."""
        return False

    def loss(self, *batches: Any) -> Tensor:
        """The loss of the trained model alone."""
        return self.trained.loss(*batches)

    def regularizer(self, rows: Any, *others: Any) -> Tensor | None:
        """Further terms of the trained model's loss."""
        return self.trained.regularizer(rows, *others)

    def training_score(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B,) scores of the trained model; ``encoded`` is its own, from :meth:`step_values`."""
        return self.trained.training_score(users, items, encoded)

    def score_lists(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B, n) training scores of the trained model, from users (B,) and items (B, n)."""
        return self.trained.score_lists(users, items, encoded)

    def score_grid(self, users: Tensor, items: Tensor, encoded: Any = None) -> Tensor:
        """(B, n) training scores of the trained model, from users (B,) and items (n,)."""
        return self.trained.score_grid(users, items, encoded)

    def step_values(self) -> Any:
        """Values of a training step of the trained model."""
        return self.trained.step_values()

    def resample(self, generator: torch.Generator) -> None:
        """Redraws the trained model's samples."""
        self.trained.resample(generator)

    def bytes_per_row(self, items: Tensor) -> Tensor:
        """(B,) bytes of the trained model, from items (B,)."""
        return self.trained.bytes_per_row(items)

    def fixed_bytes(self) -> float:
        """Bytes of the trained model."""
        return self.trained.fixed_bytes()

    # ------------------------------------------------------------------ use

    def fold_in(self, history: Interactions, seed: int = 0) -> Recommender:
        """Both models with the new users."""
        folded = self.trained.fold_in(history, seed), self.closed_form.fold_in(history, seed)
        twin = self._with_parts(*folded)
        twin.arguments = {
            **self.arguments,
            "num_users": history.num_users,
            "trained": twin.trained.recipe(),
            "closed_form": twin.closed_form.recipe(),
        }
        return twin

    def reweighed(self, weights: Tensor) -> Recommender:
        """The trained model reweighed, and the same closed-form one."""
        return self._with_parts(self.trained.reweighed(weights), frozen(self.closed_form))

    def _with_parts(self, trained: Recommender, closed_form: Recommender) -> Self:
        """A copy without gradients that has other models."""
        assert isinstance(closed_form, ItemBased)
        twin = frozen(self)
        twin._set_parts(trained, closed_form)
        return twin

    def item_vectors(self) -> Tensor | None:
        """(num_items, d) vectors of the trained model."""
        return self.trained.item_vectors()

    def similar_to(self, item: int) -> Tensor:
        """(num_items,) similarity by the trained model."""
        return self.trained.similar_to(item)

    def explain(self, user: int, item: int, history: Tensor, top: int | None = None) -> Reasons:
        """Terms of both models, each with its share in the sum.

        An item of the history that is a term of both is one term with both shares; its weight is
        that of the trained model. A trained model without shares, whose reasons are no causes, is
        one further part of the score.
        """
        ours = self.trained.explain(user, item, history)
        closed = self.closed_form.explain(user, item, history)
        score = ours.score + self.weight * closed.score
        added = [(term.item, self.weight * (term.share or 0.0)) for term in closed.terms]
        added_together = self.weight * (closed.together or 0.0)
        if ours.method not in (EXACT, LEAVE_ONE_OUT):
            terms, left_out = ordered([Term(s, s, item=liked) for liked, s in added], top)
            parts = {"trained model": ours.score}
            return Reasons(score, EXACT, terms, left_out, added_together, parts)
        kept, left_out = ordered(_merged(list(ours.terms), added), top)
        together = None if ours.together is None else ours.together + added_together
        return dataclasses.replace(
            ours, score=score, terms=kept, left_out=ours.left_out + left_out, together=together
        )


def _merged(terms: list[Term], added: list[tuple[int | None, float]]) -> list[Term]:
    """Terms with further shares of items of the history."""
    plain = [term.item is not None and not term.steps and not term.relations for term in terms]
    places = {term.item: n for n, term in enumerate(terms) if plain[n]}
    for item, share in added:
        if item in places:
            term = terms[places[item]]
            terms[places[item]] = dataclasses.replace(term, share=(term.share or 0.0) + share)
        else:
            terms.append(Term(share, share, item=item))
    return terms


def _part(name: str, settings: Any, base: type[R], dataset: RecDataset) -> R:
    """The model that the settings of a part describe.

    Args:
        name: name of the part.
        settings: ``class`` and the arguments of its ``from_dataset``.
        base: class that the model must have.
        dataset: split data.

    Raises:
        SettingError: begins with the name of the part and of the setting.
    """
    if not isinstance(settings, Mapping) or not isinstance(settings.get("class"), str):
        raise SettingError(f"{name}: found {settings!r}, expected class and settings of a model")
    try:
        build = getattr(import_class(settings["class"], base), "from_dataset", None)
    except ConfigError as error:
        raise SettingError(f"{name}.class: {error}") from error
    if build is None:
        path = settings["class"]
        raise SettingError(f"{name}.class: found {path!r}, expected a class with from_dataset")
    arguments = {str(key): value for key, value in settings.items() if key != "class"}
    parameters = dict(list(inspect.signature(build).parameters.items())[1:])
    for key in arguments:
        if key not in parameters:
            raise SettingError(str(unknown_key(name, key, list(parameters))))
    for key, parameter in parameters.items():
        if parameter.default is parameter.empty and key not in arguments:
            raise SettingError(f"{name}.{key}: found nothing, expected a value")
    try:
        made: R = build(dataset, **arguments)
    except SettingError as error:
        raise SettingError(f"{name}.{error}") from error
    return made
