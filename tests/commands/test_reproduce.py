"""The command ``kgrec reproduce``."""

from pathlib import Path

import pytest

from kgrec.cli import main


@pytest.fixture
def command(tmp_path: Path, monkeypatch, capsys):
    """Runs ``kgrec reproduce`` in an empty folder; returns its exit code and its output."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["kgrec", "reproduce", *words])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.mark.slow
def test_an_experiment_runs_and_a_failing_job_ends_it_with_1(command, tmp_path):
    small = [
        "dataset.num_users=40", "dataset.num_items=30", "dataset.positives_per_user=8", "seed=1",
        "model.K=2,0", "epochs=2",
    ]  # fmt: skip
    code, out = command("table3", "--dataset", "synthetic", *small, "--out", "out")
    assert code == 1  # of K=0
    assert "2 runs, 0 of them finished" in out
    (metrics,) = (tmp_path / "out").rglob("metrics.json")
    assert metrics.parent.name == "model.K=2,seed=1"
    code, out = command("table3", "--dataset", "synthetic", *small, "--out", "out", "--list")
    assert code == 0
    assert out.splitlines()[0] == "2 runs, 1 of them finished"
    assert [line for line in out.splitlines() if line.startswith("python train.py")] == [
        "python train.py experiment=table3 dataset=synthetic model.K=0 seed=1 "
        "dataset.num_users=40 dataset.num_items=30 dataset.positives_per_user=8 epochs=2"
    ]


def test_mistakes_end_with_one_line(command):
    assert command("model.K=2") == (
        1, "error: found no experiment, expected one or more, such as table3\n",
    )  # fmt: skip
    assert "--jobs: found 0" in command("table3", "--jobs", "0")[1]
