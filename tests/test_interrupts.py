"""Ctrl-C and SIGTERM: one line, an exit code, no stack trace, no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest
from conftest import ROOT, Train

from kgrec.commands.data import cache
from kgrec.interrupts import (
    call,
    ends_in_one_line,
    held_back,
    interrupted,
    kept_by_lightning,
    on_interrupt,
)
from kgrec.runs.status import read_status

HEAD = """
import os, signal, sys, time
from kgrec.interrupts import ends_in_one_line, on_interrupt
def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)
    time.sleep(5)  # the signal arrives here
"""


def run(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a script in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(script), *words],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


# ------------------------------------------------------------------ in this process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_one_line_and_a_code(number, capsys):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    hooks = sys.unraisablehook, threading.excepthook
    with pytest.raises(SystemExit) as stop, ends_in_one_line():
        signal.raise_signal(number)
    assert stop.value.code == 128 + number
    assert capsys.readouterr() == ("", "interrupted\n")
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (sys.unraisablehook, threading.excepthook) == hooks
    assert not interrupted()


@pytest.mark.parametrize("error", [RecursionError, ImportError, SystemError, BaseException])
def test_an_error_that_a_library_makes_of_a_signal_is_no_error(error, capsys):
    def library() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error("something else") from None

    with pytest.raises(SystemExit) as stop, ends_in_one_line():
        library()
    assert stop.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_error_without_a_signal_stays_an_error():
    with pytest.raises(RecursionError), ends_in_one_line():
        raise RecursionError
    with pytest.raises(SystemExit, match="3"), ends_in_one_line():
        sys.exit(3)


def test_the_outermost_work_says_how_to_resume(capsys):
    calls = []

    def act(name: str, hint: str | None) -> str | None:
        calls.append(name)
        return hint

    def work() -> None:
        with (
            on_interrupt(lambda: act("sweep", "resume the sweep")),
            on_interrupt(lambda: act("job", "resume the job")),
            on_interrupt(lambda: act("status", None)),
        ):
            with on_interrupt(lambda: act("over", "nothing")):
                pass
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit), ends_in_one_line():
        work()
    assert calls == ["status", "job", "sweep"]
    assert capsys.readouterr().err == "interrupted; resume the sweep\n"


def test_a_function_that_fails_at_an_interrupt_gives_no_trace(capsys):
    with pytest.raises(SystemExit), ends_in_one_line(), on_interrupt(lambda: str(1 / 0)):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted\n"


def test_every_command_ends_with_the_line(kgrec, monkeypatch):
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "run", stop)
    assert kgrec("data", "cache") == (130, "", "interrupted\n")


def test_lightning_does_not_turn_it_into_its_own_exit():
    def fit() -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            sys.exit(1)

    with pytest.raises(KeyboardInterrupt), kept_by_lightning():
        fit()
    with pytest.raises(SystemExit), kept_by_lightning():
        sys.exit(1)


@pytest.mark.parametrize("where", ["precompute"])
def test_a_run_that_is_interrupted_says_how_to_resume(where, train: Train, monkeypatch):
    def stop(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(f"kgrec.pipeline.run.{where}", stop)
        stopped = train("model=popularity")
    assert stopped.code == 143
    assert stopped.err == "interrupted; the same command with resume=auto resumes\n"
    assert "Traceback" not in stopped.out
    assert read_status(stopped.folder)["state"] == "interrupted"
    assert train("model=popularity", "resume=auto").code == 0


# ------------------------------------------------------------------ in a process of its own


def test_a_signal_during_an_import(tmp_path: Path):
    (tmp_path / "slow.py").write_text("try:\n    interrupt()\nexcept BaseException:\n    1 / 0\n")
    done = run(
        """
        import builtins
        from pathlib import Path
        from kgrec.runs.status import at_work
        builtins.interrupt = interrupt
        sys.path.insert(0, sys.argv[1])
        with ends_in_one_line(whole_process=True), at_work(Path(sys.argv[1])):
            import slow
        """,
        str(tmp_path),
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
    assert read_status(tmp_path)["state"] == "interrupted"


SCRIPTS = {
    "in a finalizer": """
        class Open:
            def __del__(self): interrupt()
        with ends_in_one_line(whole_process=True), on_interrupt(lambda: "resume"):
            opened = Open()
            del opened
            time.sleep(5)
        """,
    "twice": """
        with ends_in_one_line(whole_process=True), on_interrupt(lambda: "resume"):
            try:
                interrupt()
            finally:
                time.sleep(0.6)
                interrupt()
        """,
    "sent on at once by a launcher": """
        with ends_in_one_line(whole_process=True), on_interrupt(lambda: "resume"):
            try:
                interrupt()
            finally:
                os.kill(os.getpid(), signal.SIGINT)
                print("closed", flush=True)
        """,
    "while threads work": """
        import threading
        def work():
            time.sleep(0.3)
            1 / 0
        with ends_in_one_line(whole_process=True), on_interrupt(lambda: "resume"):
            threading.Thread(target=work).start()
            interrupt()
        """,
    "with output that waits": """
        sys.stdout.write("half a line")
        with ends_in_one_line(whole_process=True), on_interrupt(lambda: "resume"):
            try:
                interrupt()
            except KeyboardInterrupt:
                time.sleep(0.6)
                interrupt()
        """,
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_signal(script):
    done = run(script)
    assert done.returncode == 130
    assert done.stderr == "interrupted; resume\n"
    assert done.stdout in ("", "closed\n", "half a line")


def test_a_signal_after_the_end_of_a_command_is_silent():
    done = run(
        """
        import atexit
        atexit.register(interrupt)
        with ends_in_one_line(whole_process=True):
            print("the results")
        """
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_a_forked_child_of_a_command_says_nothing():
    done = run(
        """
        with ends_in_one_line(whole_process=True), on_interrupt(lambda: "resume"):
            child = os.fork()
            if child == 0:
                interrupt()
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "130\n", "")


def test_children_end_with_the_command():
    done = run(
        """
        import subprocess
        with ends_in_one_line(whole_process=True):
            child = subprocess.Popen(["sleep", "100"])
            print(child.pid, flush=True)
            interrupt()
        """
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert ended(int(done.stdout))


# ------------------------------------------------------------------ children


def test_a_called_program_ends_with_its_caller():
    command = [sys.executable, "-c", "import time; time.sleep(100)"]
    assert call([sys.executable, "-c", "raise SystemExit(7)"]) == 7
    with pytest.raises(subprocess.TimeoutExpired):
        call(command, seconds=0.2)
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(SystemExit, match="130"), ends_in_one_line():
        call(command)
    alive = [c for c in psutil.Process().children() if c.status() != psutil.STATUS_ZOMBIE]
    assert [c for c in alive if "time.sleep(100)" in str(c.cmdline())] == []


def test_a_program_of_kgrec_answers_a_signal_that_came_too_early():
    script = HEAD + "time.sleep(0.3)\nwith ends_in_one_line(whole_process=True): time.sleep(100)"
    with held_back():
        child = subprocess.Popen(
            [sys.executable, "-c", script], stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    child.send_signal(signal.SIGINT)  # Python itself has hardly started
    assert child.communicate(timeout=60)[1] == "interrupted\n"
    assert child.returncode == 130
