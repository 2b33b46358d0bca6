import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, SMALL, Train

from kgrec.errors import ConfigError
from kgrec.tracking import logger as tracking
from kgrec.tracking.access import key_problem
from kgrec.tracking.results import sample_rows, summary, topk_charts

WANDB = [sys.executable, "-m", "wandb"]


def records(run: Path) -> dict[str, list[Any]]:
    """Records of an offline run, by their type."""
    (offline,) = (run / "wandb").glob("offline-run-*")
    command = [*WANDB, "leet", "inspect", "--json", str(offline)]
    read = subprocess.run(command, capture_output=True, text=True, check=True)
    by_type: dict[str, list[Any]] = {}
    for line in read.stdout.splitlines():
        record = json.loads(line)
        by_type.setdefault(record["type"], []).append(record[record["type"]])
    return by_type


def table(run: Path, name: str) -> dict[str, Any]:
    """A table that the last part of a run logged."""
    *_, last = sorted((run / "wandb").glob("offline-run-*"))
    (file,) = last.glob(f"files/media/table/{name}_*.table.json")
    return json.loads(file.read_text())


def updates(changes: list[Any]) -> dict[str, Any]:
    """The sum of all records of changes."""
    return {key: value for record in changes for key, value in record.get("update", {}).items()}


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_wandb_mode_is_read_from_the_environment(mode, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", mode)
    assert tracking.wandb_mode() == mode


def test_without_a_wandb_mode_runs_are_online_and_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    assert tracking.wandb_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "on")
    with pytest.raises(ConfigError, match="WANDB_MODE: found 'on', expected one of online"):
        tracking.wandb_mode()


def test_a_key_is_looked_for_without_a_prompt(monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "")  # which W&B itself does not take
    calls = []

    def login(**arguments: bool) -> bool:
        calls.append(arguments)
        return True

    monkeypatch.setattr(wandb, "login", login)
    assert key_problem() is None
    assert "WANDB_MODE" not in os.environ
    assert calls == [{"prompt": False, "verify": False}]
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    assert key_problem() == "found no API key"


def test_a_malformed_key_is_called_malformed_and_not_shown(monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "tooshort")
    problem = key_problem()
    assert problem is not None
    assert problem.startswith("found a malformed API key in WANDB_API_KEY")
    assert "tooshort" not in problem


@pytest.mark.slow
def test_an_offline_run_can_be_read_back_and_nothing_else_is_written(tmp_path: Path):
    """In a separate process, with an empty home folder and no key."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {"HOME": str(home), "PYTHONPATH": str(ROOT)}
    overrides = [o for o in SMALL if not o.startswith("logger=")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *overrides, "hydra.run.dir=run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "W&B: found no API key: the run is kept offline" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "run"]
    # torchmetrics imports matplotlib, which writes a list of fonts.
    assert [p for p in home.rglob("*") if p.is_file() and "matplotlib" not in p.parts] == []
    found = records(tmp_path / "run")
    (begun,) = found["run"]
    assert begun["job_type"] == "run"
    assert "run_group" not in begun
    assert begun["tags"] == ["synthetic", "kgcn", "paper"]
    assert begun["run_id"] == (tmp_path / "run" / "wandb" / "run-id.txt").read_text()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert updates(found["summary"])["test/auc"] == metrics["test/auc"]
    assert found["exit"][0]["exit_code"] == 0


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.slow
def test_jobs_of_a_sweep_are_runs_of_one_group_with_all_curves_tables_and_results(
    train: Train, tmp_path: Path, offline: None
):
    """Two jobs in one process; the second fails."""
    jobs = ("optimizer.lr=0.01", "optimizer.lr=1e+30")
    before = dict(os.environ)
    train(
        "-m", "optimizer.lr=0.01,1e30", "logger=default", "logger.wandb.log_checkpoint=true",
        "optimizer=lazy_adam", "ranking.ks=[5,10]", "hydra.sweep.dir=my-sweep",
    )  # fmt: skip
    assert {k: v for k, v in os.environ.items() if "WANDB" in k} == {
        k: v for k, v in before.items() if "WANDB" in k
    }
    good, bad = (records(tmp_path / "my-sweep" / job) for job in jobs)
    for found in (good, bad):
        (begun,) = found["run"]
        assert (begun["run_group"], begun["job_type"]) == ("my-sweep", "sweep")
    assert good["run"][0]["run_id"] != bad["run"][0]["run_id"]
    assert [f["exit"][0]["exit_code"] for f in (good, bad)] == [0, 1]
    for job in jobs:  # each has its own files
        assert (tmp_path / "my-sweep" / job / "wandb" / "data").is_dir()

    run = tmp_path / "my-sweep" / jobs[0]
    metrics = json.loads((run / "metrics.json").read_text())
    config = updates(good["config"])
    assert config["optimizer"]["lr"] == 0.01
    assert config["choices"]["model"] == "kgcn"
    assert "hydra/launcher" not in config["choices"]
    assert config["ranking"]["ks"] == [5, 10]
    assert set(yaml.safe_load((run / "config.yaml").read_text())) <= set(config)

    axes = {m.get("name") or m["glob_name"]: m for m in good["metric"]}
    for name, kind in {"train/loss": "min", "val/*": "max", "val/log_loss": "min"}.items():
        assert axes[name]["step_metric"] == "trainer/epoch"
        assert axes[name]["summary"] == {kind: True}
    for name in ("val_popularity/*", "z_speed/*", "z_norms/*"):
        assert axes[name]["step_metric"] == "trainer/epoch"

    rows = [record["item"] for record in good["history"]]
    for key in (
        "train/loss", "val/auc", "val_popularity/auc", "z_speed/seconds_per_epoch",
        "z_speed/rows_per_second", "z_norms/weight/user_embedding/weight",
        "z_norms/grad/user_embedding/weight",
    ):  # fmt: skip
        assert [row["trainer/epoch"] for row in rows if key in row] == [0, 1], key
    flat = [row["val_popularity/auc"] for row in rows if "val_popularity/auc" in row]
    assert flat == [metrics["popularity/val/auc"]] * 2

    kept = updates(good["summary"])
    best = max(row["val/auc"] for row in rows if "val/auc" in row)
    assert kept["val/auc"] == {"max": best}
    assert kept["best/auc"] == metrics["val/auc"]
    assert kept["popularity/test/auc"] == metrics["popularity/test/auc"]
    assert kept["train/best_epoch"] == metrics["train/best_epoch"]
    assert not any("test/auc" in row for row in rows)  # once, not as a curve

    # W&B and leet sort by name: the loss and the validation come first.
    names = sorted({key for row in rows for key in row if not key.startswith("_")})
    assert names[0] == "train/loss"
    assert [name for name in names if not name.startswith(("train", "val", "z_"))] == []

    lines = table(run, "z_charts/val/auc_table")["data"]
    assert {line[1] for line in lines} == {"model", "popularity"}
    assert len(lines) == 4
    for metric in ("recall", "ndcg"):
        curve = {(k, name): v for k, name, v in table(run, f"z_charts/{metric}_table")["data"]}
        assert curve[5, "model"] == metrics[f"test/{metric}@5"]
        assert curve[10, "popularity"] == metrics[f"popularity/test/{metric}@10"]
    samples = json.loads((run / "evaluation" / "samples.json").read_text())
    assert table(run, "z_tables/samples")["data"] == [list(row) for row in sample_rows(samples)[1]]
    account = json.loads((run / "dataset.json").read_text())["account"]
    assert table(run, "z_tables/account")["data"] == [list(entry.values()) for entry in account]
    (checkpoint,) = (a for a in good["artifact"] if a["type"] == "model")
    (content,) = checkpoint["manifest"]["contents"]
    assert content["local_path"] == str(run / "checkpoints" / "best.ckpt")


@pytest.mark.slow
def test_a_resumed_run_is_one_wandb_run(train: Train, offline: None):
    run = train("logger=default", "logger.csv=null", "epochs=1")
    (run.folder / "metrics.json").unlink()
    again = train(
        "logger=default", "logger.csv=null", f"ckpt_path={run.folder}/checkpoints/last.ckpt"
    )
    assert again.code == 0, again.out
    first, second = (run.folder / "wandb").glob("offline-run-*/run-*.wandb")
    assert first.name == second.name
    assert len(table(run.folder, "z_charts/val/auc_table")["data"]) == 4


@pytest.mark.slow  # W&B starts a process of its own
def test_without_a_network_a_run_with_a_key_goes_offline_at_once(
    train: Train, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    import wandb

    wandb.teardown()  # W&B keeps the address of the first run of a process
    begin = time.perf_counter()
    run = train("logger=default", "model=popularity")
    assert run.code == 0, run.err
    assert time.perf_counter() - begin < 30
    assert "W&B: http://127.0.0.1:9 does not answer: the run is kept offline" in run.out
    assert len(records(run.folder)["exit"]) == 1


def test_a_server_that_refuses_leaves_the_run_offline(monkeypatch: pytest.MonkeyPatch):
    import wandb

    modes = []

    def init(**arguments: Any) -> str:
        modes.append(arguments["mode"])
        if arguments["mode"] == "online":
            raise wandb.errors.CommError("no such key")
        return "run"

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setattr(tracking, "key_problem", lambda: None)
    monkeypatch.setattr(tracking, "server", lambda: "there")
    monkeypatch.setattr(tracking, "answers", lambda _: True)
    assert tracking._start() == "run"
    assert modes == ["online", "offline"]
    monkeypatch.setattr(tracking, "key_problem", lambda: "found no API key")
    tracking._start()
    assert modes[2:] == ["offline"]  # W&B would ask for a key


def test_an_error_of_wandb_does_not_end_the_run(monkeypatch, caplog):
    class Run:
        offline = disabled = False

    def fail(_: object) -> None:
        raise RuntimeError("the server is full")

    logger = tracking.RunLogger(None, "folder", "project")
    logger._experiment = Run()
    monkeypatch.setattr(tracking, "server", lambda: "https://there")
    monkeypatch.setattr(tracking, "answers", lambda _: True)
    tracking.log_to_wandb([logger], fail)
    assert "not everything could be logged: the server is full" in caplog.text
    monkeypatch.setattr(tracking, "answers", lambda _: False)
    tracking.log_to_wandb([logger], lambda _: pytest.fail("the server was waited for"))
    assert "https://there does not answer any more" in caplog.text


def test_validation_metrics_of_the_best_epoch_are_called_best():
    metrics = {"val/auc": 0.8, "test/auc": 0.7, "popularity/val/auc": 0.6}
    assert summary(metrics) == {"best/auc": 0.8, "test/auc": 0.7, "popularity/val/auc": 0.6}


def test_without_a_ranking_there_is_no_chart():
    assert topk_charts({"test/auc": 0.5}, [5, 10]) == {}
    assert topk_charts({"test/auc": 0.5}, []) == {}
    assert set(topk_charts({"test/recall@5": 0.5}, [5])) == {"z_charts/recall"}
