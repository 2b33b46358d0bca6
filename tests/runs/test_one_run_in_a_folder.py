"""A run folder belongs to one run: a second one is refused and changes none of its files."""

from __future__ import annotations

import hashlib
import shutil
import threading
from pathlib import Path

from conftest import Train, Trained
from filelock import FileLock

from kgrec.runs.folder import RunFolder


def content(folder: Path) -> dict[str, str]:
    """Names and hashes of all files, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# A refused command may also be wrong in itself.
WORDS = [["epochs=3"], ["epochs=0"], ["sweep=s"], ["resume=auto", "seed=1"]]


def test_a_finished_run_is_not_touched(train: Train, trained: Trained):
    folder = trained("model=popularity")
    before = content(folder)
    assert "train.log" in before
    for words in WORDS:
        again = train("model=popularity", *words, folder=str(folder))
        assert again.code == 1
        assert "error: " in again.out
        assert content(folder) == before


def test_a_run_at_work_is_not_touched(train: Train, trained: Trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained("model=popularity"), folder)
    RunFolder(folder).metrics_file.unlink()
    before = content(folder)
    with FileLock(RunFolder(folder).lock_file):
        again = train("model=popularity")
    assert again.code == 1
    assert "found another process at work in" in again.out
    assert content(folder) == before


def test_a_run_that_ends_while_another_waits_for_its_folder_is_not_touched(
    train: Train, trained: Trained, tmp_path, monkeypatch
):
    folder, held_back = tmp_path / "run", tmp_path / "metrics.json"
    shutil.copytree(trained("model=popularity"), folder)
    before = content(folder)
    RunFolder(folder).metrics_file.rename(held_back)
    lock = FileLock(RunFolder(folder).lock_file, thread_local=False)

    def end() -> None:
        held_back.rename(RunFolder(folder).metrics_file)
        lock.release()

    acquire = FileLock.acquire

    def acquire_and_wait(self: FileLock, *arguments: object, **options: object) -> object:
        threading.Timer(0.3, end).start()
        return acquire(self, *arguments, **options)

    with monkeypatch.context() as patch:
        lock.acquire()
        patch.setattr("kgrec.runs.status.FileLock.acquire", acquire_and_wait)
        again = train("model=popularity")
    assert again.code == 1
    assert "found a finished run in" in again.out
    assert content(folder) == before


def test_an_error_of_the_run_itself_is_in_its_log(train: Train):
    run = train("dataset.num_items=4")  # found when the data are made
    assert run.code == 1
    assert "error: " in (run.folder / "train.log").read_text()
