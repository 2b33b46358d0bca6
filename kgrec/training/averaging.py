"""Averages of the weights over optimiser steps, which validation and test use.

With w_t the weights after step t, and a_t their average:

    ema   a_t = β_t a_{t-1} + (1 - β_t) w_t,  β_t = min(decay, (1 + t) / (10 + t))
    swa   a_t = mean of w_s over all steps s ≤ t from an epoch on

ema is Polyak averaging with forgetting: Polyak, Juditsky, "Acceleration of Stochastic Approximation
by Averaging", SIAM J. Control Optim. 1992; β_t grows, so that the first weights are forgotten fast.
swa: Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
here with the learning rate of the optimiser.

Lightning's own callback averages once per call of ``training_step``, which here has several
optimiser steps; and it takes the average out again before the module ranks at the end of a
validation.
"""

from __future__ import annotations

import logging
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

log = logging.getLogger(__name__)

# Key of a checkpoint with the optimiser's weights; its state dict has the average.
RAW = "raw_weights"


class WeightAveraging(Callback):
    """Averages the trained parameters after every optimiser step.

    Validation, every checkpoint's state dict, and the module after the training have the average. A
    checkpoint also keeps the optimiser's weights, with which a run resumes.

    Args:
        decay: decay of the moving average; None: the mean.
        start: number of epochs before the average begins.
    """

    def __init__(self, decay: float | None = None, start: int = 0) -> None:
        self.decay, self.start = decay, start
        self._updates = 0
        self._others: dict[str, Tensor] = {}  # the weights that the module does not have
        self._swapped = False  # whether the module has the average

    def factor(self, t: int) -> float:
        """β_t, the weight of the average so far in update t, from 0."""
        if self.decay is None:
            return t / (t + 1)
        return min(self.decay, (1 + t) / (10 + t)) if t else 0.0

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Follows the optimiser."""
        weights = _trained(module)
        self._others = {name: tensor.to(weights[name]) for name, tensor in self._others.items()}

        def after_step(*_: Any) -> None:
            if trainer.current_epoch >= self.start:
                self._update(weights)

        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(after_step)

    @torch.no_grad()
    def _update(self, weights: dict[str, Tensor]) -> None:
        if not self._others:
            self._others = {name: tensor.detach().clone() for name, tensor in weights.items()}
        else:
            averages = [self._others[name] for name in weights]
            share = 1 - self.factor(self._updates)
            torch._foreach_lerp_(averages, list(weights.values()), share)
        self._updates += 1

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Puts the average into the module."""
        self._swap(module)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Puts the optimiser's weights back."""
        self._swap(module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Puts the average into the module, which now is trained."""
        if not self._updates:
            log.warning(
                "averaging.start: found %d, and a training of %d epochs, so nothing is averaged",
                self.start, trainer.current_epoch,
            )  # fmt: skip
        self._swap(module)

    @torch.no_grad()
    def _swap(self, module: pl.LightningModule) -> None:
        if not self._others:
            return
        for name, tensor in _trained(module).items():
            current = tensor.clone()
            tensor.copy_(self._others[name])
            self._others[name].copy_(current)
        self._swapped = not self._swapped

    def state_dict(self) -> dict[str, Any]:
        """The number of updates."""
        return {"updates": self._updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number of updates."""
        self._updates = state_dict["updates"]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps the optimiser's weights beside the average."""
        if not self._others:
            return
        state = checkpoint["state_dict"]
        current = {name: state[name] for name in self._others}
        average, raw = (current, self._others) if self._swapped else (self._others, current)
        checkpoint["state_dict"], checkpoint[RAW] = {**state, **average}, dict(raw)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes the average from the state dict, and gives the module the optimiser's weights."""
        if RAW not in checkpoint:
            return
        state = checkpoint["state_dict"]
        self._others = {name: state[name].clone() for name in checkpoint[RAW]}
        module.load_state_dict({**state, **checkpoint[RAW]})


def _trained(module: pl.LightningModule) -> dict[str, Tensor]:
    """The trained parameters by their names in the state dict."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}
