"""Tables for the terminal: they fit lines of 60, 80 and 120 characters."""

import os

import pytest
from rich.table import Table

from kgrec.reports.console import as_text, fitted, results_table, slices_table

MODELS = ("libfm_transe", "popularity", "all_positive", "popularity_balance", "unseen_item")
METRICS = ("auc", "f1", "f1_val_threshold", "matched/auc", "recall@20", "ndcg@20")
SLICES = [
    {"model": model, "by": by, "positives": p, "rows": 12345, "auc": 0.5, "recall@20": 0.25}
    for model in MODELS[:2]
    for by in ("user", "item")
    for p in ("0", "51-200")
]


def widest(text):
    return max(map(len, text.splitlines()))


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_of_a_run_fit_the_terminal(width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    rows = {model: {f"test/{metric}": 0.5 for metric in METRICS} for model in MODELS}
    title = "libfm_transe on a-data-set-with-a-long-name, protocol=paper"
    text = results_table(title, rows, 20)
    assert widest(text) <= width
    assert "…" not in text
    for model in MODELS:
        assert model in text
    assert ("NDCG@20" in text) == (width >= 80)
    assert ("F1 (0.5)" in text) == (width == 120)
    assert "Recall@20" in text
    slices = slices_table(SLICES, 20)
    assert widest(slices) <= width
    assert "…" not in slices
    assert ("12,345" in slices) == (width == 120)


def test_without_a_terminal_a_line_has_80_characters(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("shutil.os.get_terminal_size", lambda _: os.terminal_size((0, 0)))
    table = Table()
    table.add_column("a " * 100)
    assert 60 < widest(as_text(table)) <= 80


def test_notes_explain_only_columns_that_are_shown():
    rows = {"ease": {"test/auc": 0.5}}
    assert "F1" not in results_table("ease on music", rows, None)
    rows = {"kgcn": {"test/auc": 0.5, "test/f1_val_threshold": 0.5}}
    text = results_table("kgcn on music", rows, None)
    assert "F1 (val): positive from the threshold best on validation." in " ".join(text.split())
    assert "F1 (0.5)" not in text


def test_the_least_important_columns_go_first():
    def build(shown):
        table = Table(*shown)
        for column in table.columns:
            column.no_wrap = True
        return table

    columns = ["a", "bbbbbbbbbb", "cccccccccc"]
    optional = [["cccccccccc"], ["bbbbbbbbbb"]]
    for width, expected in ((40, 3), (30, 2), (10, 1)):
        assert len(fitted(build, columns, optional, width).columns) == expected
