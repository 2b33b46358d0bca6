"""Jobs, the names of their folders, and the best setting among them."""

import pytest

from kgrec.sweeps.state import MAX_NAME_LENGTH, Job, State, best_jobs, folder_name


def finished(value: float, **varied: str) -> State:
    keys = {key.replace("__", "."): text for key, text in varied.items()}
    job = Job.of([f"{key}={text}" for key, text in keys.items()], list(keys))
    return State(job, None, "finished", {}, {"val/auc": value})


def test_folder_names_fit_every_file_system_and_differ():
    assert folder_name(["model.K=all", "seed=1"]) == "model.K=all,seed=1"
    odd, other = folder_name(["x=a b"]), folder_name(["x=a:b"])
    assert odd != other
    assert set(odd + other) <= set("abcdefghijklmnopqrstuvwxyz0123456789=_-")
    long = [folder_name([f"model.paths=[{'a' * 300}{end}]"]) for end in "xy"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= MAX_NAME_LENGTH + 9
    assert "/" not in folder_name(["dataset.root=a/b"])


def test_each_data_set_has_a_best_job():
    values = {("book", "2"): 0.7, ("book", "4"): 0.72, ("music", "2"): 0.84, ("music", "4"): 0.83}
    states = [finished(v, dataset=name, model__K=k) for (name, k), v in values.items()]
    assert best_jobs(states) == {"dataset=book,model.K=4", "dataset=music,model.K=2"}
    failed = State(states[0].job, None, "failed", {"best": 0.99})
    assert best_jobs([failed, states[1]]) == {"dataset=book,model.K=4"}
    assert best_jobs([failed]) == set()


def test_the_best_setting_has_the_best_mean_over_seeds_not_the_best_seed():
    states = [
        finished(0.9, model__K="2", seed="1"), finished(0.5, model__K="2", seed="2"),
        finished(0.8, model__K="4", seed="1"), finished(0.7, model__K="4", seed="2"),
    ]  # fmt: skip
    assert best_jobs(states) == {"model.K=4,seed=1", "model.K=4,seed=2"}


@pytest.mark.parametrize("key", ["seed", "dataset__seed"])
def test_no_seed_is_the_best(key):
    assert best_jobs([finished(0.9, **{key: "1"}), finished(0.8, **{key: "2"})]) == set()
