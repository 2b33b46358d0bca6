"""Files of prepared data, mapped into memory when they are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from kgrec.data.account import Account, Entry
from kgrec.data.dataset import IdMaps, PreparedData
from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood
from kgrec.data.spill import release
from kgrec.data.stored_neighborhood import write_neighborhood

TENSORS = "tensors.safetensors"
NEIGHBORHOOD, USER_NEIGHBORHOOD = "neighborhood.safetensors", "user_neighborhood.safetensors"

_PIECE = 1 << 21  # numbers that are written at once

# Types of tensors, in the order in which they lie in a file, with their names in its header.
_KINDS = {torch.int64: "I64", torch.float64: "F64"}


def _tensors(data: PreparedData) -> dict[str, Tensor]:
    tensors = {
        "positives.users": data.positives.users,
        "positives.items": data.positives.items,
        "rated.users": data.rated.users,
        "rated.items": data.rated.items,
        "graph.heads": data.graph.heads,
        "graph.relations": data.graph.relations,
        "graph.tails": data.graph.tails,
    }
    if data.rated is data.positives:
        del tensors["rated.users"], tensors["rated.items"]
    if data.times is not None:
        tensors["times"] = data.times
    if data.given_parts is not None:
        tensors["given_parts"] = data.given_parts
    if data.weights is not None:
        tensors["weights"] = data.weights
    if data.user_graph is not None:
        for part in ("heads", "relations", "tails"):
            tensors[f"user_graph.{part}"] = getattr(data.user_graph, part)
    if data.given_negatives is not None:
        tensors["negatives.users"], tensors["negatives.items"] = data.given_negatives
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def save(data: PreparedData, folder: Path) -> dict[str, Any]:
    """Writes the files into a folder; returns sizes and account for its manifest."""
    _write(_tensors(data), folder / TENSORS)
    write_neighborhood(data.graph, folder / NEIGHBORHOOD)
    if data.user_graph is not None:
        write_neighborhood(data.user_graph, folder / USER_NEIGHBORHOOD)
    data.ids.save(folder)
    return {"counts": data.counts(), "account": [asdict(entry) for entry in data.account.entries]}


def _write(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a file as ``safetensors.torch.save_file`` does, with a piece in memory at a time.

    Args:
        tensors: tensors of the types in :data:`_KINDS`, each contiguous.
        path: the file.
    """
    order = sorted(tensors, key=lambda name: ([*_KINDS].index(tensors[name].dtype), name))
    header, end = {}, 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _KINDS[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for piece in torch.split(tensors[name], _PIECE):
                file.write(piece.numpy().data)
                release(tensors[name])


def load(folder: Path, manifest: Mapping[str, Any]) -> PreparedData:
    """Reads what :func:`save` wrote."""
    tensors = load_tensors(folder / TENSORS)
    counts = manifest["counts"]
    account = Account([Entry(**line) for line in manifest["account"]])

    def interactions(name: str) -> Interactions:
        return Interactions(
            tensors[f"{name}.users"], tensors[f"{name}.items"], counts["users"], counts["items"]
        )

    positives = interactions("positives")
    negatives = None
    if "negatives.users" in tensors:
        negatives = (tensors["negatives.users"], tensors["negatives.items"])
    user_graph = None
    if "user_graph.heads" in tensors:
        user_graph = KnowledgeGraph(
            tensors["user_graph.heads"],
            tensors["user_graph.relations"],
            tensors["user_graph.tails"],
            counts["user entities"],
            counts["user relations"],
        ).with_stored(Neighborhood(**load_tensors(folder / USER_NEIGHBORHOOD)))
    return PreparedData(
        name=manifest["name"],
        user_graph=user_graph,
        positives=positives,
        times=tensors.get("times"),
        given_parts=tensors.get("given_parts"),
        weights=tensors.get("weights"),
        rated=interactions("rated") if "rated.users" in tensors else positives,
        given_negatives=negatives,
        graph=KnowledgeGraph(
            tensors["graph.heads"],
            tensors["graph.relations"],
            tensors["graph.tails"],
            counts["entities"],
            counts["relations"],
        ).with_stored(Neighborhood(**load_tensors(folder / NEIGHBORHOOD))),
        ids=IdMaps.load(folder, trusted=True),  # the cache is kgrec's own
        account=account,
    )


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors that are views of the mapped file: its pages are read when they are used."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
