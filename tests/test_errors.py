"""Messages of errors: printable, bounded, and as many lines as they are given."""

import pickle

import pytest

from kgrec.config.messages import any_user_error
from kgrec.errors import LONGEST, DataError


@pytest.mark.parametrize(
    "text", ["a\nb", "a\x1b[31mb", "a\u202eb", "a\u2028b", "a\ud800b", "a\x00b"]
)
def test_what_a_message_quotes_adds_no_line_and_no_control_characters(text):
    message = str(DataError(f"x.csv:2: found {text}, expected 3 fields"))
    assert message.isprintable()
    assert message.startswith("x.csv:2: found a")
    message.encode()


def test_each_argument_is_a_line():
    error = DataError("x: found a, expected one of", "  b\nc", "  d")
    assert str(error) == "x: found a, expected one of\n  b\\nc\n  d"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_message_is_bounded():
    assert len(str(DataError("x" * 10**6))) == LONGEST


def test_hydra_adds_no_line_either():
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException

    from kgrec.config.location import conf_dir

    with (
        initialize_config_dir(str(conf_dir().resolve()), version_base="1.3"),
        pytest.raises(HydraException) as error,
    ):
        compose("train", ["model=kgcn", "\x1b[31m=\x00"])
    message = any_user_error(error.value)
    assert message is not None
    assert message.isprintable()


@pytest.mark.parametrize(
    "words",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer",
        "NCCL error: remote process exited or there was a network error",
    ],
)
def test_a_process_that_waits_for_one_that_has_ended_says_so_in_a_line(words):
    message = any_user_error(RuntimeError(words))
    assert message is not None
    assert message.startswith("trainer: found no connection to another process of the run")
    assert any_user_error(RuntimeError("Connection closed")) is None
