"""Pruning: a trial of a search stops early if its validation values are clearly behind.

The sweeper writes the number of the trial into the job's run folder. The process of the job, which
a launcher may have started anywhere, opens the study in the sweep's folder, reports a value for
every epoch and asks the pruner.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import Callback

from kgrec.errors import ConfigError
from kgrec.runs.status import read_status, update

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.storages import RDBStorage

log = logging.getLogger(__name__)

STUDY, NAME = "study.db", "kgrec"
BUSY_SECONDS = 60.0  # a process waits this long while another one writes to the study


def open_storage(folder: Path) -> RDBStorage:
    """The storage of the study in a sweep's folder."""
    from optuna.storages import RDBStorage

    arguments = {"connect_args": {"timeout": BUSY_SECONDS}}
    return RDBStorage(f"sqlite:///{folder / STUDY}", engine_kwargs=arguments)


def make_pruner(configuration: DictConfig | None) -> BasePruner:
    """The configured pruner of Optuna; without one, no trial is pruned.

    Raises:
        ConfigError: the configuration is not that of a pruner.
    """
    from optuna.pruners import BasePruner, NopPruner

    if configuration is None:
        return NopPruner()
    named = OmegaConf.is_dict(configuration) and "_target_" in configuration
    pruner = instantiate(configuration) if named else None
    if not isinstance(pruner, BasePruner):
        raise ConfigError(
            f"hydra.sweeper.pruner: found {configuration}, expected a pruner of Optuna, such as "
            "{_target_: optuna.pruners.MedianPruner}, or null"
        )
    return pruner


class Pruning(Callback):
    """Reports the validation value of each epoch to the study, and stops a trial that is behind.

    The callback comes after early stopping: a training that ends by itself is not pruned. If the
    study cannot be reached, the trial is trained to its end. The decision is kept in status.json,
    because a pruner that is asked about an epoch again may answer otherwise.

    Args:
        folder: run folder of the job, in the sweep's folder.
        pruner: configuration of an Optuna pruner.

    Attributes:
        pruned: whether the trial was stopped.
    """

    def __init__(self, folder: Path, pruner: DictConfig) -> None:
        self.pruned = False
        self._folder, self._pruner = folder, pruner
        self._validated = False

    def on_fit_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Opens the study."""
        import optuna

        facts = read_status(self._folder)
        self._monitor = str(facts["monitor"])  # a small catalogue has a smaller cut-off
        self._storage = open_storage(self._folder.parent)
        sampler = optuna.samplers.RandomSampler()  # nothing is drawn here
        study = optuna.load_study(
            study_name=NAME, storage=self._storage, sampler=sampler,
            pruner=make_pruner(self._pruner),
        )  # fmt: skip
        number = self._storage.get_trial_id_from_study_id_trial_number(
            self._storage.get_study_id_from_name(NAME), facts["trial"]
        )
        self._trial = optuna.trial.Trial(study, number)
        # A resumed trial has reported its first epochs already.
        self._reported = set(study.trials[facts["trial"]].intermediate_values)
        self._pruned_after = facts.get("pruned_after")

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Ends the training before its next epoch if the trial was pruned and then interrupted."""
        if self._pruned_after is not None and self._pruned_after <= trainer.current_epoch:
            self.pruned = trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Notes that the epoch has a validation value of its own."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Reports the value of the epoch, and ends the training if the trial is to be pruned."""
        from optuna.exceptions import StorageInternalError

        epoch, validated = trainer.current_epoch + 1, self._validated
        self._validated = False
        if not validated or self.pruned:
            return
        value = float(trainer.callback_metrics[self._monitor])
        try:
            if epoch not in self._reported:
                self._trial.report(value, epoch)
            if trainer.should_stop or epoch == trainer.max_epochs:
                return
            self.pruned = self._pruned_after == epoch or self._trial.should_prune()
        except StorageInternalError as error:
            log.warning("warning: the study cannot be reached, so nothing is pruned: %s", error)
            return
        if self.pruned:
            update(self._folder, pruned_after=epoch)
            log.info("pruned: %s %.4f is behind other trials", self._monitor, value)
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Closes the study."""
        if stage == "fit":
            self._storage.engine.dispose()


def pruning_of(folder: Path) -> list[Callback]:
    """The callback that prunes a job: one for a trial of a search with a pruner, else none.

    Args:
        folder: run folder of the job.
    """
    pruner = HydraConfig.get().sweeper.get("pruner")
    if pruner is None or "trial" not in read_status(folder):
        return []
    return [Pruning(folder, pruner)]
