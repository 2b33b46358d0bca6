"""Charts of a search from the study that Optuna keeps in the sweep's folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kgrec.reports.drawing import BLUE, INK, ORANGE
from kgrec.reports.live.charts import SCALE, Axis, Chart, chart, name, paired, said

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FILE, NAME = "study.db", "kgrec"
FEWEST_TRIALS = 4  # below, importance means nothing


def search_charts(folder: Path) -> tuple[list[Chart], list[str]]:
    """History, importance and slices of a search, and words on what cannot be shown.

    Args:
        folder: of the sweep. Without a study in it there is nothing to show, and nothing to say.
    """
    if not (folder / FILE).is_file():
        return [], []
    try:
        import optuna
    except ImportError:
        return [], ["The study in study.db is read by Optuna, which is not installed here."]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        trials = _trials(folder / FILE)
    except Exception as error:  # whatever SQLite and Optuna say of a file that is being made
        return [], [f"study.db could not be read: {type(error).__name__}."]
    done = [t for t in trials if t.state.name == "COMPLETE" and t.value is not None]
    told = f"{len(done)} of {len(trials)} trials have a figure."
    if not done:
        return [], [told]
    charts, notes = [_history(done)], [told]
    if len(done) < FEWEST_TRIALS:
        notes.append(f"Importance and slices are shown from {FEWEST_TRIALS} of them on.")
        return charts, notes
    try:
        charts.append(_importance(done))
    except ImportError:
        notes.append("Importance is computed with scikit-learn, which is not installed here.")
    except (RuntimeError, ValueError) as error:  # such as: all figures are alike
        notes.append(f"No importance could be computed: {error}")
    keys = dict.fromkeys(key for trial in done for key in trial.params)
    return paired([*charts, *(_slice(done, key) for key in keys)]), notes


def _trials(path: Path) -> list[FrozenTrial]:
    """All trials; the file is opened for reading alone, as the search writes to it."""
    from optuna.storages import RDBStorage

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)

    storage = RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    try:
        study = storage.get_study_id_from_name(NAME)
        return list(storage.get_all_trials(study))
    finally:
        storage.engine.dispose()


def _history(done: list[FrozenTrial]) -> Chart:
    import plotly.graph_objects as go

    numbers, values = [t.number + 1 for t in done], [float(t.value or 0.0) for t in done]
    best = [max(values[: i + 1]) for i in range(len(values))]
    told = ["<br>".join(f"{name(k)}={said(v)}" for k, v in t.params.items()) for t in done]
    figure = go.Figure()
    figure.add_scatter(
        x=numbers, y=values, mode="markers", name="trial", text=told, marker={"color": BLUE},
        hovertemplate="trial %{x}: %{y:.4f}<br>%{text}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=numbers, y=best, mode="lines", name="best so far", hovertemplate="best %{y:.4f}",
        line={"color": ORANGE, "shape": "hv", "width": 2},
    )  # fmt: skip
    figure.update_xaxes(title="trial")
    figure.update_layout(
        margin={"l": 56, "r": 12, "t": 12, "b": 52},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return chart("History", "The validation figure of each trial, and the best so far.", figure)


def _importance(done: list[FrozenTrial]) -> Chart:
    import optuna
    import plotly.graph_objects as go

    study = optuna.create_study(direction="maximize")
    study.add_trials(done)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if not found:
        raise ValueError("no setting was searched in all trials")
    keys = list(found)[::-1]
    shares = [float(found[key]) for key in keys]
    figure = go.Figure()
    figure.add_bar(
        x=shares, y=[said(name(key)) for key in keys], orientation="h", marker={"color": BLUE},
        text=[f"{share:.0%}" for share in shares], textposition="outside", cliponaxis=False,
        hoverinfo="skip", width=0.6,
    )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", range=[0, 1.1 * max(shares) or 1.0], nticks=6)
    figure.update_yaxes(type="category")
    figure.update_layout(margin={"l": 12, "r": 36, "t": 12, "b": 36})
    caption = (
        "How much of the variance of the validation figure each setting accounts for over what "
        f"was searched (fANOVA, {len(done)} trials)."
    )
    return chart("Importance", caption, figure)


def _slice(done: list[FrozenTrial], key: str) -> Chart:
    import plotly.graph_objects as go

    having = [t for t in done if key in t.params]
    axis = Axis.of(str(t.params[key]) for t in having)
    marker: dict[str, Any] = {
        "color": [t.number for t in having], "colorscale": SCALE, "size": 8,
        "line": {"color": INK, "width": 0.5},
    }  # fmt: skip
    figure = go.Figure()
    figure.add_scatter(
        x=[axis.at(str(t.params[key])) for t in having], y=[t.value for t in having],
        mode="markers", marker=marker,
        text=[f"trial {t.number + 1}<br>{name(key)}={said(t.params[key])}" for t in having],
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(**axis.layout)
    figure.update_layout(margin={"l": 56, "r": 24, "t": 12, "b": 36}, showlegend=False)
    caption = "Validation figure by value; violet trials came first, orange ones last."
    return chart(name(key), caption, figure, 260)
