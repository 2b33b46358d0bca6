"""S(v) of every entity as a file: written in pieces of bounded size, mapped when it is read.

Edges are first laid out by ranges of owners, of about ``PIECE`` edges each, in a temporary file.
Then each range is sorted in memory, and written. The file is a safetensors file, as the other files
of prepared data.

Shapes: E entities, M triples, N entries of S over all entities.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from kgrec.data.knowledge_graph import KnowledgeGraph, distinct_edges, offsets

PIECE = (
    2**22
)  # edges that are sorted at once, with about 0.6 GB; an owner's edges are never divided
HEADER = 512  # bytes
GROUPS = 2**20  # groups of owners, whose edges are counted to find the ranges


def write_neighborhood(graph: KnowledgeGraph, path: Path) -> None:
    """Writes S(v) of every entity of the undirected graph, as :meth:`KnowledgeGraph.neighborhood`.

    Args:
        graph: the graph, whose triples may be mapped from a file.
        path: file to write, whose folder also has temporary files meanwhile.
    """
    E, N = graph.num_entities, 0
    with path.open("wb") as file, TemporaryFile(dir=path.parent) as relations_file:
        for first, last, edges in _ranges(graph, path.parent):
            owners, relations, others = distinct_edges(
                edges[0] - first, edges[1], edges[2], graph.num_relations, E
            )
            ends = N + offsets(torch.bincount(owners, minlength=last - first))
            file.seek(HEADER + 8 * first)
            _append(file, ends)  # its last number is the first of the next range
            file.seek(HEADER + 8 * (E + 1 + N))
            _append(file, others)
            _append(relations_file, relations)
            N += len(others)
        relations_file.seek(0)
        shutil.copyfileobj(relations_file, file, 2**20)
        file.seek(0)
        file.write(_header({"indptr": E + 1, "neighbors": N, "relations": N}))


def _header(lengths: dict[str, int]) -> bytes:
    """The beginning of a safetensors file of int64 vectors, which follow in this order."""
    entries, end = {}, 0
    for name, length in lengths.items():
        begin, end = end, end + 8 * length
        entries[name] = {"dtype": "I64", "shape": [length], "data_offsets": [begin, end]}
    text = json.dumps(entries).encode().ljust(HEADER - 8)
    return (HEADER - 8).to_bytes(8, "little") + text


def _ranges(graph: KnowledgeGraph, folder: Path) -> Iterator[tuple[int, int, Tensor]]:
    """Ranges of owners in ascending order, and their edges.

    Yields:
        First owner, the one after the last, and (3, n) owners, relations and others; an edge may
        come several times.
    """
    E, M = graph.num_entities, len(graph)
    if 2 * M <= PIECE:
        yield 0, E, torch.cat(list(_edges(graph)), dim=1) if M else torch.empty(3, 0).long()
        return
    size = -(-E // GROUPS)  # owners of a group
    counts = torch.zeros(-(-E // size), dtype=torch.int64)
    for edges in _edges(graph):
        counts += torch.bincount(edges[0] // size, minlength=len(counts))
    # A range ends where the edges so far pass a multiple of PIECE.
    number = (counts.cumsum(0) - 1).clamp(min=0) // PIECE
    number = torch.unique_consecutive(number, return_inverse=True)[1]  # range of each group
    lengths = torch.zeros(int(number[-1]) + 1, dtype=torch.int64).index_add(0, number, counts)
    starts, owners = offsets(lengths).tolist(), (offsets(torch.bincount(number)) * size).tolist()
    with TemporaryFile(dir=folder) as file:
        filled = starts[:-1]
        for edges in _edges(graph):
            which = number[edges[0] // size]
            grouped = edges[:, torch.argsort(which.int(), stable=True)]
            parts = torch.bincount(which, minlength=len(lengths)).tolist()
            for n, part in enumerate(torch.split(grouped, parts, dim=1)):
                file.seek(24 * filled[n])
                _append(file, part.T)
                filled[n] += parts[n]
        for n, length in enumerate(lengths.tolist()):
            file.seek(24 * starts[n])
            read = np.fromfile(file, dtype=np.int64, count=3 * length)
            yield owners[n], min(E, owners[n + 1]), torch.from_numpy(read).view(-1, 3).T


def _edges(graph: KnowledgeGraph) -> Iterator[Tensor]:
    """(3, n) owners, relations and others of the edges of some triples, each in both directions."""
    step = max(1, PIECE // 4)
    for first in range(0, len(graph), step):
        part = slice(first, first + step)
        heads, relations, tails = graph.heads[part], graph.relations[part], graph.tails[part]
        forth, back = torch.stack([heads, relations, tails]), torch.stack([tails, relations, heads])
        yield torch.cat([forth, back], dim=1)


def _append(file: BinaryIO, numbers: Tensor) -> None:
    file.write(numbers.contiguous().numpy().data)
