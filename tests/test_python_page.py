"""The blocks of docs/python.md run in order, and in them a model learns."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Train

PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_every_block_runs(
    train: Train,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert train("epochs=1", folder="logs/runs/example").code == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, f"docs/python.md: {block.splitlines()[0]}", "exec"), names)
    assert "nobody" in capsys.readouterr().out
    assert names["rec"].name == "kgcn"
    assert len(names["scores"]) == len(names["items"])
    assert names["data"].counts()["positives"] == len(names["pairs"])
    assert 0 <= names["recall"] <= 1
    assert names["test_auc"] > 0.5
