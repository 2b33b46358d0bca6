"""The files of a run folder: their names, and how to write and read them.

config.yaml          resolved configuration
environment.json     versions, command, hardware, choices of the configuration groups; "kind":
                     "refit" (trained on all data, without evaluation) or "lists" (scored lists of
                     another tool); an ordinary run has none
dataset.json         sizes and fingerprint of the data set, account of every row
metrics.json         all metrics of model and controls; written last, so its presence means
                     that the run is finished
status.json          state of the run, see kgrec.runs.status
at_work.lock         lock that a process holds while it works in the folder
train.log            what was printed
checkpoints/         best.ckpt, last.ckpt
curves/              metrics of every epoch
evaluation/          slices.json, samples.json; <model>/rows.parquet: test rows with scores;
                     <model>/users.parquet: ranking metrics of each user
ids/                 raw ids of users, items, entities and relations
inference/           what kgrec.load needs besides the checkpoint: about.json (version of these
                     files, model, seed), seen.parquet (pairs of users and items, by part),
                     triples.parquet (the knowledge graph); all with integer ids
wandb/               files of Weights & Biases
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kgrec import __version__
from kgrec.errors import DataError
from kgrec.files import inside, write_json, write_parquet, write_text
from kgrec.runs import schema
from kgrec.runs.reading import numbers, read_config, read_json, read_table

if TYPE_CHECKING:
    import polars as pl

CONFIG, ENVIRONMENT, DATASET = "config.yaml", "environment.json", "dataset.json"
METRICS, STATUS, LOCK, LOG = "metrics.json", "status.json", "at_work.lock", "train.log"
CURVES = "curves/version_*/metrics.csv"
INFERENCE_VERSION = 1  # of the files in inference/
VALIDATED, REFIT, LISTS = "run", "refit", "lists"  # kinds of runs, "kind" in environment.json


@dataclass(frozen=True)
class RunFolder:
    """One run folder.

    Attributes:
        path: the folder.
    """

    path: Path

    # ------------------------------------------------------------ places

    @property
    def config_file(self) -> Path:
        """Resolved configuration."""
        return self.path / CONFIG

    @property
    def metrics_file(self) -> Path:
        """Metrics of model and controls."""
        return self.path / METRICS

    @property
    def status_file(self) -> Path:
        """State of the run."""
        return self.path / STATUS

    @property
    def lock_file(self) -> Path:
        """File that the process at work on the run has locked."""
        return self.path / LOCK

    @property
    def log_file(self) -> Path:
        """Log of what the run printed."""
        return self.path / LOG

    @property
    def ids(self) -> Path:
        """Folder of raw ids."""
        return self.path / "ids"

    @property
    def seen_file(self) -> Path:
        """Pairs of users and items, by part."""
        return self.path / "inference" / "seen.parquet"

    @property
    def triples_file(self) -> Path:
        """Triples of the knowledge graph."""
        return self.path / "inference" / "triples.parquet"

    @property
    def about_file(self) -> Path:
        """Version of the files in inference/, model and seed."""
        return self.path / "inference" / "about.json"

    @property
    def wandb(self) -> Path:
        """Folder of Weights & Biases."""
        return self.path / "wandb"

    @property
    def slices_file(self) -> Path:
        """Test metrics by training positives of user and item."""
        return self.path / "evaluation" / "slices.json"

    @property
    def samples_file(self) -> Path:
        """Recommendations to a few test users."""
        return self.path / "evaluation" / "samples.json"

    def checkpoint(self, name: str) -> Path:
        """The "best" or the "last" checkpoint."""
        return self.path / "checkpoints" / f"{name}.ckpt"

    def rows_file(self, model: str) -> Path:
        """Test rows with the scores of the model, or of a control."""
        return self._evaluation(model) / "rows.parquet"

    def users_file(self, model: str) -> Path:
        """Ranking metrics of each test user, of the model or of a control."""
        return self._evaluation(model) / "users.parquet"

    def _evaluation(self, model: str) -> Path:
        return inside(self.path / "evaluation", model, f"{self.path}: model")

    # ------------------------------------------------------------ reading

    @property
    def finished(self) -> bool:
        """Whether the run has ended with its metrics."""
        return self.metrics_file.is_file()

    def metrics(self) -> dict[str, float]:
        """All metrics.

        Raises:
            DataError: the file is missing or damaged.
        """
        return dict(read_json(self.metrics_file, schema.METRICS))

    def dataset(self) -> dict[str, Any]:
        """Facts on the data set.

        Raises:
            DataError: the file is missing or damaged.
        """
        return dict(read_json(self.path / DATASET, schema.DATASET))

    def environment(self) -> dict[str, Any]:
        """Versions, command, hardware and choices.

        Raises:
            DataError: the file is missing or damaged.
        """
        return dict(read_json(self.path / ENVIRONMENT, schema.ENVIRONMENT))

    @property
    def kind(self) -> str:
        """VALIDATED, REFIT or LISTS; VALIDATED also where the file cannot be read."""
        try:
            return str(self.environment().get("kind", VALIDATED))
        except DataError:
            return VALIDATED

    def marked(self, marks: Mapping[str, Any]) -> bool:
        """Whether environment.json has these facts."""
        try:
            facts = self.environment()
        except DataError:
            return False
        return all(facts.get(key) == value for key, value in marks.items())

    def config(self) -> dict[str, Any]:
        """The resolved configuration.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_config(self.config_file)

    def slices(self) -> list[dict[str, Any]]:
        """Test metrics by training positives; empty where the run has none.

        Raises:
            DataError: the file is damaged.
        """
        return (
            list(read_json(self.slices_file, schema.SLICES)) if self.slices_file.is_file() else []
        )

    def curves(self) -> pl.DataFrame:
        """Metrics of every epoch: one row per epoch, one column per metric.

        Empty where the run has no epoch. A file that is being written is left out.
        """
        import polars as pl

        from kgrec.data.csv_files import takes_little_memory
        from kgrec.data.polars_errors import POLARS_ERRORS
        from kgrec.data.text_files import header_line

        parts = []
        for path in sorted(self.path.glob(CURVES)):
            with contextlib.suppress(OSError, DataError, *POLARS_ERRORS):
                columns = 1 + header_line(path)[1].count(",")
                if not takes_little_memory(path, ",", columns):
                    continue
                parts.append(numbers(pl.read_csv(path, infer_schema_length=0, glob=False)))
        parts = [part for part in parts if "epoch" in part.columns]
        if not parts:
            return pl.DataFrame({"epoch": []}, schema={"epoch": pl.Int64})
        whole = pl.concat(parts, how="diagonal").drop_nulls("epoch")
        return whole.group_by("epoch").agg(pl.all().drop_nulls().last()).sort("epoch")

    def rows(self, model: str) -> pl.DataFrame:
        """Test rows with the scores of the model, or of a control.

        Raises:
            DataError: the run has not kept them, or the file is damaged.
        """
        return read_table(self.rows_file(model), schema.ROWS)

    def users(self, model: str) -> pl.DataFrame:
        """Ranking metrics of each test user, of the model or of a control.

        Raises:
            DataError: the run has not kept them, or the file is damaged.
        """
        return read_table(self.users_file(model), schema.USERS)

    def about(self) -> dict[str, Any]:
        """Facts that :meth:`write_inference` wrote.

        Raises:
            DataError: the files are missing, damaged, or of another version.
        """
        if not self.about_file.is_file():
            raise DataError(
                f"{self.path}: found no inference/{self.about_file.name}, expected that of a run "
                "by this version of kgrec; train the run again"
            )
        about: dict[str, Any] = read_json(self.about_file, {"version": schema.Plain})
        if about.get("version") != INFERENCE_VERSION:
            raise DataError(
                f"{self.about_file}: found version {about.get('version')!r}, expected "
                f"{INFERENCE_VERSION}; train the run again, or use the version of kgrec that wrote "
                f"it ({about.get('kgrec')})"
            )
        schema.check(self.about_file, about, schema.ABOUT)
        return about

    def seen(self) -> pl.DataFrame:
        """Pairs of users and items: ``user``, ``item``, ``part``.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_table(self.seen_file, schema.SEEN)

    def triples(self) -> pl.DataFrame:
        """Triples of the knowledge graph: ``head``, ``relation``, ``tail``.

        Raises:
            DataError: the file is missing or damaged.
        """
        return read_table(self.triples_file, schema.TRIPLES)

    # ------------------------------------------------------------ writing

    def write_inputs(
        self, config: str, environment: Mapping[str, Any], dataset: Mapping[str, Any]
    ) -> None:
        """Writes the configuration, the environment and the facts on the data set.

        Args:
            config: resolved configuration as YAML.
            environment: versions, command, hardware and choices.
            dataset: facts on the data set.
        """
        write_text(self.config_file, config)
        write_json(self.path / ENVIRONMENT, dict(environment))
        write_json(self.path / DATASET, dict(dataset))

    def mark(self, marks: Mapping[str, Any]) -> None:
        """Writes the kind of a run before it begins; :meth:`write_inputs` replaces the file."""
        write_json(self.path / ENVIRONMENT, dict(marks))

    def write_inference(
        self, about: Mapping[str, Any], seen: pl.DataFrame, triples: pl.DataFrame
    ) -> None:
        """Writes what :func:`kgrec.load` needs besides the checkpoint and the raw ids.

        Args:
            about: model, seed and further plain facts.
            seen: ``user``, ``item``, ``part``.
            triples: ``head``, ``relation``, ``tail``.
        """
        write_parquet(self.seen_file, seen)
        write_parquet(self.triples_file, triples)
        facts = {"version": INFERENCE_VERSION, "kgrec": __version__, **about}
        write_json(self.about_file, facts)

    def write_metrics(self, metrics: Mapping[str, float]) -> None:
        """Writes all metrics; with them the run is finished."""
        write_json(self.metrics_file, dict(metrics))

    def write_rows(self, model: str, table: pl.DataFrame) -> None:
        """Writes test rows with the scores of a model."""
        write_parquet(self.rows_file(model), table)

    def write_users(self, model: str, table: pl.DataFrame) -> None:
        """Writes the ranking metrics of each test user."""
        write_parquet(self.users_file(model), table)

    def write_slices(self, slices: list[dict[str, Any]]) -> None:
        """Writes test metrics by training positives."""
        write_json(self.slices_file, slices)

    def write_samples(self, samples: list[dict[str, Any]]) -> None:
        """Writes recommendations to a few test users."""
        write_json(self.samples_file, samples)


def finished_folders(place: Path) -> Iterator[RunFolder]:
    """Folders of finished runs in or under a place, by path."""
    for path in sorted(place.rglob(METRICS)):
        folder = RunFolder(path.parent)
        if folder.config_file.is_file():
            yield folder


def unfinished_folders(place: Path) -> Iterator[RunFolder]:
    """Folders of runs in or under a place that have begun and are not finished."""
    for path in sorted(place.rglob(ENVIRONMENT)):
        folder = RunFolder(path.parent)
        if not folder.finished:
            yield folder


def watched_files(folder: Path) -> Iterator[Path]:
    """Files from which the page on a sweep is made."""
    for pattern in (STATUS, METRICS, LOG, "evaluation/samples.json", CURVES):
        yield from sorted(folder.glob(pattern))
