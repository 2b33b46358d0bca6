"""Samplers that prefer some neighbours by a fixed weight: by relation, or by degree.

K distinct neighbours are drawn one after the other, each with a probability in proportion to its
weight among those that are left (successive sampling). Exponential keys with the weights as rates
do so for all entities at once; the K smallest are the draws:

    Efraimidis, Spirakis: "Weighted random sampling with a reservoir", Information Processing
    Letters 97(5), 2006.

An entity with at most K neighbours has all of them, each once: there is nothing to prefer. Eq. 2 is
taken over the drawn neighbours, so these samplers change what KGCN reads; they estimate nothing.

Shapes: N neighbours of all entities in the full graph.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kgrec.data.knowledge_graph import Neighborhood
from kgrec.errors import SettingError
from kgrec.models.kgcn.correction import group_of_each, relation_counts
from kgrec.models.kgcn.samplers.base import Current, Draw, Sampler, first_of_each


class Preferring(Sampler):
    """Draws without replacement, in proportion to the weights that a subclass defines."""

    def weights(self, graph: Neighborhood) -> Tensor:
        """(N,) float64 positive weight of each neighbour."""
        raise NotImplementedError

    def draw(
        self,
        graph: Neighborhood,
        K: int,
        generator: torch.Generator,
        current: Current | None = None,
    ) -> Draw:
        """See :class:`Sampler`."""
        weights = self.weights(graph)
        uniform = torch.rand(len(weights), generator=generator, dtype=torch.float64)
        return Draw(first_of_each(graph, K, -torch.log1p(-uniform) / weights))


class RelationBalanced(Preferring):
    """A relation first, all relations of v alike; then a neighbour by it, all alike.

    A film with fifty actors and one director has its director in most draws. It is the balanced
    choice of edge types of heterogeneous graphs:

        Hu, Dong, Wang, Sun: "Heterogeneous Graph Transformer", WWW 2020 (HGSampling keeps a
        similar number of nodes of each type).
    """

    def weights(self, graph: Neighborhood) -> Tensor:
        """(N,) 1 / c[v, r]."""
        return relation_balanced_weights(graph)


class DegreeAware(Preferring):
    """Probability in proportion to a power of the neighbour's degree.

    Args:
        power: 0 is uniform. A negative power prefers neighbours with few edges: an edge to a
            director says more about a film than one to its language, which thousands share, as a
            rare word says more about a text than a frequent one. A positive power prefers hubs,
            whose vectors are trained by more items, as 0.75 in word2vec:

                Mikolov, Sutskever, Chen, Corrado, Dean: "Distributed Representations of Words and
                Phrases and their Compositionality", NeurIPS 2013.

    Raises:
        SettingError: the power is no number from -5 to 5.
    """

    reads_graph = True

    def __init__(self, power: float = -0.5) -> None:
        self.power = checked_power(power)

    def weights(self, graph: Neighborhood) -> Tensor:
        """(N,) degree to the power."""
        return degree_weights(graph, self.power)


def checked_power(power: float) -> float:
    """The power, as a number from -5 to 5."""
    if type(power) not in (int, float) or not -5 <= power <= 5:
        raise SettingError(f"sampler.power: found {power!r}, expected a number from -5 to 5")
    return float(power)


def degree_weights(graph: Neighborhood, power: float) -> Tensor:
    """(N,) float64 degree of each neighbour, to a power."""
    return graph.degrees[graph.neighbors].clamp(min=1).double() ** power


def relation_balanced_weights(graph: Neighborhood) -> Tensor:
    """(N,) float64 1 / c[v, r] of each neighbour."""
    counts, place = relation_counts(graph), group_of_each(graph)
    return counts[place, 2].double().reciprocal()
