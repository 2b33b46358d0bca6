"""Mutations of checkpoints and other archives, and of safetensors."""

from __future__ import annotations

import io
import json
import zipfile
from random import Random
from typing import Any

import torch

from fuzzing.mutations import octets
from fuzzing.mutations.documents import change
from fuzzing.mutations.values import plain


def entries(data: bytes, luck: Random) -> bytes:
    """Changes, drops, renames or repeats a member of a ZIP file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    if not members:
        return data
    place, action = luck.randrange(len(members)), luck.randrange(6)
    name, content = members[place]
    if action < 3:
        members[place] = (name, luck.choice(octets.ALL)(content, luck))
    elif action == 3:
        del members[place]
    elif action == 4:
        members[place] = (luck.choice(("../x", "/x", name + "x", name.upper(), "")), content)
    else:
        members.insert(0, (name, luck.choice(members)[1]))
    kind = luck.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for member, content in members:
            info = zipfile.ZipInfo(member or "x", (1980, 1, 1, 0, 0, 0))
            info.compress_type = kind
            archive.writestr(info, content)
    return buffer.getvalue()


def checkpoint(data: bytes, luck: Random) -> bytes:
    """Changes a value of a checkpoint: its recipe, its settings, a tensor."""
    content: Any = torch.load(io.BytesIO(data), weights_only=True)
    for _ in range(luck.choice((1, 1, 2))):
        own = content.get("kgrec") if isinstance(content, dict) else None
        if isinstance(own, dict) and luck.random() < 0.7:
            content["kgrec"] = _changed(own, luck)
        else:
            content = _changed(content, luck)
    torch.save(content, buffer := io.BytesIO())
    return buffer.getvalue()


def _changed(value: Any, luck: Random) -> Any:
    """A value with one change: of a tensor where one is met, else as in JSON."""
    tensors = [(box, key) for box, key in _tensors(value)]
    if tensors and luck.random() < 0.4:
        box, key = luck.choice(tensors)
        box[key] = _tensor(box[key], luck)
        return value
    return change(value, luck)


def _tensors(value: Any) -> list[tuple[Any, Any]]:
    if not isinstance(value, dict | list):
        return []
    places = []
    for key in value if isinstance(value, dict) else range(len(value)):
        if isinstance(value[key], torch.Tensor):
            places.append((value, key))
        places += _tensors(value[key])
    return places


def _tensor(tensor: torch.Tensor, luck: Random) -> Any:
    """A tensor of another type, content or shape, or no tensor."""
    kind = luck.choice((torch.int64, torch.float16, torch.bool, torch.complex64))
    number = luck.choice((torch.nan, torch.inf, 1e38, -1.0))
    return luck.choice((
        tensor.to(kind), torch.full_like(tensor.float(), number), tensor.flatten(), tensor[:0],
        tensor.reshape(-1).repeat(2), tensor.unsqueeze(0), plain(luck),
    ))  # fmt: skip


def safetensors(data: bytes, luck: Random) -> bytes:
    """Changes the header of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8:
        return octets.flip(data, luck)
    header = json.dumps(change(json.loads(data[8 : 8 + size]), luck)).encode()
    return len(header).to_bytes(8, "little") + header + data[8 + size :]
