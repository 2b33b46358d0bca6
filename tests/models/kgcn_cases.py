"""A small graph and KGCNs on it, with the literal algorithm to compare them with."""

import torch
from reference_kgcn import score as literal_score

from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.models.kgcn import KGCN

AGGREGATORS = ["sum", "concat", "neighbor", "avg"]
USERS, ITEMS, ENTITIES, RELATIONS, D = 3, 4, 7, 3, 3

# Entity 3 (an item) and entity 6 have no neighbours; entity 5 is a self-loop.
GRAPH = KnowledgeGraph(
    heads=torch.tensor([0, 0, 1, 2, 2, 5, 0]),
    relations=torch.tensor([0, 1, 2, 0, 1, 2, 2]),
    tails=torch.tensor([4, 5, 4, 4, 5, 5, 1]),
    num_entities=ENTITIES,
    num_relations=RELATIONS,
)


def make(aggregator: str, H: int, K: int | str, scaling: str, spread: float = 1.0) -> KGCN:
    """A KGCN in float64 whose parameters are all of a size that matters."""
    torch.manual_seed(0)
    around = GRAPH.neighborhood()
    if isinstance(K, int):
        around = around.sample(K, generator(0, "test"))
    model = KGCN(
        USERS, ITEMS, RELATIONS, *around, d=D, H=H, aggregator=aggregator, scaling=scaling
    ).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.2, 0.7)
        if spread > 1:  # user-relation scores of ±spread
            u = model.user_embedding.weight
            u.copy_(torch.nn.functional.normalize(u))
            model.relation_embedding.copy_(spread * torch.stack([u[0], -u[0], u[1]]))
    return model


def literal(model: KGCN, users: list[int], items: list[int]) -> torch.Tensor:
    """Scores by the literal algorithm, from the model's own parameters, one scalar each."""
    ends = model.indptr.tolist()
    edges = list(zip(model.relations.tolist(), model.neighbors.tolist(), strict=True))
    return torch.stack(
        [
            literal_score(
                list(model.user_embedding.weight[user]),
                item,
                [list(row) for row in model.entity_embedding.weight],
                [list(row) for row in model.relation_embedding],
                {v: edges[ends[v] : ends[v + 1]] for v in range(ENTITIES)},
                [
                    ([list(row) for row in a.linear.weight], list(a.linear.bias))
                    for a in model.aggregators
                ],
                "avg" if not model.aggregators[0].attention else NAMES[type(model.aggregators[0])],
                model.scaling,
            )
            for user, item in zip(users, items, strict=True)
        ]
    )


NAMES = {
    type(make(name, 1, 1, "paper").aggregators[0]): name for name in ("sum", "concat", "neighbor")
}
PAIRS = ([0, 1, 2, 0, 1], [0, 1, 2, 3, 0])
