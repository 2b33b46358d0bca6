"""``kgrec.fit``: from frames in memory to a trained model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from kgrec.data.build.building import build
from kgrec.data.build.guess import guess_plan
from kgrec.data.build.plan import Plan
from kgrec.data.build.plan_file import read_plan
from kgrec.data.frames import as_frame
from kgrec.errors import ConfigError, DataError
from kgrec.files import inside, make_folder, quoted, write_parquet, write_text
from kgrec.inference.loaded_model import LoadedModel
from kgrec.inference.loading import load
from kgrec.pipeline.in_process import run_in_process
from kgrec.runs.folder import RunFolder

WITH_USER_GRAPH = ("kgcn_two_ends",)  # models that read the user graph
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
    user_links: Any = None,
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
        users: frame with one row per user: id and attributes. They are used by
            ``model="kgcn_two_ends"`` alone.
        links: frame with two columns of items that belong together.
        model: model, as in ``model=``.
        overrides: further settings as for ``kgrec train``, such as ``["model.K=8", "epochs=20"]``.
        folder: new run folder; None: a folder in ``logs/fit``, named by model and time.
        quiet: whether to print nothing.
        user_links: frame with two columns of users that belong together; used as ``users`` are.

    Returns:
        What :func:`kgrec.load` returns for the run folder.

    Raises:
        DataError: a frame cannot be used, or the folder exists.
        ConfigError: a setting that cannot work.
    """
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    place = Path(folder) if folder is not None else inside(FITS, f"{model}-{stamp}", "model")
    if RunFolder(place).finished or (place.is_dir() and any(place.iterdir())):
        raise DataError(f"{place}: found a folder with files, expected a new folder")
    given = {
        "interactions": interactions, "items": items, "users": users, "links": links,
        "user_links": user_links,
    }  # fmt: skip
    frames = {name: as_frame(name, frame) for name, frame in given.items() if frame is not None}
    tables, existed = place / "tables", place.is_dir()
    make_folder(tables)
    try:
        for name, frame in frames.items():
            write_parquet(tables / f"{name}.parquet", frame)
        write_text(place / "build.yaml", guess_plan([tables], place))
        build(_plan(place / "build.yaml"), place / "data")
        root = quoted(str(place / "data"))
        settings = [f"model={model}", "dataset=custom", f"dataset.root={root}", "logger=csv"]
        if model in WITH_USER_GRAPH and any((place / "data").glob("user_*.csv")):
            settings.append("dataset.user_graph=use")
        run_in_process([*settings, *overrides], place.absolute(), quiet)
    except BaseException:
        if not RunFolder(place).log_file.exists():  # nothing has been trained
            shutil.rmtree(place)
            if existed:
                place.mkdir()
        raise
    return load(place)


def _plan(path: Path) -> Plan:
    """The plan that was guessed.

    Raises:
        DataError: the frames have no attribute and no link, so that the graph would be empty.
    """
    try:
        return read_plan(path)
    except ConfigError as error:
        if "no attribute, link or graph" in str(error):
            raise DataError(
                "items: found no attribute of the items and no link between them, expected "
                "items=… with columns besides id and title, or links=…: the graph is made of them"
            ) from error
        raise
