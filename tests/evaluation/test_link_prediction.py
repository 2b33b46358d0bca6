import pytest
import torch

from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.errors import KgrecError
from kgrec.evaluation.link_prediction import filtered_ranks, link_prediction


def graph(triples: list[tuple[int, int, int]], num_entities: int = 9) -> KnowledgeGraph:
    heads, relations, tails = torch.tensor(triples).reshape(-1, 3).T
    return KnowledgeGraph(heads, relations, tails, num_entities, 2)


def literal(scores: torch.Tensor, known: list, h: int, r: int, t: int) -> float:
    """The rank of one tail, entity by entity."""
    others = [e for e in range(scores.shape[-1]) if e != t and (h, r, e) not in known]
    above = sum(bool(scores[h, r, e] > scores[h, r, t]) for e in others)
    beside = sum(bool(scores[h, r, e] == scores[h, r, t]) for e in others)
    return 1 + above + beside / 2


@pytest.mark.parametrize("memory_budget", [1.0, 2**26])
def test_ranks_are_those_of_a_loop(memory_budget):
    draw = torch.Generator().manual_seed(0)
    found = torch.randint(9, (60, 3), generator=draw) % torch.tensor([9, 2, 9])
    known = sorted({(h, r, t) for h, r, t in found.tolist()})
    asked = known[::3]
    tails = torch.randint(6, (9, 2, 9), generator=draw).double()  # with many ties
    heads = torch.randint(6, (9, 2, 9), generator=draw).double()
    found = filtered_ranks(lambda h, r: tails[h, r], graph(asked), graph(known), memory_budget)
    expected = [literal(tails, known, *triple) for triple in asked]
    assert found.tolist() == expected
    turned = [(t, r, h) for h, r, t in known]
    expected += [literal(heads, turned, t, r, h) for h, r, t in asked]
    ways = (lambda h, r: tails[h, r], lambda t, r: heads[t, r])
    figures = link_prediction(*ways, graph(asked), graph(known), memory_budget)
    n = len(expected)
    assert figures == pytest.approx({
        "mean_rank": sum(expected) / n,
        "mrr": sum(1 / rank for rank in expected) / n,
        **{f"hits@{k}": sum(rank <= k for rank in expected) / n for k in (1, 3, 10)},
    })  # fmt: skip


def test_true_answers_do_not_lower_each_others_rank():
    scores = torch.arange(9.0).expand(9, 2, 9)
    known = graph([(0, 0, 3), (0, 0, 8), (0, 1, 7)])
    ranks = filtered_ranks(lambda h, r: scores[h, r].clone(), known, known)
    assert ranks.tolist() == [5, 1, 2]  # of 3: below 4 to 7, as 8 is true too


@pytest.mark.parametrize("broken", ["all", "the answer", "another"])
def test_scores_that_are_nan_are_an_error(broken):
    scores = torch.arange(9.0).repeat(1, 1)
    scores[:, {"all": slice(None), "the answer": 3, "another": 5}[broken]] = torch.nan
    known = graph([(0, 0, 3)])
    score_all = (lambda h, r: scores.clone(),) * 2
    with pytest.raises(KgrecError, match="scores that are NaN, expected numbers"):
        link_prediction(*score_all, known, known)


def test_no_triples_give_no_ranks():
    known = graph([(0, 0, 3)])
    assert filtered_ranks(lambda h, r: h[:, None], graph([]), known).tolist() == []
