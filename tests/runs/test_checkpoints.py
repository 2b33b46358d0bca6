"""Checkpoint files that are damaged, hostile or of another program give one clear error."""

import os
import pickle
import shutil
import traceback
from pathlib import Path

import pytest
import torch

from kgrec.errors import CheckpointError
from kgrec.models.svd import SVD
from kgrec.runs.checkpoints import load_recommender


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint of a small model."""
    model = SVD(2, 3, 4)
    tensors = {f"recommender.{name}": value for name, value in model.state_dict().items()}
    identity = {"recipe": model.recipe(), "dataset": {}, "settings": {}}
    path = tmp_path / "best.ckpt"
    torch.save({"kgrec": identity, "state_dict": tensors, "epoch": 0}, path)
    return path


def test_a_whole_checkpoint_is_rebuilt(file):
    assert isinstance(load_recommender(file), SVD)


@pytest.mark.parametrize("name", ["kgrec", "state_dict", "epoch"])
@pytest.mark.parametrize("value", [None, [], "text"])
def test_a_file_that_is_no_checkpoint(name, value, file):
    torch.save(torch.load(file, weights_only=True) | {name: value}, file)
    with pytest.raises(CheckpointError, match="found a file that is not a checkpoint") as caught:
        load_recommender(file)
    assert str(file) in str(caught.value)


class Hostile:
    """An object whose pickle runs a command when it is loaded without protection."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (os.system, f"it names {os.name}.system, which was not run"),
        (shutil.rmtree, "it names shutil.rmtree, which was not run"),
        (Hostile, f"it names {__name__}.Hostile, which was not run"),
    ],
)
def test_a_hostile_pickle_is_one_line_that_does_not_advise_to_load_it(function, reason, tmp_path):
    file, mark = tmp_path / "best.ckpt", tmp_path / "mark"
    torch.save({"kgrec": Hostile(function, f"touch {mark}")}, file)
    with pytest.raises(CheckpointError) as caught:
        load_recommender(file)
    assert str(caught.value) == (
        f"{file}: found no readable checkpoint ({reason}), expected one of kgrec, which holds only "
        "tensors and plain values"
    )
    assert "weights_only" not in "".join(traceback.format_exception(caught.value))
    assert not mark.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle"])
def test_a_damaged_file_is_one_line(damage, file):
    content = {
        "cut": file.read_bytes()[:-50],
        "empty": b"",
        "text": b"no checkpoint\n" * 9,
        "pickle": pickle.dumps(Hostile(os.system, "true"), protocol=4),
    }
    file.write_bytes(content[damage])
    with pytest.raises(CheckpointError, match=r"\(damaged or of another kind\)") as caught:
        load_recommender(file)
    assert "\n" not in str(caught.value)
