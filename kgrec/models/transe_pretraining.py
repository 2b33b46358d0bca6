"""TransE trained by itself, for models that take its vectors as they are.

As Bordes et al. (NIPS 2013, Algorithm 1) have it: a margin, entities of length 1, one corruption a
triple. The steps are Adagrad's, which needs fewer epochs than their plain gradient.

Shapes: E entities, R relations, M triples, d embedding size.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from kgrec.data.batches import TripleBatch
from kgrec.data.cache import kept
from kgrec.data.draws import generator
from kgrec.data.knowledge_graph import KnowledgeGraph
from kgrec.data.prepared_files import TENSORS, load_tensors
from kgrec.data.training_rows import TripleRows
from kgrec.evaluation.link_prediction import link_prediction
from kgrec.models.kge import TransE

log = logging.getLogger(__name__)

LINES = 5  # of progress


class Pretrained(NamedTuple):
    """What training left.

    Attributes:
        entities: (E, d) vectors; 0 for an entity in no triple trained on.
        relations: (R, d) vectors.
        figures: the last epoch's loss, and of the link prediction.
    """

    entities: Tensor
    relations: Tensor
    figures: dict[str, float]


def train_transe(
    graph: KnowledgeGraph,
    d: int = 32,
    epochs: int = 50,
    held_out: float = 0.05,
    seed: int = 0,
    batch_size: int = 1024,
    lr: float = 0.1,
    margin: float = 1.0,
) -> Pretrained:
    """Trains TransE, and predicts links of triples that it was not shown.

    Args:
        graph: the knowledge graph.
        d: embedding size.
        epochs: of all triples that are not held out.
        held_out: share of the triples that are asked for afterwards; 0: train on all of them.
        seed: of every draw.
        batch_size: triples a step.
        lr: Adagrad's η.
        margin: γ.
    """
    order = torch.randperm(len(graph), generator=generator(seed, "held out"))
    size = round(held_out * len(graph))
    asked, shown = _take(graph, order[:size]), _take(graph, order[size:])
    with torch.random.fork_rng(devices=[]):  # the run draws on as if nothing had been drawn here
        torch.default_generator.manual_seed(seed)
        model = TransE(graph.num_entities, graph.num_relations, d)
    for table in (model.entity_embedding, model.relation_embedding):
        table.sparse = True
    figures = {}
    if len(shown):
        figures["loss"] = _fit(model, shown, epochs, seed, batch_size, lr, margin)
    model.requires_grad_(False)
    if len(asked):
        figures |= link_prediction(model.score_tails, model.score_heads, asked, graph)
    seen = torch.zeros(graph.num_entities, 1)
    seen[shown.heads] = seen[shown.tails] = 1
    entities, relations = model.entity_embedding.weight.data, model.relation_embedding.weight.data
    return Pretrained(entities * seen, relations, figures)


def pretrained_transe(
    graph: KnowledgeGraph,
    d: int,
    epochs: int,
    held_out: float,
    seed: int,
    cache: Path | None,
    name: str,
) -> Pretrained:
    """As :func:`train_transe`, taken from the cache if it is there.

    Args:
        graph: the knowledge graph.
        d: embedding size.
        epochs: of training.
        held_out: share of the triples that are asked for afterwards.
        seed: of every draw.
        cache: the folder that prepared data are kept in; None: train.
        name: of the data set, for people.
    """
    digest = hashlib.sha256()
    for column in (graph.heads, graph.relations, graph.tails):
        digest.update(column.contiguous().numpy().tobytes())
    settings = {"d": d, "epochs": epochs, "held_out": held_out, "seed": seed}
    sizes = {
        "entities": graph.num_entities,
        "relations": graph.num_relations,
        "triples": len(graph),
    }
    inputs = {"modules": [__name__], "graph": digest.hexdigest(), "sizes": sizes, **settings}

    def make() -> Pretrained:
        return train_transe(graph, d, epochs, held_out, seed)

    def save(made: Pretrained, folder: Path) -> dict[str, Any]:
        save_file({"entities": made.entities, "relations": made.relations}, folder / TENSORS)
        return {"counts": sizes, "figures": made.figures}

    return kept(cache, f"{name}-transe", inputs, make, save, _load)


def _fit(
    model: TransE,
    graph: KnowledgeGraph,
    epochs: int,
    seed: int,
    batch_size: int,
    lr: float,
    margin: float,
) -> float:
    """The last epoch's mean loss."""
    begin, mean = time.perf_counter(), 0.0
    optimizer = torch.optim.Adagrad(model.parameters(), lr=lr)
    rows = TripleRows(graph, len(graph), seed)
    for epoch in range(epochs):
        total = torch.zeros(())
        columns = (torch.split(column, batch_size) for column in rows.draw(epoch))
        for batch in map(TripleBatch, *columns):
            optimizer.zero_grad()
            loss = model.loss(batch, margin)
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.sparse.check_sparse_tensor_invariants(False):  # type: ignore[no-untyped-call]
                optimizer.step()
            touched = (batch.heads, batch.tails, batch.corrupted_heads, batch.corrupted_tails)
            model.normalize(torch.cat(touched))
            total += loss.detach() * len(batch.heads)
        mean = float(total) / len(graph)
        if (epoch + 1) * LINES // epochs > epoch * LINES // epochs:
            seconds = time.perf_counter() - begin
            log.info("TransE: epoch %d of %d, loss %.4f, %.0f s", epoch + 1, epochs, mean, seconds)
    return mean


def _load(folder: Path, manifest: Mapping[str, Any]) -> Pretrained:
    tensors = load_tensors(folder / TENSORS)
    return Pretrained(tensors["entities"], tensors["relations"], dict(manifest["figures"]))


def _take(graph: KnowledgeGraph, index: Tensor) -> KnowledgeGraph:
    heads, relations, tails = (x[index] for x in (graph.heads, graph.relations, graph.tails))
    return replace(graph, heads=heads, relations=relations, tails=tails)
