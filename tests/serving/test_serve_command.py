"""``kgrec serve``: options and mistakes."""

import builtins
import dataclasses
import logging
import socket
from collections.abc import Iterator

import pytest
from conftest import Trained
from kgrec_command import failed

from kgrec.commands.serve import DEFAULTS
from kgrec.errors import ConfigError
from kgrec.serving.processes import server
from kgrec.serving.settings import ServeSettings


@pytest.fixture
def run(trained: Trained) -> str:
    return str(trained("model=svd"))


@pytest.fixture(autouse=True)
def _loggers() -> Iterator[None]:
    """A server sets the loggers of its process up; other tests read them."""
    loggers = [logging.getLogger(name) for name in ("kgrec.serve", "uvicorn.error")]
    before = [(each.handlers[:], each.propagate, each.level) for each in loggers]
    yield
    for each, (handlers, propagate, level) in zip(loggers, before, strict=True):
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


def test_the_options_have_the_defaults_of_the_settings():
    fields = {f.name: f.default for f in dataclasses.fields(ServeSettings)}
    assert {name: fields[name] for name in DEFAULTS} == DEFAULTS


def test_settings_survive_the_way_to_a_worker():
    settings = ServeSettings(("a", "b=c"), port=1, trust=("mine",), timeout_s=0.5, log_ids=True)
    assert ServeSettings.from_json(settings.to_json()) == settings


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "70000"], "--port: found 70000, expected 0 to 65535"),
        (["--workers", "0"], "--workers: found 0, expected an integer >= 1"),
        (["--max-k", "-1"], "--max-k: found -1, expected an integer >= 1"),
        (["--max-users", "-1"], "--max-users: found -1"),
        (["--max-body-bytes", "-1"], "--max-body-bytes: found -1"),
        (["--max-concurrent", "-1"], "--max-concurrent: found -1"),
        (["--batch-users", "-1"], "--batch-users: found -1"),
        (["--timeout-s", "-1"], "--timeout-s: found -1.0"),
        (["--host", ""], "--host, --port: found :8000"),
        (["--threads", "0"], "--threads: found 0"),
        (["--timeout-s", "0"], "--timeout-s: found 0.0, expected seconds above 0"),
        (["--timeout-s", "nan"], "--timeout-s: found nan"),
        (["--host", "no.such.host.invalid"], "--host, --port: found no.such.host.invalid:8000"),
        (["--device", "nonsense", "--port", "0"], "device: found nonsense"),
    ],
)
def test_mistakes(words, message, run, kgrec):
    failed(kgrec("serve", run, *words), message)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_run_that_is_not_there(workers, kgrec):
    output = kgrec("serve", "nowhere", "--port", "0", "--workers", workers)
    failed(output, "nowhere: found no such folder")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_token_of_other_characters(workers, run, kgrec, monkeypatch):
    monkeypatch.setenv("KGREC_SERVE_TOKEN", "two words")
    output = kgrec("serve", run, "--port", "0", "--workers", workers)
    failed(output, "KGREC_SERVE_TOKEN: found other characters")


def test_two_runs_of_one_name(run, kgrec):
    failed(kgrec("serve", f"a={run}", f"a={run}", "--port", "0"), "runs: found a twice")


def test_a_port_is_taken_before_the_runs_are_loaded():
    with server._bound(ServeSettings(("run",), port=0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ConfigError, match="Address already in use"):
            server._bound(ServeSettings(("run",), port=port))


def test_a_port_in_use(run, kgrec):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed(kgrec("serve", run, "--port", str(port)), "Address already in use")


def test_a_missing_package(run, kgrec, monkeypatch):
    original = builtins.__import__

    def without_fastapi(name, *arguments, **keywords):
        if name == "fastapi":
            raise ModuleNotFoundError("No module named 'fastapi'", name="fastapi")
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_fastapi)
    failed(kgrec("serve", run), "found no package fastapi, expected pip install 'kgrec[serve]'")
