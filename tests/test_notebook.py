"""The cells of docs/notebook.ipynb run in order."""

import json
import sys
import types

import pytest
from conftest import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_every_cell_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT / "docs")
    import matplotlib.pyplot  # noqa: F401 - it asks IPython for its version when it is imported

    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    display = types.ModuleType("IPython.display")
    display.SVG = lambda path: path.read_text()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    names: dict[str, object] = {}
    cells = ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
    for cell in cells:
        exec(compile(cell, f"notebook.ipynb: {cell.splitlines()[0]}", "exec"), names)
    assert names["again"].name == "kgcn"  # type: ignore[attr-defined]
    assert "because" in capsys.readouterr().out
    assert len(cells) > 8
