"""Checkpoint files of an attacker: one clear error, no call, memory bounded by the file."""

import io
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kgrec.errors import CheckpointError
from kgrec.models.controls import Popularity
from kgrec.models.recipes import rebuild
from kgrec.models.svd import SVD
from kgrec.runs.checkpoints import load_recommender, read_checkpoint
from kgrec.runs.saved_files import MOST_PLAIN


def good() -> dict:
    model = SVD(2, 3, 4)
    tensors = {f"recommender.{name}": value for name, value in model.state_dict().items()}
    identity = {"recipe": model.recipe(), "dataset": {}, "settings": {}}
    return {"kgrec": identity, "state_dict": tensors, "epoch": 0}


def entries(content: object) -> dict[str, bytes]:
    """The entries of a file of torch.save."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


class Call:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def deep(levels: int) -> list:
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


def many_paths() -> list:
    value: list = [0] * 10
    for _ in range(12):
        value = [value] * 10
    return value


def circle() -> list:
    value: list = []
    value.append(value)
    return value


def values() -> dict[str, object]:
    """Contents that no checkpoint of kgrec has."""
    return {
        "a call that allocates": Call(bytearray, 10**12),
        "a tensor of any size": Call(torch.Tensor, 10**11),
        "deep nesting": deep(200),
        "many references": many_paths(),
        "a circle": circle(),
        "a tuple as key": {(1, 2): 3},
        "a set": {1, 2},
        "bytes": b"x",
        "a complex number": 1j,
        "a sparse tensor": torch.eye(3).to_sparse(),
        "a meta tensor": torch.empty(10**12, device="meta"),
        "a parameter": torch.nn.Parameter(torch.ones(2)),
        "a virtual tensor": torch.ones(1).expand(10**9),
        "shared numbers": [torch.ones(9).as_strided((99, 9), (0, 1)) for _ in range(1000)],
        "a call of dict": Call(dict),
    }


@pytest.mark.parametrize("name", values())
def test_content_that_no_checkpoint_has(name, tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save(good() | {"more": values()[name]}, path)
    with pytest.raises(CheckpointError, match="found no readable checkpoint") as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def pickles() -> dict[str, bytes]:
    """Pickles that torch.save does not write."""
    text = pickle.dumps("x", 2)[2:-1]
    return {
        "a huge memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "deep tuples as key": b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
        "a bytearray of 2^62 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**62) + b".",
        "a text of 2^31 bytes": b"\x80\x02X" + struct.pack("<I", 2**31 - 1) + b"x.",
        "a number of 2^31 digits": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"\x01.",
        "a name with a line break": b"\x80\x02cos\nsystem\x1b[31m\n.",
        "a call of a text": b"\x80\x02" + text + b")R.",
        "attributes of a list": b"\x80\x02]}" + b"b.",
        "a call of an extension": b"\x80\x02\x82\x01.",
        "nothing": b"\x80\x02.",
        "no end": b"\x80\x02}",
        "more than its limit": b"\x80\x02]" + b"]" * MOST_PLAIN + b".",
    }


@pytest.mark.parametrize("name", pickles())
def test_a_pickle_that_is_not_of_torch(name, tmp_path):
    parts = entries(good()) | {"archive/data.pkl": pickles()[name]}
    path = packed(tmp_path / "best.ckpt", parts)
    with pytest.raises(CheckpointError, match=r"found (no readable checkpoint|a file)") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_numbers_that_a_storage_claims_and_does_not_hold(tmp_path):
    parts = entries(good())
    data = parts["archive/data.pkl"]
    assert data.count(b"K\x08t") == 1
    path = packed(
        tmp_path / "best.ckpt", parts | {"archive/data.pkl": data.replace(b"K\x08t", b"K\xfft")}
    )
    with pytest.raises(CheckpointError, match=r"other numbers in an entry than the 255 it claims"):
        read_checkpoint(path)


@pytest.mark.parametrize("damage", ["compressed", "encrypted", "prefix", "suffix", "flipped"])
def test_an_archive_that_torch_does_not_write(damage, tmp_path):
    path = packed(tmp_path / "best.ckpt", entries(good()))
    data = bytearray(path.read_bytes())
    if damage == "compressed":
        packed(path, entries(good()) | {"archive/data/9": bytes(2**26)}, zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 200_000
    elif damage == "encrypted":
        for place in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
            data[place] |= 1
        path.write_bytes(data)
    elif damage == "prefix":
        path.write_bytes(pickle.dumps(Call(print, "run")) + data)
    elif damage == "suffix":
        path.write_bytes(data + b"x")
    else:
        begin = data.index(b"archive/data/0") + 14
        data[begin + 1] ^= 1
        path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="found no readable checkpoint"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_a_list_of_entries_that_is_too_long_is_refused_at_once(tmp_path):
    path = tmp_path / "best.ckpt"
    listed = 2**23
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, listed, 4, 0)
    path.write_bytes(b"PK\x03\x04" + bytes(listed) + end)
    begin = time.perf_counter()
    with pytest.raises(CheckpointError, match="found no readable checkpoint"):
        read_checkpoint(path)
    assert time.perf_counter() - begin < 1


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("NaN", lambda t: t * float("nan"), "found NaN or infinity"),
        ("infinity", lambda t: t / 0, "found NaN or infinity"),
        ("integers", lambda t: t.int(), "found numbers of type torch.int32"),
    ],
)
def test_weights_that_no_model_has(name, change, message, tmp_path):
    content = good()
    state = content["state_dict"]
    state["recommender.item_embedding.weight"] = change(torch.ones(3, 4))
    torch.save(content, path := tmp_path / "best.ckpt")
    with pytest.raises(CheckpointError, match=rf"item_embedding\.weight: {message}") as caught:
        load_recommender(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("value", [-1, 3, 2**40, True, 2.0, {"shape": [1], "dtype": "int64"}])
def test_a_count_that_no_table_has(value):
    model = Popularity(2)
    recipe = model.recipe()
    recipe["arguments"]["num_items"] = value
    with pytest.raises(CheckpointError, match=r"num_items: found .* expected an integer"):
        rebuild(recipe, model.state_dict())
