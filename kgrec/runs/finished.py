"""Finished runs, read only from their folders."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from kgrec.errors import DataError
from kgrec.runs.folder import REFIT, RunFolder, finished_folders, unfinished_folders
from kgrec.runs.identity import system_settings


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        folder: run folder.
        config: resolved configuration.
        metrics: all metrics of model and controls.
        dataset: facts on the data set.
        environment: versions, command, hardware and choices.
    """

    folder: Path
    config: dict[str, Any]
    metrics: dict[str, float]
    dataset: dict[str, Any]
    environment: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads the folder of a finished run.

        Raises:
            DataError: a file is missing or damaged; the message names the file.
        """
        files = RunFolder(folder)
        metrics, dataset, environment = files.metrics(), files.dataset(), files.environment()
        return cls(folder, files.config(), metrics, dataset, environment)

    @property
    def files(self) -> RunFolder:
        """The files of the run folder."""
        return RunFolder(self.folder)

    @property
    def model(self) -> str:
        """Name of the model, as in ``model=``."""
        return str(self.choices.get("model") or self.config["model"]["_target_"].split(".")[-2:][0])

    @property
    def choices(self) -> Mapping[str, str]:
        """The option chosen in each configuration group."""
        return dict(self.environment.get("choices") or {})

    @property
    def data(self) -> str:
        """Name of the data set."""
        return str(self.dataset["name"])

    @property
    def protocol(self) -> str:
        """Protocol of the evaluation."""
        return str(self.dataset["protocol"])

    @property
    def negatives(self) -> str:
        """The way training negatives are drawn: "resampled" or "static"."""
        return str(self.config["negatives"]["name"])

    @property
    def seed(self) -> int:
        """Seed of model and training."""
        return int(self.config["seed"])

    @property
    def started(self) -> str:
        """Time at which the run began; empty where its files do not say."""
        return str(self.environment.get("started") or "")

    @property
    def split_key(self) -> tuple[str, int]:
        """Fingerprint of the rows, without that of weights, and seed.

        Users of runs with the same key can be paired.
        """
        return str(self.dataset["fingerprint"]).partition("+")[0], self.seed

    @property
    def command(self) -> str:
        """A command that repeats the run from its beginning, with any logger."""
        words = self.environment.get("overrides")
        if words is None:
            return shlex.join(self.environment.get("command") or [])
        left_out = ("ckpt_path=", "resume=", "logger=")
        overrides = [word for word in words if not word.startswith(left_out)]
        return shlex.join(["python", "train.py", *overrides])

    @property
    def given_keys(self) -> set[str]:
        """Keys that the command line set."""
        words = self.environment.get("overrides") or []
        return {word.lstrip("+~").partition("=")[0] for word in words}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings that name the system of the run, flat: ``model.K`` to 8."""
        return system_settings(self.config)

    def rows(self, model: str | None = None) -> pl.DataFrame:
        """Test rows with the scores of the model, or of a control.

        Raises:
            DataError: the run has not kept them.
        """
        return self.files.rows(model or self.model)

    def users(self, model: str | None = None) -> pl.DataFrame:
        """Ranking metrics of every test user; as :meth:`rows`."""
        return self.files.users(model or self.model)

    def figure(self, metric: str, model: str | None = None) -> float | None:
        """A metric, such as ``test/auc``, of the model or of a control."""
        own = model is None or model == self.model
        return self.metrics.get(metric if own else f"{model}/{metric}")

    def controls(self) -> list[str]:
        """Names of the controls that were evaluated with the model."""
        names = (key.partition("/test/")[0] for key in self.metrics if "/test/" in key)
        return list(dict.fromkeys(names))

    @cached_property
    def slices(self) -> list[dict[str, Any]]:
        """Test metrics by training positives; empty where the run has none."""
        return self.files.slices()

    @cached_property
    def curves(self) -> pl.DataFrame:
        """One row per epoch: ``epoch``, ``train/loss``, ``val/auc``; empty if the run has none."""
        return self.files.curves()


def find_runs(places: Iterable[Path]) -> list[Run]:
    """Every finished run in or under some folders, each once, by path.

    Refits are left out, because they have no test metrics (:func:`refits` names them).

    Raises:
        DataError: a place is not a folder, or has no finished run in it.
    """
    folders: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            raise DataError(f"{place}: found no such folder, expected a folder with finished runs")
        finished = [folder.path.resolve() for folder in finished_folders(place)]
        if not finished:
            raise DataError(f"{place}: found no finished run in the folder or below, expected one")
        evaluated = [path for path in finished if RunFolder(path).kind != REFIT]
        if not evaluated:
            raise DataError(
                f"{place}: found only refits, which have no test metrics, expected the runs that "
                "they were made from"
            )
        folders |= dict.fromkeys(evaluated)
    return [Run.read(folder) for folder in folders]


def refits(places: Iterable[Path]) -> list[Path]:
    """Folders of finished refits in or under some folders."""
    folders = (folder for place in places for folder in finished_folders(place))
    return sorted({folder.path for folder in folders if folder.kind == REFIT})


def left_out(places: Sequence[Path]) -> list[str]:
    """Sentences on the runs in or under some folders that :func:`find_runs` leaves out."""
    sentences = []
    if skipped := unfinished(places):
        sentences.append(f"{len(skipped)} unfinished runs are left out, such as {skipped[0]}")
    if final := refits(places):
        words = "1 refit is" if len(final) == 1 else f"{len(final)} refits are"
        sentences.append(f"{words} left out (no test metrics), such as {final[0]}")
    return sentences


def unfinished(places: Iterable[Path]) -> list[Path]:
    """Folders of runs that have begun and are not finished, each once, by path."""
    found = (folder.path for place in places for folder in unfinished_folders(place))
    return sorted({path.resolve() for path in found})


def in_given_order(places: Sequence[Path], runs: Sequence[Run]) -> list[Run]:
    """Runs in the order of the places in which they were found."""
    order = [place.resolve() for place in places]

    def number(run: Run) -> int:
        return next(i for i, p in enumerate(order) if p == run.folder or p in run.folder.parents)

    return sorted(runs, key=number)
