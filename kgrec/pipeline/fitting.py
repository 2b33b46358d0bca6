"""``kgrec.fit``: from frames in memory to a trained model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from kgrec.data.build.building import build
from kgrec.data.build.guess import guess_plan
from kgrec.data.build.plan_file import read_plan
from kgrec.errors import DataError
from kgrec.files import write_parquet, write_text
from kgrec.inference.loaded_model import LoadedModel
from kgrec.inference.loading import load
from kgrec.pipeline.in_process import run_in_process
from kgrec.runs.folder import RunFolder

FITS = Path("logs") / "fit"


def fit(
    interactions: Any,
    items: Any = None,
    users: Any = None,
    links: Any = None,
    model: str = "kgcn",
    overrides: Sequence[str] = (),
    folder: str | Path | None = None,
    quiet: bool = False,
) -> LoadedModel:
    """Trains and tests a model on frames of polars or pandas.

    The frames are written as tables, and ``kgrec data build --guess`` decides what their columns
    are; ``build.yaml`` in the run folder says what was decided. Columns named ``user`` and
    ``item`` are always understood.

    Args:
        interactions: frame with one row per interaction: user, item, and optionally rating,
            timestamp, quantity.
        items: frame with one row per item: id, and optionally a title; each further column is an
            attribute, which becomes a relation of the knowledge graph.
        users: frame with one row per user: id and attributes.
        links: frame with two columns of items that belong together.
        model: model, as in ``model=``.
        overrides: further settings as for ``kgrec train``, such as ``["model.K=8", "epochs=20"]``.
        folder: new run folder; None: a folder in ``logs/fit``, named by model and time.
        quiet: whether to print nothing.

    Returns:
        What :func:`kgrec.load` returns for the run folder.

    Raises:
        DataError: a frame cannot be used, or the folder exists.
        ConfigError: a setting that cannot work.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    place = Path(folder) if folder is not None else FITS / f"{model}-{stamp}"
    if RunFolder(place).finished or (place.is_dir() and any(place.iterdir())):
        raise DataError(f"{place}: found a folder with files, expected a new folder")
    given = {"interactions": interactions, "items": items, "users": users, "links": links}
    frames = {name: _frame(name, frame) for name, frame in given.items() if frame is not None}
    tables = place / "tables"
    tables.mkdir(parents=True)
    try:
        for name, frame in frames.items():
            write_parquet(tables / f"{name}.parquet", frame)
        write_text(place / "build.yaml", guess_plan([tables], place))
        build(read_plan(place / "build.yaml"), place / "data")
        settings = [f"model={model}", "dataset=custom", f"dataset.root='{place / 'data'}'",
                    "logger=csv", *overrides]  # fmt: skip
        run_in_process(settings, place.absolute(), quiet)
    except BaseException:
        if not RunFolder(place).log_file.exists():  # nothing has been trained
            shutil.rmtree(place)
        raise
    return load(place)


def _frame(name: str, frame: Any) -> pl.DataFrame:
    """A frame of polars or pandas, or a mapping of columns, as a frame of polars.

    Raises:
        DataError: it is none of these, or empty.
    """
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    table = frame if isinstance(frame, pl.DataFrame) else _converted(name, frame)
    if table.is_empty():
        raise DataError(f"{name}: found no rows, expected rows")
    return table


def _converted(name: str, frame: Any) -> pl.DataFrame:
    """A frame of pandas, or a mapping of columns, as a frame of polars."""
    is_pandas = hasattr(frame, "columns") and hasattr(frame, "iloc")
    if not is_pandas and not isinstance(frame, Mapping):
        raise DataError(
            f"{name}: found a {type(frame).__name__}, expected a frame of polars or pandas"
        )
    columns = frame.columns if is_pandas else frame.keys()
    cells = {str(column): [_plain(value) for value in frame[column]] for column in columns}
    return pl.DataFrame(cells, strict=False)


def _plain(value: Any) -> Any:
    """A cell as a plain value; None for the NaN and NaT of pandas."""
    if hasattr(value, "tolist"):  # an array or a number of numpy
        value = value.tolist()
    is_nan = not isinstance(value, list | tuple | str) and value != value  # noqa: PLR0124
    return None if is_nan else value
