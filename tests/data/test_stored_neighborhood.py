"""The file of S(v) has what the graph has in memory, however small its pieces are."""

from dataclasses import replace

import pytest
import torch
from conftest import small

from kgrec.data import prepared_files, stored_neighborhood
from kgrec.data.knowledge_graph import KnowledgeGraph, Neighborhood, distinct_edges
from kgrec.data.prepared_files import load_tensors
from kgrec.data.stored_neighborhood import write_neighborhood


def graph(seed: int, triples: int) -> KnowledgeGraph:
    draws, E = torch.Generator().manual_seed(seed), 30 + seed
    heads = torch.randint(0, E, (triples,), generator=draws)
    tails = (E * torch.rand(triples, generator=draws) ** 3).long()  # a few have many neighbours
    return KnowledgeGraph(heads, torch.randint(0, 3, (triples,), generator=draws), tails, E, 3)


@pytest.mark.parametrize(("piece", "groups"), [(1, 4), (16, 2**20), (16, 5), (2**22, 2**20)])
def test_the_file_has_the_neighborhood_of_the_graph(tmp_path, monkeypatch, piece, groups):
    monkeypatch.setattr(stored_neighborhood, "PIECE", piece)
    monkeypatch.setattr(stored_neighborhood, "GROUPS", groups)
    for seed, triples in enumerate((0, 1, 60, 100)):
        triples_of = graph(seed, triples)
        write_neighborhood(triples_of, tmp_path / "file")
        read = Neighborhood(**load_tensors(tmp_path / "file"))
        assert all(map(torch.equal, read, triples_of.neighborhood()))
        assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_prepared_data_have_it(tmp_path):
    data = small()
    expected = data.graph.neighborhood()
    manifest = prepared_files.save(data, tmp_path) | {"name": data.name}
    loaded = prepared_files.load(tmp_path, manifest).graph
    stored = loaded.neighborhood()
    assert stored is loaded.neighborhood()  # read, not computed
    assert all(map(torch.equal, stored, expected))
    empty = replace(loaded, heads=loaded.heads[:0], relations=loaded.heads[:0],
                    tails=loaded.tails[:0])  # fmt: skip
    assert len(empty.neighborhood().neighbors) == 0  # that of its own triples


def test_edges_of_billions_of_entities_do_not_overflow():
    E, R = 4 * 10**9, 60  # E² · R is about 100 times 2^63
    draws = torch.Generator().manual_seed(0)
    numbers = [torch.randint(0, n, (500,), generator=draws) for n in (E, R, E)]
    owners, relations, others = (torch.cat([part, part[:100]]) for part in numbers)
    owners[:50] = owners[50:100] = E - 1
    edges = sorted(set(zip(owners.tolist(), relations.tolist(), others.tolist(), strict=True)))
    found = distinct_edges(owners, relations, others, R, E)
    assert list(zip(*(part.tolist() for part in found), strict=True)) == edges
