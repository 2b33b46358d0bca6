import pytest
import torch
from conftest import ROOT, Train
from pytorch_lightning import Trainer


def state(run) -> dict[str, torch.Tensor]:
    path = run.folder / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True)["state_dict"]


SETTINGS = {
    "resampled": ["epochs=6"],
    "static": ["epochs=6", "negatives=static", "model.K=2"],
    "lazy": ["epochs=6", "optimizer=lazy_adam"],
    "resampled neighbours": ["epochs=6", "model.K=2", "model.neighbors=resampled"],
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_resuming_gives_the_same_weights_bit_for_bit(settings, train: Train):
    whole = train(*settings, folder="whole")
    half = train(*settings, "epochs=3", folder="half")
    resumed = train(*settings, f"ckpt_path={half.folder}/checkpoints/last.ckpt", folder="resumed")
    assert (whole.code, half.code, resumed.code) == (0, 0, 0)
    assert {k for k in state(whole) if not torch.equal(state(whole)[k], state(resumed)[k])} == set()
    assert any(not torch.equal(state(whole)[k], state(half)[k]) for k in state(whole))
    same = [k for k in whole.metrics if "seconds" not in k and "memory" not in k]
    assert {k: whole.metrics[k] for k in same} == {k: resumed.metrics[k] for k in same}


@pytest.mark.slow
@pytest.mark.parametrize("model", sorted(p.stem for p in (ROOT / "conf" / "model").glob("*.yaml")))
def test_every_trained_model_resumes_bit_for_bit(model, train: Train):
    whole = train(f"model={model}", "epochs=3", folder="whole")
    assert whole.code == 0, whole.err
    if not whole.metrics["train/epochs"]:
        pytest.skip("nothing to train")
    half = train(f"model={model}", "epochs=1", folder="half")
    last = f"ckpt_path={half.folder}/checkpoints/last.ckpt"
    resumed = train(f"model={model}", "epochs=3", last, folder="resumed")
    assert {k for k in state(whole) if not torch.equal(state(whole)[k], state(resumed)[k])} == set()
    assert any(not torch.equal(state(whole)[k], state(half)[k]) for k in state(whole))
    assert whole.metrics["test/auc"] == resumed.metrics["test/auc"]


@pytest.mark.slow
def test_the_best_epoch_before_the_interruption_is_not_forgotten(train: Train):
    # With a large learning rate the model overfits 700 rows within a few epochs.
    settings = ["optimizer.lr=0.03", "optimizer.weight_decay=0", "batch_size=64"]
    whole = train(*settings, "epochs=20", folder="whole")
    best = int(whole.metrics["train/best_epoch"])
    assert best < 20
    half = train(*settings, f"epochs={best}", folder="half")
    last = f"ckpt_path={half.folder}/checkpoints/last.ckpt"
    resumed = train(*settings, "epochs=20", last, folder="resumed")
    assert resumed.metrics["train/best_epoch"] == best
    assert resumed.metrics["val/auc"] == whole.metrics["val/auc"]


def test_a_run_can_resume_in_its_own_folder(train: Train, monkeypatch):
    half = train("epochs=2")
    (half.folder / "metrics.json").unlink()  # as if it had been killed
    whole = train("epochs=4", folder="whole")
    resumed = train("epochs=4", f"ckpt_path={half.folder}/checkpoints/last.ckpt")
    assert resumed.code == 0
    assert resumed.metrics["test/auc"] == whole.metrics["test/auc"]


@pytest.mark.parametrize("ended_by", ["patience", "epochs"])
def test_a_run_interrupted_after_its_training_resumes_with_its_test(ended_by, train: Train):
    settings = ["optimizer.lr=0.1", "optimizer.weight_decay=0", "batch_size=64"]
    settings += ["patience=1", "epochs=30"] if ended_by == "patience" else ["epochs=3"]
    whole = train(*settings, folder="whole")
    again = train(*settings, f"ckpt_path={whole.folder}/checkpoints/last.ckpt", folder="again")
    assert again.code == 0, again.out
    assert ("patience=1 is used up" in again.out) == (ended_by == "patience")
    timed = ("train/seconds", "precompute/seconds")
    same = [k for k in whole.metrics if k not in timed and "memory" not in k]
    assert "train/seconds_per_epoch" in same  # the times of its epochs are those of the first run
    assert {k: whole.metrics[k] for k in same} == {k: again.metrics[k] for k in same}


@pytest.mark.slow
def test_patience_may_change(train: Train):
    settings = ["optimizer.lr=0.1", "optimizer.weight_decay=0", "batch_size=64", "epochs=30"]
    stopped = train(*settings, "patience=1")
    assert stopped.metrics["train/epochs"] < 30
    last = f"ckpt_path={stopped.folder}/checkpoints/last.ckpt"
    more = train(*settings, "patience=12", last, folder="more")
    whole = train(*settings, "patience=12", folder="whole")
    assert more.metrics["train/epochs"] == whole.metrics["train/epochs"]
    assert more.metrics["test/auc"] == whole.metrics["test/auc"]


@pytest.mark.slow
def test_a_moved_run_can_be_resumed(train: Train, tmp_path):
    half, whole = train("epochs=2"), train("epochs=4", folder="whole")
    half.folder.rename(tmp_path / "moved")
    resumed = train("epochs=4", f"ckpt_path={tmp_path}/moved/checkpoints/last.ckpt", folder="new")
    assert resumed.code == 0, resumed.out
    assert resumed.metrics["test/auc"] == whole.metrics["test/auc"]


def test_runs_of_one_seed_are_equal_and_of_two_seeds_differ(train: Train):
    first, again, other = train(), train(folder="again"), train("seed=1", folder="other")
    assert first.metrics["test/auc"] == again.metrics["test/auc"] != other.metrics["test/auc"]


@pytest.mark.slow
def test_the_split_can_be_pinned_while_the_seed_of_the_model_changes(train: Train):
    first = train("dataset.seed=5")
    other = train("dataset.seed=5", "seed=1", folder="other")
    assert first.metrics["popularity/test/auc"] == other.metrics["popularity/test/auc"]
    assert first.metrics["test/auc"] != other.metrics["test/auc"]


@pytest.mark.slow
def test_ctrl_c_prints_how_to_resume(train: Train, monkeypatch):
    from kgrec.training.callbacks import EpochLog

    def interrupt(_: object, trainer: Trainer, __: object) -> None:
        if trainer.current_epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "on_train_epoch_end", interrupt)
        stopped = train("epochs=4")
    assert stopped.code == 130
    last = stopped.folder / "checkpoints" / "last.ckpt"
    assert last.is_file()
    assert stopped.err.endswith("interrupted; the same command with resume=auto resumes\n")
    resumed, whole = train("epochs=4", "resume=auto"), train("epochs=4", folder="whole")
    assert resumed.code == 0, resumed.out + resumed.err
    assert resumed.metrics["test/auc"] == whole.metrics["test/auc"]


@pytest.mark.slow
def test_the_number_of_steps_per_call_does_not_change_results(train: Train):
    settings = ["batch_size=64", "epochs=3"]
    one = train(*settings, "steps_per_call=1", folder="one")
    five = train(*settings, "steps_per_call=5", folder="five")
    chosen = train(*settings, folder="chosen")
    for other in (five, chosen):
        assert {k for k in state(one) if not torch.equal(state(one)[k], state(other)[k])} == set()
    steps = [torch.load(r.folder / "checkpoints" / "last.ckpt")["global_step"] for r in (one, five)]
    assert steps[0] == steps[1] > 3  # optimiser steps, not calls


def test_limits_of_the_trainer_count_steps(train: Train):
    run = train("batch_size=64", "epochs=1", "+trainer.limit_train_batches=3")
    assert torch.load(run.folder / "checkpoints" / "last.ckpt")["global_step"] == 3
