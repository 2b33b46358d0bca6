"""The runs that a server serves, by name."""

from __future__ import annotations

import gc
import json
import math
import re
import threading
import time
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from kgrec.errors import ConfigError, KgrecError
from kgrec.inference.loaded_model import LoadedModel
from kgrec.inference.loading import load
from kgrec.models.recommender import Recommender
from kgrec.serving.errors import RequestError, shown
from kgrec.serving.lookup import Lookup
from kgrec.serving.settings import ServeSettings

DEFAULT = "default"  # name of the first run, if it has no other


class ServedRun:
    """A loaded model with all that requests share.

    Attributes:
        name: name of the run in requests.
        rec: loaded model.
        users: numbers of users.
        items: numbers of items.
        seconds: time that loading took.
        item_json: id and name of each item, as members of a JSON object.
    """

    def __init__(self, name: str, place: str, settings: ServeSettings) -> None:
        start = time.monotonic()
        self.name = name
        self.rec: LoadedModel = load(place, settings.trust, settings.device, index=settings.index)
        data = self.rec.data
        self.users = Lookup(self.rec.user_ids, pl.Series(data.train.user_degrees().numpy()))
        self.items = Lookup(self.rec.item_ids, pl.Series(data.popularity.numpy()))
        self.item_json = [
            f'"item":{_json(item)},"name":{_json(title)}'
            for item, title in zip(self.items.ids, self.items.names, strict=True)
        ]
        self.rec.ranker.warm()
        self.info  # noqa: B018 - read now, while the files are there
        self.seconds = time.monotonic() - start

    @cached_property
    def info(self) -> dict[str, Any]:
        """What GET /runs says of this run."""
        model, data = self.rec.model, self.rec.data
        metrics = {
            name: value if math.isfinite(value) else None
            for name, value in self.rec.metrics.items()
        }
        return {
            "name": self.name,
            "folder": self.rec.folder.resolve().name,  # clients need no paths of this machine
            "model": self.rec.name,
            "dataset": data.about.get("dataset"),
            "users": len(self.users.ids),
            "items": len(self.items.ids),
            "metrics": metrics,
            "relations": self.rec.relations.to_dicts(),
            "abilities": {
                "fold_in": model.fold_in_method,
                "relation_weights": model.weighs_relations,
                "similar": self._compares_items,
            },
        }

    @property
    def _compares_items(self) -> bool:
        """Whether the model has similarities of items."""
        model = self.rec.model.trained_part
        return (
            type(model).similar_to is not Recommender.similar_to or model.item_vectors() is not None
        )


class Outcome(NamedTuple):
    """What became of one run at a reload.

    Attributes:
        name: name of the run.
        folder: folder of the run that is served now.
        loaded: whether the run was loaded anew.
        error: why it was not; None: it was.
    """

    name: str
    folder: str
    loaded: bool
    error: str | None


class ServedRuns:
    """The served runs; the first is the default.

    Args:
        settings: settings of the server.

    Raises:
        ConfigError: no run, or two of one name.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.settings, self.places = settings, named_places(settings.runs)
        self._runs: dict[str, ServedRun] = {}
        self._loading = threading.Lock()

    @property
    def loaded(self) -> bool:
        """Whether there is something to serve."""
        return bool(self._runs)

    def all(self) -> list[ServedRun]:
        """The served runs, the default first."""
        return list(self._runs.values())

    def get(self, name: str | None, where: str = "body.run", status: int = 422) -> ServedRun:
        """A run by name.

        Raises:
            RequestError: no run has this name, or the runs are not loaded yet.
        """
        runs = self._runs
        if not runs:
            raise RequestError("server: found no loaded run yet, expected one; try again", 503)
        if name is None:
            return next(iter(runs.values()))
        if name not in runs:
            names = ", ".join(runs)
            raise RequestError(f"{where}: found {shown(name)}, expected one of {names}", status)
        return runs[name]

    def load(self) -> None:
        """Loads all runs.

        Raises:
            KgrecError: a run cannot be loaded.
        """
        with self._loading:
            self._runs = {
                name: ServedRun(name, place, self.settings) for name, place in self.places.items()
            }
        spare_collector()

    def reload(self) -> list[Outcome]:
        """Loads what each run names by now; a run that cannot be loaded is served as before.

        Requests that are being answered keep the run with which they began.
        """
        with self._loading:
            runs, outcomes = dict(self._runs), []
            for name, place in self.places.items():
                error = None
                try:
                    runs[name] = ServedRun(name, place, self.settings)
                except KgrecError as problem:
                    error = str(problem)
                except Exception as problem:  # the old run is still good
                    error = f"{place}: {type(problem).__name__}: {problem}"
                outcomes.append(Outcome(name, str(runs[name].rec.folder), error is None, error))
            self._runs = runs
        spare_collector()
        return outcomes


def spare_collector() -> None:
    """Takes the objects that live now out of garbage collection, after a last one.

    A full collection looks at every object of the packages and runs, and stops all requests for
    that time: it took a fifth of the time of a busy server.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def named_places(runs: tuple[str, ...]) -> dict[str, str]:
    """Places of runs by name.

    Args:
        runs: "place" or "name=place". The first without a name is named "default", further ones
            after the last part of their place.

    Raises:
        ConfigError: there is no run, or a name occurs twice.
    """
    places: dict[str, str] = {}
    for run in runs:
        match = re.fullmatch(r"([\w.-]+)=(.+)", run, re.DOTALL)
        if match and not Path(run).expanduser().exists():  # a folder may be named model=svd
            name, place = match[1], match[2]
        else:
            name, place = (Path(run).absolute().name if DEFAULT in places else DEFAULT), run
        if name in places:
            raise ConfigError(f"runs: found {name} twice, expected names that differ: NAME={place}")
        places[name] = place
    if not places:
        raise ConfigError("runs: found none, expected at least one run")
    return places


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
