"""Charts of a search, from the Optuna study in the sweep's folder."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kgrec.reports.drawing import BLUE, INK, ORANGE
from kgrec.reports.live.charts import SCALE, Axis, Chart, chart, escaped, name, paired
from kgrec.sweeps.pruning import NAME, STUDY

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

FEWEST_TRIALS = 4  # the importance of settings in fewer trials is meaningless


def search_charts(folder: Path) -> tuple[list[Chart], list[str]]:
    """History, importance and slices of a search, and notes on charts that cannot be shown.

    Args:
        folder: folder of the sweep. Without a study in it there are no charts and no notes.
    """
    if not (folder / STUDY).is_file():
        return [], []
    try:
        import optuna
    except ImportError:
        return [], ["Charts of the search need Optuna, which is not installed here."]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        trials = _trials(folder / STUDY)
    except Exception as error:  # errors of many kinds, while the file is being written
        return [], [f"study.db could not be read: {type(error).__name__}."]
    complete = [t for t in trials if t.state.name == "COMPLETE" and t.value is not None]
    pruned = sum(trial.state.name == "PRUNED" for trial in trials)
    count = f"{len(complete)} of {len(trials)} trials have a value"
    count += f"; {pruned} were pruned." if pruned else "."
    if not complete:
        return [], [count]
    charts, notes = [_history(complete)], [count]
    if len(complete) < FEWEST_TRIALS:
        notes.append(f"Importance and slices need at least {FEWEST_TRIALS} such trials.")
        return charts, notes
    try:
        charts.append(_importance(complete))
    except ImportError:
        notes.append("Importance needs scikit-learn, which is not installed here.")
    except (RuntimeError, ValueError) as error:  # such as equal values in all trials
        notes.append(f"Importance could not be computed: {error}")
    keys = dict.fromkeys(key for trial in complete for key in trial.params)
    return paired([*charts, *(_slice(complete, key) for key in keys)]), notes


def _trials(path: Path) -> list[FrozenTrial]:
    """All trials; the file is opened read-only, as the search writes to it."""
    from optuna.storages import RDBStorage

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)

    storage = RDBStorage("sqlite://", engine_kwargs={"creator": connect})
    try:
        study = storage.get_study_id_from_name(NAME)
        return list(storage.get_all_trials(study))
    finally:
        storage.engine.dispose()


def _history(complete: list[FrozenTrial]) -> Chart:
    import plotly.graph_objects as go

    numbers, values = [t.number + 1 for t in complete], [float(t.value or 0.0) for t in complete]
    best = [max(values[: i + 1]) for i in range(len(values))]
    texts = [
        "<br>".join(f"{escaped(name(k))}={escaped(v)}" for k, v in t.params.items())
        for t in complete
    ]
    figure = go.Figure()
    figure.add_scatter(
        x=numbers, y=values, mode="markers", name="trial", text=texts, marker={"color": BLUE},
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
    return chart("History", "The validation value of each trial, and the best so far.", figure)


def _importance(complete: list[FrozenTrial]) -> Chart:
    import optuna
    import plotly.graph_objects as go

    study = optuna.create_study(direction="maximize")
    study.add_trials(complete)
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    importances = optuna.importance.get_param_importances(study, evaluator=evaluator)
    if not importances:
        raise ValueError("no setting was searched in all trials")
    keys = list(importances)[::-1]
    shares = [float(importances[key]) for key in keys]
    figure = go.Figure()
    figure.add_bar(
        x=shares, y=[escaped(name(key)) for key in keys], orientation="h", marker={"color": BLUE},
        text=[f"{share:.0%}" for share in shares], textposition="outside", cliponaxis=False,
        hoverinfo="skip", width=0.6,
    )  # fmt: skip
    figure.update_xaxes(tickformat=".0%", range=[0, 1.1 * max(shares) or 1.0], nticks=6)
    figure.update_yaxes(type="category")
    figure.update_layout(margin={"l": 12, "r": 36, "t": 12, "b": 36})
    caption = (
        "Share of the variance of the validation value that each setting accounts for in the "
        f"searched space (fANOVA, {len(complete)} trials)."
    )
    return chart("Importance", caption, figure)


def _slice(complete: list[FrozenTrial], key: str) -> Chart:
    import plotly.graph_objects as go

    setting, having = escaped(name(key)), [t for t in complete if key in t.params]
    axis = Axis.of(str(t.params[key]) for t in having)
    marker: dict[str, Any] = {
        "color": [t.number for t in having], "colorscale": SCALE, "size": 8,
        "line": {"color": INK, "width": 0.5},
    }  # fmt: skip
    figure = go.Figure()
    figure.add_scatter(
        x=[axis.at(str(t.params[key])) for t in having], y=[t.value for t in having],
        mode="markers", marker=marker,
        text=[f"trial {t.number + 1}<br>{setting}={escaped(t.params[key])}" for t in having],
        hovertemplate="%{text}<br>%{y:.4f}<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(**axis.layout)
    figure.update_layout(margin={"l": 56, "r": 24, "t": 12, "b": 36}, showlegend=False)
    caption = "Validation value of each trial, from the first (violet) to the last (orange)."
    return chart(name(key), caption, figure, 260)
