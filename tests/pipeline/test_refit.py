"""``kgrec refit``: the final model on all data."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from conftest import Trained, composed, small
from kgrec_command import failed
from omegaconf import OmegaConf

import kgrec
from kgrec.config.targets import check_foreign
from kgrec.data.protocols import clean, paper
from kgrec.data.splits import ColdItems, RandomSplit
from kgrec.data.whole import whole
from kgrec.errors import ConfigError, DataError
from kgrec.inference.loading import find_run
from kgrec.pipeline import refit as module
from kgrec.pipeline.refit import refit
from kgrec.runs.checkpoints import load_recommender, read_checkpoint
from kgrec.runs.folder import REFIT, RunFolder


@pytest.mark.parametrize("protocol", [paper, clean])
@pytest.mark.parametrize("split", [RandomSplit(), ColdItems()], ids=["random", "cold_items"])
def test_all_positives_are_for_training(protocol, split):
    data = small()
    dataset = protocol(data, split)
    everything = whole(dataset, data)
    assert torch.equal(everything.train.keys, data.positives.keys)
    assert len(everything.val) == len(everything.test) == len(everything.matched) == 0
    users, items = everything.static_negatives
    assert not everything.train.contains(users, items).any()
    if protocol is paper:
        held_out = [int((rows.labels < 0.5).sum()) for rows in (dataset.val, dataset.test)]
        assert len(users) == len(dataset.static_negatives[0]) + sum(held_out)
    else:
        assert len(users) == len(data.positives)


def test_weights_follow_their_positives():
    data = small()
    data = replace(data, weights=torch.arange(1.0, len(data.positives) + 1, dtype=torch.float64))
    dataset = clean(data, RandomSplit())
    assert dataset.train_weights is not None
    assert len(dataset.train_weights) == len(dataset.train) < len(data.positives)
    everything = whole(dataset, data)
    assert torch.equal(everything.train_weights, data.weights)


@pytest.mark.parametrize("model", ["svd", "kgcn", "ease", "itemknn", "libfm_transe", "lightgcn"])
def test_a_refit_has_seen_everything_and_has_no_test(model, trained: Trained, tmp_path):
    source = trained(f"model={model}")
    folder = RunFolder(refit(source, tmp_path / "final"))
    assert folder.kind == REFIT
    metrics = folder.metrics()
    assert metrics["refit"] == 1
    assert [key for key in metrics if "test/" in key or "val/" in key] == []
    assert not (folder.path / "evaluation").exists()
    assert folder.about()["refit_of"] == str(source)
    run, final = kgrec.load(source), kgrec.load(folder.path)
    assert torch.equal(final.data.train.keys, run.data.positives.keys)
    assert len(run.data.train) < len(run.data.positives)
    best = int(RunFolder(source).metrics().get("train/best_epoch", 0))
    assert read_checkpoint(folder.checkpoint("best"))["epoch"] == best
    assert final.recommend("user3", 3).height == 3


def test_a_run_older_than_a_group_of_settings_is_refitted(trained: Trained, tmp_path):
    old = RunFolder(tmp_path / "old")
    shutil.copytree(trained("model=svd"), old.path)
    file = old.path / "config.yaml"
    config = OmegaConf.load(file)
    for group in ("loss", "averaging"):
        del config[group]
    OmegaConf.save(config, file)
    folder = RunFolder(refit(old.path, tmp_path / "final"))
    assert folder.config()["loss"]["name"] == "own"
    assert folder.metrics()["refit"] == 1


def test_the_chosen_setting_and_the_model_of_all_data(trained: Trained, tmp_path):
    source = trained("model=ease")
    chosen = RunFolder(source).metrics()["precompute/l2"]
    assert len(RunFolder(source).config()["model"]["l2"]) > 1
    folder = RunFolder(refit(source, tmp_path / "final"))
    assert folder.config()["model"]["l2"] == [chosen]
    model = load_recommender(folder.checkpoint("best"))
    history = model.history
    assert len(history) > len(kgrec.load(source).data.train)
    X = torch.zeros(60, 40, dtype=torch.float64)
    X[history.users, history.items] = 1
    P = torch.linalg.inv(X.T @ X + chosen * torch.eye(40))
    B = -P / P.diagonal()
    B.fill_diagonal_(0)
    B[X.sum(dim=0) == 0] = 0
    torch.testing.assert_close(model.weights.double(), B, rtol=1e-4, atol=1e-6)


def test_the_same_refit_twice_is_the_same_model(trained: Trained, tmp_path):
    source = trained("model=kgcn")
    states = [load_recommender(RunFolder(refit(source, tmp_path / n)).checkpoint("best"))
              .state_dict() for n in "ab"]  # fmt: skip
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_an_interrupted_refit_leaves_nothing(trained: Trained, tmp_path, monkeypatch):
    source, out = trained("model=svd"), tmp_path / "final"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_fit", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            refit(source, out)
    assert not out.exists()
    out.mkdir()  # a refit that was killed leaves its mark and some files
    RunFolder(out).mark({"kind": REFIT, "refit_of": str(source)})
    (out / "curves").mkdir()
    assert RunFolder(refit(source, out)).finished


def test_files_of_others_are_never_removed(trained: Trained, tmp_path):
    source, out = trained("model=svd"), tmp_path / "final"
    out.mkdir()
    (out / "thesis.txt").write_text("all of it")
    with pytest.raises(ConfigError, match="found files in"):
        refit(source, out)
    assert (out / "thesis.txt").exists()
    with pytest.raises(ConfigError, match="found a finished run"):
        refit(source, source)
    with pytest.raises(ConfigError, match="--out: found a file"):
        refit(source, out / "thesis.txt")
    assert RunFolder(source).finished


@pytest.fixture
def own_data(tmp_path):
    """A folder in the CSV format, and a run on it."""
    folder = tmp_path / "data"
    folder.mkdir()
    pairs = [(u, i) for u in range(20) for i in range(12) if (u * 7 + i * 5) % 3 == 0]
    lines = "".join(f"u{u},i{i}\n" for u, i in pairs)
    (folder / "interactions.csv").write_text("user,item\n" + lines)
    triples = "".join(f"i{i},kind,k{i % 3}\n" for i in range(12))
    (folder / "triples.csv").write_text("head,relation,tail\n" + triples)
    return folder


@pytest.fixture
def own_run(own_data, train, tmp_path):
    run = train("dataset=custom", f"dataset.root={own_data}", "model=svd", "epochs=2",
                "logger=csv", "dataset.cache=null", small=False)  # fmt: skip
    assert run.code == 0, run.err + run.out
    return run.folder


def test_data_that_have_changed_are_refused(own_data, own_run, tmp_path):
    with (own_data / "interactions.csv").open("a") as file:
        file.write("u0,i1\n")
    with pytest.raises(DataError, match="found other data"):
        refit(own_run, tmp_path / "final")
    assert not (tmp_path / "final").exists()


def test_data_that_are_gone_or_have_moved(own_data, own_run, tmp_path):
    shutil.move(own_data, tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"dataset\.root=…"):
        refit(own_run, tmp_path / "final")
    folder = refit(own_run, tmp_path / "final", [f"dataset.root={tmp_path / 'elsewhere'}"])
    assert RunFolder(folder).finished


def test_settings_of_the_run_cannot_be_changed(trained: Trained, tmp_path):
    with pytest.raises(ConfigError, match="epochs=9: found a setting that a refit takes"):
        refit(trained("model=svd"), tmp_path / "final", ["epochs=9"])
    with pytest.raises(ConfigError, match="a refit of"):
        refit(refit(trained("model=svd"), tmp_path / "one"), tmp_path / "two")


def test_runs_and_refits_are_not_mixed_up(trained: Trained, tmp_path, kgrec):
    place = tmp_path / "logs"
    shutil.copytree(trained("model=svd"), place / "run")
    refit(place / "run", place / "final")
    assert find_run(place).folder.path == place / "run"
    latest = find_run("latest")
    assert latest.folder.path.name == "final"
    assert "a refit of" in latest.reason
    output = kgrec("compare", str(place), "--metric", "auc", "--samples", "50")
    assert output.code == 0, output.err
    assert "1 refit is left out (no test metrics)" in output.err
    output = kgrec("report", str(place), "--out", str(tmp_path / "report"))
    assert "1 refit is left out" in output.err
    failed(kgrec("compare", str(place / "final")), "found only refits")
    shutil.rmtree(place / "run")
    assert find_run(place).folder.path.name == "final"


def test_the_command(trained: Trained, tmp_path, kgrec):
    source = trained("model=svd")
    output = kgrec("refit", str(source), "--out", "final", "threads=1")
    assert output.code == 0, output.err
    assert "positives (the run trained on" in output.out
    assert "no test metrics" in output.out
    settings = json.loads((tmp_path / "final" / "environment.json").read_text())
    assert settings["kind"] == REFIT
    failed(kgrec("refit", "nowhere"), "nowhere: found no such folder")


def test_refits_of_runs_with_the_same_name_lie_apart(trained: Trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source, folders = trained("model=svd"), []
    for place in ("choose/shop/own/svd", "choose/music/own/svd"):
        shutil.copytree(source, tmp_path / "logs" / place)
        folders.append(refit(f"logs/{place}").name)
    assert folders == ["choose-shop-own-svd", "choose-music-own-svd"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model._target_", "os.system"),
        ("model._target_", "kgrec.files.write_text"),
        ("model.aggregator._target_", "evilmod.Join"),
        ("optimizer._target_", "torch.hub.load"),
        ("optimizer._target_", ["os.system"]),
        ("callbacks.norms._target_", "evilmod.Callback"),
        ("callbacks.norms.folder", "/etc"),
        ("logger.csv.save_dir", "../../x"),
        ("trainer.default_root_dir", "~"),
    ],
)
def test_the_configuration_of_a_stranger_calls_and_writes_only_what_is_known(key, value, tmp_path):
    cfg = composed("model=kgcn", f"paths.run={tmp_path}")
    check_foreign(cfg, tmp_path)
    OmegaConf.update(cfg, key, value, force_add=True)
    with pytest.raises(ConfigError, match=re.escape(f"{key}: found {value!r}, expected")):
        check_foreign(cfg, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "model",
            {"_target_": "os.system", "command": "touch mark"},
            "model._target_: found 'os.s",
        ),
        ("monitor", "${oc.env:HOME}", "'${oc.env:HOME}' is an interpolation"),
    ],
)
def test_the_run_of_a_stranger(key, value, message, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "run"
    shutil.copytree(trained("model=svd", "epochs=1"), source)
    config = yaml.safe_load((source / "config.yaml").read_text())
    config[key] = config[key] | value if isinstance(value, dict) else value
    (source / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises((ConfigError, DataError), match=re.escape(message)):
        refit(source, tmp_path / "final")
    assert not (tmp_path / "final").exists()
    assert not (tmp_path / "mark").exists()


def test_own_code_that_a_run_calls_is_trusted_by_name(trained, tmp_path):
    cfg = OmegaConf.create({"model": {"_target_": "mypackage.models.Mine.from_dataset"}})
    check_foreign(cfg, tmp_path, ["mypackage"])
    for trust in ((), ("my",), ("mypackage.model",)):
        with pytest.raises(ConfigError, match="--trust"):
            check_foreign(cfg, tmp_path, trust)
