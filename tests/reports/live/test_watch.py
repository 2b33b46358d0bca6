"""A page is kept up to date while jobs run, and ends when they do."""

import threading
import time

import pytest
from filelock import FileLock
from finished_runs import grid, set_status

from kgrec.cli import main
from kgrec.errors import DataError
from kgrec.reports.live.snapshot import fingerprint
from kgrec.reports.live.watch import PAGE, watch
from kgrec.runs.folder import LOCK
from kgrec.sweeps.folder import FILE


def test_watching_ends_when_the_sweep_does(make_sweep, capsys):
    place = make_sweep(*grid(model__K=(2, 8)), finished=2)
    whole = {path: path.read_text() for path in place.glob("*/metrics.json")}
    late = sorted(whole)[1]
    about = (place / "sweep.json").read_text()
    late.unlink()
    folder = set_status(place, 1, state="running", epoch=1, epochs=2)
    seen = []

    def job():
        with FileLock(place / LOCK):
            with FileLock(folder / LOCK):
                until((place / PAGE).is_file)
                seen.append((place / PAGE).read_text())
                late.write_text(whole[late][:40])  # half of it
                (place / "sweep.json").write_text(about[:90])
                time.sleep(0.3)
                (place / "sweep.json").write_text(about)
                late.write_text(whole[late])
            set_status(place, 1, state="finished", seconds=3.0)

    def until(true):
        end = time.monotonic() + 30
        while not true() and time.monotonic() < end:
            time.sleep(0.02)

    thread = threading.Thread(target=job)
    thread.start()
    until(lambda: fingerprint(place)[0])
    page = watch(place, every=0.05)
    thread.join()
    assert "Live" in seen[0]
    assert "Final" in page.read_text()
    assert "2 of 2" in page.read_text()
    assert capsys.readouterr().out.splitlines() == [str(page)]


def test_watching_ends_at_ctrl_c_and_says_so_in_the_page(make_sweep, monkeypatch, tmp_path):
    place = make_sweep(*grid(model__K=(2, 8)), finished=1)

    def stop(seconds):
        raise KeyboardInterrupt

    with FileLock(place / LOCK):
        monkeypatch.setattr("kgrec.reports.live.watch.time.sleep", stop)
        monkeypatch.setattr(
            "sys.argv", ["kgrec", "report", str(place), "--watch", "--out", str(tmp_path / "out")]
        )
        main()
    text = (tmp_path / "out" / PAGE).read_text()
    assert "it is not kept up to date" in text
    assert 'data-reload="0"' in text
    assert not (place / PAGE).exists()


def test_the_command_line(make_sweep, monkeypatch, capsys, tmp_path):
    place = make_sweep(*grid(model__K=(2, 8)), finished=1)

    def call(*words):
        monkeypatch.setattr("sys.argv", ["kgrec", "report", *map(str, words)])
        main()
        return capsys.readouterr().out

    for words in ((place, "--watch", "--once"), (place, "--once"), (place / FILE, "--once")):
        assert call(*words).splitlines() == [str(place / PAGE)]
    for words, message in (
        ((place, place, "--watch"), "expected the folder of one sweep"),
        ((tmp_path, "--watch"), "found no sweep.json in it, expected the folder of a sweep"),
        ((place, "--watch", "--every", "0"), "expected seconds above 0"),
    ):
        with pytest.raises(SystemExit):
            call(*words)
        assert message in capsys.readouterr().err


def test_a_place_that_is_no_sweep_s(tmp_path):
    for place, message in (
        (tmp_path / "none", "none: found no such folder, expected the folder of a sweep"),
        (tmp_path / "none" / FILE, "none: found no such folder"),
        (tmp_path, "found no sweep.json in it"),
    ):
        with pytest.raises(DataError, match=message):
            watch(place)
    (tmp_path / FILE).write_text("half of")
    with pytest.raises(DataError, match=r"sweep.json: found no readable file"):
        watch(tmp_path)
