"""S(v) in the state dict of a KGCN: as one process has it, or in tables that processes share.

A checkpoint of processes that share tables has the tables of :mod:`kgrec.models.kgcn.shards` where
one process has ``indptr``, ``neighbors`` and ``relations``. Each can resume from the other.

Shapes: E entities, N entries of S over all entities.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood, offsets
from kgrec.errors import CheckpointError

ABSENT = -1  # the relation of an entity that has no neighbours
# Name of a table in a state dict: of the drawn neighbours, or of all, as ends and edges.
TABLE = re.compile(r"(?P<model>(?:.*\.)?)shards\.(?P<part>neighbors|ends|edges)")


def whole_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a model of one process.

    Args:
        state: state dict, in which S(v) may be in the tables that processes share; it may come
            from a stranger.

    Raises:
        CheckpointError: the tables do not fit together.
    """
    state = dict(state)
    for name in list(state):
        if (match := TABLE.fullmatch(name)) is None or match["part"] == "edges":
            continue
        model, table = match["model"], state.pop(name)
        try:
            edges = None
            if match["part"] == "ends":
                edges = state.pop(f"{model}shards.edges")
            graph = neighborhood_of(table) if edges is None else _neighborhood_of(table, edges)
        except Exception as error:  # of many kinds, for an odd shape
            raise CheckpointError(
                f"{name}: found no table of neighbours ({type(error).__name__}), expected that of "
                "a run with trainer=sharded"
            ) from None
        state |= {f"{model}{field}": numbers for field, numbers in graph._asdict().items()}
    return state


def shared_state(state: Mapping[str, Tensor], tables: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a model of several processes, with whole tables.

    Args:
        state: state dict of a model of one process.
        tables: tables that the other model has and the state lacks, by name.
    """
    state = dict(state)
    for name, table in tables.items():
        if (match := TABLE.fullmatch(name)) is None or match["part"] == "edges":
            continue
        model = match["model"]
        graph = Neighborhood(*(state.pop(f"{model}{field}") for field in Neighborhood._fields))
        if match["part"] == "neighbors":
            state[name] = _samples(graph, table.shape[1] // 2)
        else:
            state[name] = torch.stack([graph.indptr[:-1], graph.indptr[1:]], dim=1)
            edges = torch.stack([graph.neighbors, graph.relations], dim=1)
            state[f"{model}shards.edges"] = edges if len(edges) else edges.new_zeros(1, 2)
    return state


def neighborhood_of(samples: Tensor) -> Neighborhood:
    """S(v) from rows (E, 2·K) of K drawn neighbours and their relations."""
    K = samples.shape[1] // 2
    connected = samples[:, K] != ABSENT
    neighbors, relations = torch.split(samples[connected].long(), K, dim=1)
    return Neighborhood(offsets(connected.long() * K), neighbors.flatten(), relations.flatten())


def _neighborhood_of(ends: Tensor, edges: Tensor) -> Neighborhood:
    """S(v) from the first and last edge (E, 2) of each entity, and the edges (N or more, 2)."""
    ends = ends[:, 1].long()
    neighbors, relations = edges[: int(ends[-1])].long().unbind(1)
    indptr = torch.cat([ends.new_zeros(1), ends])
    return Neighborhood(indptr, neighbors.contiguous(), relations.contiguous())


def _samples(graph: Neighborhood, K: int) -> Tensor:
    """The inverse of :func:`neighborhood_of`; an entity without neighbours reads itself."""
    connected = graph.degrees > 0
    own = torch.arange(len(connected))[:, None].repeat(1, K)
    samples = torch.cat([own, torch.full_like(own, ABSENT)], dim=1)
    samples[connected] = torch.cat([graph.neighbors.view(-1, K), graph.relations.view(-1, K)], 1)
    return samples
