"""TransE trained before a model that uses its vectors without training them further.

As in Bordes et al. (NIPS 2013, Algorithm 1): a margin, entities of length 1, one corruption per
triple. The optimiser is Adagrad, which needs fewer epochs than their plain gradient descent.

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

PROGRESS_LINES = 5


class Pretrained(NamedTuple):
    """Vectors and metrics of a trained TransE.

    Attributes:
        entities: (E, d) vectors; 0 for an entity without a training triple.
        relations: (R, d) vectors.
        metrics: the last epoch's loss, and metrics of link prediction.
    """

    entities: Tensor
    relations: Tensor
    metrics: dict[str, float]


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
    """Trains TransE, and predicts the links of held-out triples.

    Args:
        graph: the knowledge graph.
        d: embedding size.
        epochs: epochs over all triples that are not held out.
        held_out: share of the triples held out for link prediction; 0: train on all triples.
        seed: seed of every draw.
        batch_size: triples per step.
        lr: Adagrad's η.
        margin: γ.
    """
    order = torch.randperm(len(graph), generator=generator(seed, "held out"))
    size = round(held_out * len(graph))
    held, training = _take(graph, order[:size]), _take(graph, order[size:])
    with torch.random.fork_rng(devices=[]):  # the run's own draws stay the same
        torch.default_generator.manual_seed(seed)
        model = TransE(graph.num_entities, graph.num_relations, d)
    for table in (model.entity_embedding, model.relation_embedding):
        table.sparse = True
    metrics = {}
    if len(training):
        metrics["loss"] = _fit(model, training, epochs, seed, batch_size, lr, margin)
    model.requires_grad_(False)
    if len(held):
        metrics |= link_prediction(model.score_tails, model.score_heads, held, graph)
    in_training = torch.zeros(graph.num_entities, 1)
    in_training[training.heads] = in_training[training.tails] = 1
    entities, relations = model.entity_embedding.weight.data, model.relation_embedding.weight.data
    return Pretrained(entities * in_training, relations, metrics)


def pretrained_transe(
    graph: KnowledgeGraph,
    d: int,
    epochs: int,
    held_out: float,
    seed: int,
    cache: Path | None,
    name: str,
) -> Pretrained:
    """As :func:`train_transe`; reads the result from the cache if it is there.

    Args:
        graph: the knowledge graph.
        d: embedding size.
        epochs: epochs of training.
        held_out: share of the triples held out for link prediction.
        seed: seed of every draw.
        cache: folder for prepared data; None: train.
        name: name of the data set, part of the folder's name.
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

    def train() -> Pretrained:
        return train_transe(graph, d, epochs, held_out, seed)

    def save(pretrained: Pretrained, folder: Path) -> dict[str, Any]:
        vectors = {"entities": pretrained.entities, "relations": pretrained.relations}
        save_file(vectors, folder / TENSORS)
        return {"counts": sizes, "metrics": pretrained.metrics}

    return kept(cache, f"{name}-transe", inputs, train, save, _load)


def _fit(
    model: TransE,
    graph: KnowledgeGraph,
    epochs: int,
    seed: int,
    batch_size: int,
    lr: float,
    margin: float,
) -> float:
    """Trains on a graph and returns the mean loss of the last epoch."""
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
        if (epoch + 1) * PROGRESS_LINES // epochs > epoch * PROGRESS_LINES // epochs:
            seconds = time.perf_counter() - begin
            log.info("TransE: epoch %d of %d, loss %.4f, %.0f s", epoch + 1, epochs, mean, seconds)
    return mean


def _load(folder: Path, manifest: Mapping[str, Any]) -> Pretrained:
    tensors = load_tensors(folder / TENSORS)
    return Pretrained(tensors["entities"], tensors["relations"], dict(manifest["metrics"]))


def _take(graph: KnowledgeGraph, index: Tensor) -> KnowledgeGraph:
    heads, relations, tails = (x[index] for x in (graph.heads, graph.relations, graph.tails))
    return replace(graph, heads=heads, relations=relations, tails=tails)
