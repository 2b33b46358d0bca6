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
    ipython = types.ModuleType("IPython")
    ipython.version_info = (9, 0)  # type: ignore[attr-defined] - matplotlib asks for it
    ipython.get_ipython = lambda: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
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
