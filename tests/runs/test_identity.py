"""What a run is: which settings change results, may change on resume, or name a system."""

import shutil

import conftest
import pytest
from conftest import ROOT, Train
from omegaconf import DictConfig, OmegaConf, open_dict

from kgrec.errors import CheckpointError
from kgrec.reports.results.systems import systems
from kgrec.runs.finished import find_runs
from kgrec.runs.identity import (
    TABLE,
    check_resume,
    difference,
    flat,
    result_settings,
    resume_settings,
    role,
    system_settings,
)

MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


def composed(*overrides: str) -> DictConfig:
    return conftest.composed("paths.run=x", "settings=none", *overrides)


def module(settings: dict) -> dict:
    """An identity that differs in nothing but settings."""
    return {"settings": settings, "dataset": {}, "recipe": {"class": "x", "arguments": {}}}


def changed(cfg: DictConfig, key: str) -> DictConfig:
    other = cfg.copy()
    with open_dict(other):
        OmegaConf.update(other, key, "something else", force_add=True)
    return other


def of_groups(*groups: str) -> list[str]:
    return [k for k in flat(OmegaConf.to_container(composed())) if k.partition(".")[0] in groups]


def test_the_table_names_settings_that_there_are():
    keys = set(flat(OmegaConf.to_container(composed("trainer=ddp", "dataset=music"))))
    keys |= set(flat(OmegaConf.to_container(composed("model=libfm_transe"))))
    keys |= {"trainer.max_time"}  # which Trainer knows
    for entry in TABLE:
        assert any(key == entry or key.startswith(f"{entry}.") for key in keys), entry


@pytest.mark.parametrize("model", MODELS)
def test_every_setting_of_a_model_must_stay_when_a_run_resumes(model):
    cfg = composed(f"model={model}")
    kept = {"kgrec": module(resume_settings(cfg))}
    check_resume(kept, module(resume_settings(cfg)))
    keys = [f"model.{key}" for key in flat(OmegaConf.to_container(cfg.model))]
    for key in set(keys) - {"model.cache"}:
        with pytest.raises(CheckpointError, match=rf"found {key} .*expected 'something else'"):
            check_resume(kept, module(resume_settings(changed(cfg, key))))


@pytest.mark.parametrize("key", [
    "seed", "monitor", "batch_size", "memory_budget", "dataset.seed", "dataset.num_users",
    *of_groups("protocol", "split", "negatives", "optimizer"), "loss.name", "averaging.name",
    "trainer.check_val_every_n_epoch",
])  # fmt: skip
def test_data_and_training_must_stay_when_a_run_resumes(key):
    cfg = composed("dataset=synthetic")
    kept = {"kgrec": module(resume_settings(cfg))}
    with pytest.raises(CheckpointError, match=rf"found {key} .*expected 'something else'"):
        check_resume(kept, module(resume_settings(changed(cfg, key))))


def test_nor_may_the_weights_of_positives():
    cfg = composed("dataset=music")
    kept = {"kgrec": module(resume_settings(cfg))}
    weighted = composed("dataset=music", "dataset.weights=repeats")
    with pytest.raises(CheckpointError, match=r"found dataset\.weights 'ignore' in the checkpoint"):
        check_resume(kept, module(resume_settings(weighted)))
    one, other = ({**module({}), "dataset": {"fingerprint": f"a+{digits}"}} for digits in "12")
    with pytest.raises(CheckpointError, match=r"found a checkpoint of another data set"):
        check_resume({"kgrec": one}, other)
    assert role("dataset.weights").results
    assert role("dataset.weights").system


@pytest.mark.parametrize("key", [
    "epochs", "patience", "threads", "cores", "sweep", "paths.run", "trainer.devices",
    "trainer.max_epochs", "eval_batch_size", "steps_per_call", "dataset.cache", "model.cache",
    "callbacks.norms", "callbacks.early_stopping.patience", "callbacks.last.dirpath",
    "callbacks.best.dirpath", "logger.csv.name", "ranking.ks",
])  # fmt: skip
def test_settings_that_may_change_when_a_run_resumes(key):
    cfg = composed("dataset=synthetic", "model=libfm_transe")
    kept = {"kgrec": module(resume_settings(cfg))}
    check_resume(kept, module(resume_settings(changed(cfg, key))))


def test_a_callback_of_the_users_own_must_stay_when_a_run_resumes():
    cfg = composed("dataset=synthetic")
    kept = {"kgrec": module(resume_settings(cfg))}
    averaged = changed(cfg, "callbacks.average.decay")
    with pytest.raises(CheckpointError, match=r"found callbacks\.average\.decay not set in"):
        check_resume(kept, module(resume_settings(averaged)))


def test_a_setting_that_the_checkpoint_lacks_is_named():
    with pytest.raises(CheckpointError, match=r"found model\.new not set in the checkpoint"):
        check_resume({"kgrec": module({})}, module({"model.new": 1}))
    with pytest.raises(CheckpointError, match="that kgrec did not write"):
        check_resume({}, module({}))


@pytest.mark.parametrize(
    ("model", "before", "after"),
    [("kgnn_ls", "model.ls_weight=0.5", "model.ls_weight=0.1"),
     ("kgcn", "model.neighbors=static", "model.neighbors=resampled"),
     ("libfm_transe", "model.transe_epochs=2", "model.transe_epochs=3")],
)  # fmt: skip
def test_a_run_does_not_resume_with_another_setting(train: Train, tmp_path, model, before, after):
    first = train(f"model={model}", before, "epochs=1")
    assert first.code == 0, first.err
    last = tmp_path / "last.ckpt"
    shutil.copy(first.folder / "checkpoints" / "last.ckpt", last)
    shutil.copy(first.folder / "checkpoints" / "best.ckpt", tmp_path / "best.ckpt")
    other = train(f"model={model}", after, "epochs=2", f"ckpt_path={last}", folder="other")
    assert other.code == 1
    key, value = after.split("=")
    assert f"found {key} " in other.out
    assert f"expected {value!r}" in other.out or f"expected {value}" in other.out


def test_a_job_folder_of_other_results_is_not_taken_over(tmp_path):
    cfg = composed("dataset=synthetic")
    file = tmp_path / "config.yaml"
    assert difference(file, result_settings(cfg)) is None
    file.write_text(OmegaConf.to_yaml(cfg, resolve=True))
    assert difference(file, result_settings(cfg)) is None
    assert difference(file, result_settings(changed(cfg, "threads"))) is None
    assert difference(file, result_settings(changed(cfg, "callbacks.best.dirpath"))) is None
    message = difference(file, result_settings(changed(cfg, "model.K")))
    assert message == f"found model.K 8 in {file}, expected 'something else'"


def test_a_run_without_the_later_settings_is_one_with_their_neutral_values():
    cfg = composed("dataset=synthetic")
    old = {k: v for k, v in OmegaConf.to_container(cfg).items() if k not in ("loss", "averaging")}
    assert system_settings(old) == system_settings(OmegaConf.to_container(cfg))
    check_resume({"kgrec": module(resume_settings(OmegaConf.create(old)))}, module(
        resume_settings(cfg)
    ))  # fmt: skip
    other = composed("dataset=synthetic", "loss=bpr", "averaging=ema")
    assert {"loss.name", "averaging.name", "averaging.decay"} <= resume_settings(other).keys()
    with pytest.raises(CheckpointError, match=r"found averaging\.decay not set in the checkpoint"):
        check_resume({"kgrec": module(resume_settings(cfg))}, module(resume_settings(other)))


def test_the_longest_entry_of_the_table_counts():
    assert role("trainer.devices") == TABLE["trainer.devices"]
    assert role("trainer.devices.0") == TABLE["trainer.devices"]
    assert role("trainer.precision").system
    assert role("seeds").system  # not "seed"


@pytest.mark.slow
def test_a_single_run_and_a_job_of_a_sweep_are_one_system(train: Train, tmp_path):
    first = train("seed=1", "epochs=1")
    assert first.code == 0, first.err
    swept = train("-m", "seed=2,3", "epochs=1", "sweep=others")
    assert swept.code == 0, swept.err
    runs = find_runs([first.folder, tmp_path / "logs" / "sweeps" / "others"])
    (system,) = systems(runs)
    assert [run.seed for run in system.runs] == [1, 2, 3]
