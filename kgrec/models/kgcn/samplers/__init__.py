"""Samplers: which K neighbours of every entity are S(v), the argument ``sampler`` of KGCN.

The KGCN paper draws uniformly, and names non-uniform samplers as its first open question. A
sampler is a name, or a mapping with that name as ``name`` and further keyword arguments, such as
``{name: degree, power: 0.5}``.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from kgrec.errors import SettingError
from kgrec.models.kgcn.samplers.base import Current, Draw, Full, Sampler, Uniform
from kgrec.models.kgcn.samplers.importance import Adaptive, Importance
from kgrec.models.kgcn.samplers.pagerank import PageRank
from kgrec.models.kgcn.samplers.preferring import DegreeAware, RelationBalanced

SAMPLERS: dict[str, type[Sampler]] = {
    "uniform": Uniform,
    "full": Full,
    "relation_balanced": RelationBalanced,
    "degree": DegreeAware,
    "ppr": PageRank,
    "importance": Importance,
    "adaptive": Adaptive,
}

__all__ = ["SAMPLERS", "Current", "Draw", "Full", "Sampler", "checked_sampler", "make_sampler"]


def make_sampler(spec: str | Mapping[str, Any]) -> Sampler:
    """Builds a sampler from its name and arguments.

    Raises:
        SettingError: the sampler does not exist, or an argument cannot work.
    """
    settings = dict(spec) if isinstance(spec, Mapping) else {"name": spec}
    name = settings.pop("name", None)
    if not isinstance(name, str) or name not in SAMPLERS:
        raise SettingError(
            f"sampler: found {spec!r}, expected one of {', '.join(SAMPLERS)}, or a mapping with "
            "one of them as name and its arguments"
        )
    parameters = inspect.signature(SAMPLERS[name]).parameters
    for key in settings:
        if key not in parameters:
            names = ", ".join(parameters) or "no argument"
            raise SettingError(f"sampler.{key}: found an argument of {name}, expected {names}")
    return SAMPLERS[name](**settings)


def checked_sampler(spec: str | Mapping[str, Any], K: int | str, corrects: bool) -> Sampler:
    """The sampler of a model.

    Args:
        spec: name or mapping.
        K: number of neighbours, or "all".
        corrects: whether the model may have a sampler with corrected weights.

    Raises:
        SettingError: the sampler does not exist, or does not go with K or the model.
    """
    sampler = make_sampler(spec)
    if K == "all" and not isinstance(sampler, Full | Uniform):
        raise SettingError(
            f"sampler: found {spec!r} with K=all, expected an integer K, or the sampler full"
        )
    if sampler.corrected and not corrects:
        raise SettingError(
            f"sampler: found {spec!r}, whose weights do not sum to 1, expected a sampler "
            "without corrected weights, such as uniform"
        )
    return sampler
