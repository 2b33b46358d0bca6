"""An item's receptive field with one user's weights, as a tree with names.

It is Figure 1a of the KGCN paper (Wang et al., WWW 2019) for a real user: the neighbours that weigh
most, and the neighbours of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kgrec.inference.naming import Namer
from kgrec.models.reasons import Step, Term

MOST_NEIGHBORS = 12  # neighbours of the item
MOST_FURTHER = 3  # neighbours of every other entity


@dataclass(frozen=True)
class FieldNode:
    """An entity of the tree, and the edge to it.

    Attributes:
        entity: raw id: of the item, if the entity is one.
        name: readable name, or the id if there is none.
        item: whether the entity is an item.
        liked: whether the user liked the entity, or items that share it.
        relation: raw id of the relation of the edge; None for the root.
        relation_name: relation in words; None for the root.
        weight: attention of the edge among the edges of its entity; 1 for the root.
        children: nodes one hop further, the largest weight first.
    """

    entity: str
    name: str
    item: bool
    liked: bool
    relation: str | None
    relation_name: str | None
    weight: float
    children: tuple[FieldNode, ...]

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values for JSON."""
        return asdict(self) | {"children": [child.to_dict() for child in self.children]}


def field_tree(namer: Namer, item: int, terms: Sequence[Term]) -> FieldNode:
    """The item with its paths of the largest weights; paths back to the item say little.

    Args:
        namer: names terms.
        item: number of the item.
        terms: paths from the item.
    """
    by_path = {term.steps: term for term in terms}
    children: dict[tuple[Step, ...], list[Term]] = {}
    for term in sorted(terms, key=lambda t: -t.weight):
        if term.steps[-1].entity != item:
            children.setdefault(term.steps[:-1], []).append(term)

    def node(term: Term) -> FieldNode:
        named = namer.named(term, item)
        step, above = named.steps[-1], by_path.get(term.steps[:-1])
        alone = len(term.steps) == 1
        return FieldNode(
            entity=step.item or step.entity.id,
            name=step.entity.text,
            item=step.item is not None,
            liked=bool(named.history) if alone else step.item in {n.id for n in named.history},
            relation=step.relation,
            relation_name=step.reads,
            weight=term.weight / above.weight if above and above.weight > 0 else term.weight,
            children=tuple(node(t) for t in children.get(term.steps, [])[:MOST_FURTHER]),
        )

    root = namer.item(item)
    nodes = tuple(node(t) for t in children.get((), [])[:MOST_NEIGHBORS])
    return FieldNode(root.id, root.text, True, False, None, None, 1.0, nodes)
