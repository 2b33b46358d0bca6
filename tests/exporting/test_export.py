"""``kgrec export``: its folder, its README, and what it refuses."""

import json
import re
import shutil
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from conftest import ROOT, Trained
from kgrec_command import Kgrec, failed

from kgrec import __version__, load
from kgrec.errors import ConfigError, DataError
from kgrec.exporting import onnx
from kgrec.exporting.folder import export
from kgrec.exporting.quiet import quiet
from kgrec.models.controls import Popularity
from kgrec.models.svd import SVD

FILES = {
    "onnx": {"score.onnx", "top_k.onnx", "parameters.bin"},
    "torch": {"score.pt2", "top_k.pt2", "parameters.pt"},
    "embeddings": {"vectors.parquet", "factors.parquet"},
}
ALWAYS = {"users.parquet", "items.parquet", "about.json", "README.md"}
# Packages that the lines of a README may not need.
ABSENT = {"onnx": ("kgrec", "torch"), "torch": ("kgrec",), "embeddings": ("kgrec", "torch")}


@pytest.fixture
def place(trained: Trained) -> str:
    return str(trained("model=svd"))


def run_readme(folder, kind: str) -> str:
    """Runs the lines of Python in a README, in a process without the packages."""
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(code.strip().splitlines()) <= 6
    absent = "".join(f"sys.modules[{name!r}] = None\n" for name in ABSENT[kind])
    script = f"import sys\n{absent}{code}"
    done = subprocess.run(
        [sys.executable, "-I", "-W", "error", "-c", script], cwd=folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_an_export_and_the_lines_of_its_readme(kind, place, kgrec: Kgrec, tmp_path):
    output = kgrec("export", place, "--to", kind, "--out", "exported", "-k", "5")
    assert output.code == 0, output.err
    folder = tmp_path / "exported"
    assert {file.name for file in folder.iterdir()} == FILES[kind] | ALWAYS
    assert [file.name for file in tmp_path.iterdir()] == ["exported"]
    for name in FILES[kind]:
        assert name in output.out
    assert "wrote exported in" in output.err
    assert "Warning" not in output.err
    assert "torchvision" not in output.err
    assert "shape: (" in run_readme(folder, kind)


@pytest.mark.slow
def test_the_readme_recommends_what_kgrec_recommends(trained: Trained, kgrec: Kgrec, tmp_path):
    place = trained("model=kgcn")
    assert kgrec("export", str(place), "--to", "onnx", "--out", "out").code == 0
    rec, folder = load(place), tmp_path / "out"
    script = (folder / "README.md").read_text()
    (user,) = re.findall(r'users.filter\(id="(\w+)"\)', script)
    expected = rec.recommend(user, k=10, exclude_seen=False)
    runtime = onnx.Runtime(folder)
    items, users = (pl.read_parquet(folder / f"{name}.parquet") for name in ("items", "users"))
    number = users.filter(id=user)["number"].to_torch()
    best, scores = runtime.top_k(number, torch.zeros(1, items.height, dtype=torch.bool))
    assert items["id"].gather(best[0].numpy()).to_list() == expected["item"].to_list()
    assert scores[0].tolist() == pytest.approx(expected["score"].to_list(), abs=1e-5)


def test_users_items_and_what_users_have_seen(place, kgrec: Kgrec, tmp_path):
    assert kgrec("export", place, "--to", "embeddings", "--out", "out", "--with-seen").code == 0
    rec, folder = load(place), tmp_path / "out"
    users, items, seen = (
        pl.read_parquet(folder / f"{name}.parquet") for name in ("users", "items", "seen")
    )
    assert users.columns == ["number", "id", "positives"]
    assert items.columns == ["number", "id", "name", "positives"]
    assert users["id"].to_list() == rec.users["user"].to_list()
    assert users["positives"].to_list() == rec.users["positives"].to_list()
    assert items["number"].to_list() == list(range(40))
    assert items["id"].to_list() == rec.items["item"].to_list()
    own = seen.filter(user=3)["item"].to_numpy()
    assert set(items["id"].gather(own)) == set(rec.history("user3")["item"])
    assert "seen.parquet" in (folder / "README.md").read_text()


def test_about_has_the_metrics_of_the_model_and_of_popularity(place, kgrec: Kgrec, tmp_path):
    assert kgrec("export", place, "--to", "torch", "--out", "out", "-k", "3").code == 0
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    metrics = load(place).metrics
    assert about["test_metrics"]["svd"]["test/auc"] == metrics["test/auc"]
    assert about["test_metrics"]["popularity"]["test/auc"] == metrics["popularity/test/auc"]
    assert (about["model"], about["dataset"], about["k"]) == ("svd", "synthetic", 3)
    assert about["largest_difference"] <= 1e-5
    assert about["versions"]["kgrec"] == __version__
    assert f"| auc | {metrics['test/auc']:.4f} |" in (tmp_path / "out" / "README.md").read_text()


def test_json(place, kgrec: Kgrec):
    output = kgrec("export", place, "--to", "embeddings", "--out", "out", "--format", "json")
    content = json.loads(output.out)
    assert set(content["files"]) == FILES["embeddings"] | ALWAYS
    assert content["largest_difference"] is None


# ------------------------------------------------------------ embeddings

# Kinds of vectors that each model has, and whether its scores are inner products; None: refused.
KINDS = {
    "blend": ("user item", False),
    "bprmf": ("user item", True),
    "cke": ("user item entity relation", True),
    "ease": None,
    "kgat": ("user item entity relation", True),
    "kgcn": ("user item entity relation", False),
    "kgin": ("user item entity", True),
    "lightckg": ("user item", True),
    "lightgcn": ("user item", True),
    "libfm": ("user item", True),
    "ncf": ("user item", False),
    "per": ("user item", True),
    "popularity": None,
    "ripplenet": ("item entity relation", False),
}


@pytest.mark.parametrize("name", KINDS)
def test_embeddings(name, trained: Trained, tmp_path):
    rec, out = load(trained(f"model={name}")), tmp_path / "out"
    if KINDS[name] is None:
        with pytest.raises(DataError, match="no vectors, expected another model, or"):
            export(rec, "embeddings", out)
        assert list(tmp_path.iterdir()) == []
        return
    export(rec, "embeddings", out)
    kinds, inner_product = KINDS[name]
    vectors = pl.read_parquet(out / "vectors.parquet")
    assert vectors["kind"].unique(maintain_order=True).to_list() == kinds.split()
    items = vectors.filter(kind="item")
    expected = rec.model.item_vectors().numpy()
    np.testing.assert_array_equal(np.array(items["vector"].to_list(), np.float32), expected)
    assert items["id"].to_list() == rec.items["item"].to_list()
    assert (out / "factors.parquet").exists() == inner_product
    if inner_product:
        factors = pl.read_parquet(out / "factors.parquet")
        users, items = (
            np.array(factors.filter(kind=kind)["vector"].to_list()) for kind in ("user", "item")
        )
        with torch.no_grad():
            scores = rec.model.score_all(torch.arange(len(users)))
        np.testing.assert_allclose(users @ items.T, scores.numpy(), rtol=1e-5, atol=1e-5)
    run_readme(out, "embeddings")


# ------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "full"), "full: found a folder that is not empty, expected a new or an empty"),
        (("--out", "file"), "file: found a file, expected a new or an empty folder"),
        (("--out", "file/out"), "found a file, expected a folder"),
        (("--out", "out", "-k", "41"), "-k: found 41, expected an integer from 1 to 40"),
        (("--out", "out", "-k", "0"), "-k: found 0, expected an integer from 1 to 40"),
    ],
)
def test_what_cannot_work_is_one_clear_error(arguments, message, place, kgrec: Kgrec, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    failed(kgrec("export", place, "--to", "torch", *arguments), message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled_and_its_parents_are_made(place, kgrec: Kgrec, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    for out in ("empty", "a/b", "link"):
        assert kgrec("export", place, "--to", "embeddings", "--out", out).code == 0
        names = {file.name for file in (tmp_path / out).iterdir()}
        assert names == FILES["embeddings"] | ALWAYS
    assert (tmp_path / "link").is_symlink()


def test_the_current_folder_is_filled(place, kgrec: Kgrec, tmp_path):
    assert kgrec("export", place, "--to", "embeddings", "--out", ".").code == 0
    assert {file.name for file in tmp_path.iterdir()} == FILES["embeddings"] | ALWAYS


def test_an_unknown_form(place, kgrec: Kgrec):
    output = kgrec("export", place, "--to", "pickle", "--out", "out")
    assert output.code == 2
    assert "invalid choice: 'pickle'" in output.err
    with pytest.raises(ConfigError, match="--to: found 'pickle', expected one of"):
        export(load(place), "pickle", "out")


def test_a_run_without_its_checkpoint(place, kgrec: Kgrec, tmp_path):
    shutil.copytree(place, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "best.ckpt").unlink()
    failed(kgrec("export", "run", "--to", "torch", "--out", "out"), "best.ckpt")
    assert not (tmp_path / "out").exists()


def test_the_extra_is_not_installed(place, kgrec: Kgrec, monkeypatch):
    monkeypatch.setattr(
        "kgrec.exporting.onnx.importlib.util.find_spec",
        lambda name: None if name == "onnxscript" else name,
    )
    output = kgrec("export", place, "--to", "onnx", "--out", "out")
    failed(output, "--to onnx: found no onnxscript, expected pip install -e '.[onnx]'")


def test_a_model_that_declares_that_it_cannot(place, tmp_path, monkeypatch):
    monkeypatch.setattr(SVD, "exportable", False)
    with pytest.raises(DataError) as caught:
        export(load(place), "onnx", tmp_path / "out")
    assert str(caught.value) == (
        "--to onnx: found SVD, which is not exportable, expected --to embeddings"
    )
    assert list(tmp_path.iterdir()) == []


class Own(Popularity):
    """A model whose score torch cannot export: it branches on a value."""

    def score(self, users, items, encoded=None):
        return self.counts[items] if self.counts[items].sum() > 3 else self.counts[items] + 1


def test_a_model_whose_score_torch_cannot_export(place, tmp_path):
    rec = load(place)
    rec.model = Own(40)
    with pytest.raises(DataError) as caught:
        export(rec, "torch", tmp_path / "out")
    assert "--to torch: found Own, whose scores torch cannot export (" in str(caught.value)
    assert str(caught.value).endswith("), expected another model")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_program_with_other_scores_is_not_kept(place, tmp_path, monkeypatch):
    rec = load(place)
    monkeypatch.setattr(type(rec.model), "score", lambda self, users, items: users * 1.0)
    with pytest.raises(DataError, match="whose exported scores differ by"):
        export(rec, "torch", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_nothing_stays_of_an_interrupted_export(place, tmp_path, monkeypatch):
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kgrec.exporting.folder.readme", interrupt)
    for out in (tmp_path / "out", tmp_path):
        with pytest.raises(KeyboardInterrupt):
            export(load(place), "embeddings", out)
        assert list(tmp_path.iterdir()) == []


def test_other_warnings_are_not_hidden():
    with pytest.warns(FutureWarning, match="of another kind"), quiet():
        warnings.warn("of another kind", FutureWarning, stacklevel=1)


def test_help_needs_no_torch():
    script = (
        "import sys\nsys.modules['torch'] = None\nsys.argv = ['kgrec', 'export', '--help']\n"
        "from kgrec import cli\ncli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
