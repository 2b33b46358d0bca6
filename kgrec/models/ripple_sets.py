"""Ripple sets: the triples that a user's history reaches, hop by hop.

Wang et al., "RippleNet", CIKM 2018, Definitions 1 and 2: with V_u the items that user u has
engaged with,

    E_u⁰ = V_u,    E_uᵏ = {t : (h, r, t) in G, h in E_uᵏ⁻¹}
    S_uᵏ = {(h, r, t) in G : h in E_uᵏ⁻¹}

Shapes: U users, E entities, T triples, H hops, M triples kept of every ripple set.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kgrec.data.interactions import Interactions
from kgrec.data.knowledge_graph import draw_from_each

# Triples of a block of users.
BLOCK = 2**22


class Triples(NamedTuple):
    """Triples grouped by head.

    Attributes:
        order: (T,) int64, triples sorted by head.
        counts: (E,) int64, number of triples that start at each entity.
        starts: (E,) int64, position in ``order`` of each entity's first triple.
        tails: (T,) int64.
    """

    order: Tensor
    counts: Tensor
    starts: Tensor
    tails: Tensor

    @classmethod
    def of(cls, heads: Tensor, tails: Tensor, num_entities: int) -> Triples:
        """Groups triples, given by heads (T,) and tails (T,)."""
        counts = torch.bincount(heads, minlength=num_entities)
        return cls(torch.argsort(heads, stable=True), counts, counts.cumsum(0) - counts, tails)


def ripple_sets(
    history: Interactions,
    triples: Triples,
    H: int,
    M: int,
    generator: torch.Generator,
) -> Tensor:
    """Draws M triples of each ripple set, without replacement if it has at least M.

    As in the authors' code, a hop starts from the triples drawn for the previous hop (a tail drawn
    twice counts twice), and a hop that reaches no triple repeats the previous one.

    Args:
        history: training positives.
        triples: triples of the graph.
        H: number of hops.
        M: triples drawn for each ripple set.
        generator: CPU generator.

    Returns:
        (U, H, M) int32 indices of triples; -1 for a user from whose items no triple starts.
    """
    order, counts, starts, tails = triples
    ripples = torch.full((history.num_users, H, M), -1, dtype=torch.int32)
    users, entities = history.users, history.items
    for hop in range(H):
        size = torch.bincount(users, counts[entities], history.num_users)  # of each ripple set
        block = torch.div(size.cumsum(0) - size, BLOCK, rounding_mode="floor").long()[users]
        if hop:
            ripples[:, hop] = ripples[:, hop - 1]
        for part in torch.split(
            torch.arange(len(users)),
            torch.unique_consecutive(block, return_counts=True)[1].tolist(),
        ):
            owners, reached = _candidates(users[part], entities[part], counts, starts)
            has, sizes = torch.unique_consecutive(owners, return_counts=True)
            indptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
            drawn = draw_from_each(indptr, M, generator).sort().values  # grouped by user
            ripples[has, hop] = order[reached[drawn]].int().view(-1, M)
        users, entities = _ends(ripples[:, hop], tails)
    return ripples


def _candidates(
    users: Tensor, entities: Tensor, counts: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Triples that start at the entities of each user: (n,) users and (n,) indices by head."""
    degrees = counts[entities]
    owners = users.repeat_interleave(degrees)
    rank = torch.arange(len(owners)) - (degrees.cumsum(0) - degrees).repeat_interleave(degrees)
    return owners, starts[entities].repeat_interleave(degrees) + rank


def _ends(triples: Tensor, tails: Tensor) -> tuple[Tensor, Tensor]:
    """Tails of the triples (U, M) of one hop: (n,) users and (n,) entities."""
    users, _ = torch.nonzero(triples >= 0, as_tuple=True)
    return users, tails[triples[triples >= 0].long()]
