"""Colours and dashes of lines, and names of metrics."""

import pytest
from matplotlib.figure import Figure

from kgrec.reports.palette import COLOURS, DASHES, STYLES, Palette, metric_name


def test_names_have_different_styles_that_do_not_change():
    palette = Palette(["b", "a"])
    names = ["a", "b", *map(str, range(STYLES - 2))]
    styles = [palette.style(name) for name in names]
    assert len(set(styles)) == STYLES
    assert palette.style("b").colour == COLOURS[0]
    assert [palette.style(name) for name in names] == styles
    assert palette.style("popularity").dash == "dash"


def test_every_style_can_be_drawn():
    axes = Figure().add_subplot()
    for style in (*map(Palette().style, map(str, range(STYLES))), Palette().style("popularity")):
        axes.plot([0, 1], [0, 1], ls=style.matplotlib, color=style.colour)
        assert style.svg


def test_lines_of_one_model_have_its_colour_while_there_are_dashes():
    palette = Palette(["kgcn"])
    few = palette.variants("kgcn", list("abcd")[: len(DASHES)])
    assert {style.colour for style in few.values()} == {palette.style("kgcn").colour}
    assert len(set(few.values())) == len(few)
    assert len({style.colour for style in palette.variants("kgcn", list("abcde")).values()}) == 5


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("auc", "AUC"), ("val/auc", "validation AUC"), ("test/recall@20", "test Recall@20"),
        ("ndcg@5", "NDCG@5"), ("f1_val_threshold", "F1 (val)"), ("test/f1", "test F1 (0.5)"),
    ],
)  # fmt: skip
def test_names_of_metrics(key, name):
    assert metric_name(key) == name
