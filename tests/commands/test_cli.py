"""``kgrec``: help, exit codes, errors and interrupts of every subcommand."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from omegaconf import OmegaConf

from kgrec import __version__
from kgrec.commands.data import cache, choice, generate
from kgrec.config.location import conf_dir
from kgrec.data.formats import FORMATS
from kgrec.data.synthetic.shapes import SHAPES


@pytest.mark.parametrize("words", [["--help"], ["data", "--help"], ["data", "convert", "--help"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; from kgrec import cli\n"
        f"sys.argv = ['kgrec', *{words}]\n"
        "try:\n    cli.main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    heavy = {"torch", "polars", "hydra", "omegaconf", "numpy", "rich", "matplotlib", "jinja2"}
    assert "argparse" in loaded
    assert heavy & loaded == set()
    assert done.stdout.startswith("usage: kgrec")


def test_help_lists_every_command_and_the_version(kgrec):
    output = kgrec("--help")
    assert output.code == 0
    for command in ("train", "data"):
        assert re.search(rf"^ +{command} ", output.out, flags=re.MULTILINE)
    output = kgrec("data", "--help")
    for action in ("describe", "convert", "formats", "cache", "generate"):
        assert re.search(rf"^ +{action} ", output.out, flags=re.MULTILINE)
        about = kgrec("data", action, "--help").out
        assert action == "formats" or "example" in about
    assert kgrec("--version").out.strip() == f"kgrec {__version__}"


def test_constants_of_the_command_equal_their_sources():
    assert tuple(FORMATS) == choice.FORMAT_NAMES
    assert set(SHAPES) == set(generate.TWINS)
    paths = OmegaConf.load(conf_dir() / "paths" / "default.yaml")
    assert OmegaConf.create({"paths": paths}).paths.cache == cache.CACHE


@pytest.mark.parametrize("words", [[], ["data"], ["data", "describe"], ["data", "cache", "--x"],
                                   ["data", "describe", "music", "seed=1", "--x"]])  # fmt: skip
def test_an_unknown_command_shows_the_usage(words, kgrec):
    output = kgrec(*words)
    assert output.code == 2
    assert "usage: kgrec" in output.err


def test_a_bug_shows_where_it_is(kgrec, monkeypatch):
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cache, "run", broken)
    with pytest.raises(ZeroDivisionError):
        kgrec("data", "cache")


def test_a_closed_pipe_is_not_an_error(tmp_path):
    command = [sys.executable, "-m", "kgrec.cli", "data", "formats"]
    read, written = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, stdout=written, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False,
        env=environment,
    )  # fmt: skip
    os.close(written)
    assert done.stderr == ""
    assert done.returncode == 1


def test_logging_is_as_it_was(kgrec):
    logger = logging.getLogger("kgrec")
    before = (logger.handlers[:], logger.level, logger.propagate)
    kgrec("data", "formats")
    kgrec("data", "describe", "nowhere")
    assert (logger.handlers, logger.level, logger.propagate) == before
