"""A run folder is one process's at a time, and says how the work in it stands."""

import subprocess
import sys
import time

import pytest

from kgrec.errors import ConfigError
from kgrec.runs.status import at_work, held, read_status, update
from kgrec.sweeps.state import Job, State

HOLD = """
import sys, time
from pathlib import Path
from kgrec.runs.status import at_work, update
with at_work(Path(sys.argv[1])):
    update(Path(sys.argv[1]), epoch=3)
    print("holding", flush=True)
    time.sleep(60)
"""


def test_the_status_says_how_the_run_ended(tmp_path):
    with at_work(tmp_path / "a"):
        assert read_status(tmp_path / "a")["state"] == "running"
        assert held(tmp_path / "a")
    assert not held(tmp_path / "a")
    assert read_status(tmp_path / "a")["state"] == "finished"
    with pytest.raises(ValueError, match="no"), at_work(tmp_path / "b"):
        raise ValueError("no such thing")
    status = read_status(tmp_path / "b")
    assert (status["state"], status["error"]) == ("failed", "no such thing")
    with pytest.raises(KeyboardInterrupt), at_work(tmp_path / "c"):
        raise KeyboardInterrupt
    assert read_status(tmp_path / "c")["state"] == "interrupted"


def test_the_seconds_of_a_resumed_run_add_up(tmp_path):
    update(tmp_path, seconds=100.0)
    with at_work(tmp_path):
        pass
    assert 100 <= read_status(tmp_path)["seconds"] < 101


def test_the_folder_of_a_killed_process_is_free(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holding\n"
        expected = pytest.raises(ConfigError, match=r"found another process at work in")
        with expected, at_work(tmp_path):
            pass
        job = Job("x", (), {})
        assert State.read(job, tmp_path).state == "running"
        process.kill()
        process.wait()
    assert State.read(job, tmp_path).state == "interrupted"
    assert State.read(job, tmp_path).status["epoch"] == 3
    with at_work(tmp_path):
        assert read_status(tmp_path)["state"] == "running"


def test_waiting_for_another_process(tmp_path):
    script = HOLD.replace("60", "1.5")
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        begin = time.perf_counter()
        with at_work(tmp_path, wait=True):
            assert time.perf_counter() - begin > 0.5


@pytest.mark.parametrize("text", ['{"state": "runn', "", "[1, 2]", "3"])
def test_a_damaged_status_file_counts_as_none(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    assert read_status(tmp_path) == {}
