"""Learning gates: planted truth must be found, not merely something fitted."""

import pytest
import torch

from kgrec.data.datamodule import KGDataModule
from kgrec.data.protocols import clean
from kgrec.data.splits import RandomSplit
from kgrec.data.synthetic.small import generate
from kgrec.evaluation.ctr import auc
from kgrec.models.controls import Popularity
from kgrec.models.kgcn.model import KGCN


def ranks(values: torch.Tensor) -> torch.Tensor:
    found = values.argsort(dim=-1).argsort(dim=-1).double()
    return found - found.mean(dim=-1, keepdim=True)


def spearman(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = ranks(a), ranks(b)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def trained(dataset, aggregator: str, epochs: int = 25) -> KGCN:
    torch.manual_seed(0)
    model = KGCN.from_dataset(dataset, K="all", d=16, aggregator=aggregator)
    batches = KGDataModule(dataset, batch_size=256, eval_batch_size=4096).train_batches
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-5)
    for epoch in range(epochs):
        batches.epoch = lambda epoch=epoch: epoch
        for [((batch,), _)] in batches:
            optimizer.zero_grad()
            model.loss(batch).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def planted():
    torch.set_num_threads(1)
    data = generate(seed=0)
    return data, clean(data, RandomSplit())


def test_attention_beats_averaging_and_popularity_and_follows_the_planted_tastes(planted):
    data, dataset = planted
    rows = dataset.test
    figures = {}
    for name in ("sum", "avg"):
        model = trained(dataset, name)
        with torch.no_grad():
            figures[name] = auc(model.score(rows.users, rows.items), rows.labels)
            if name == "sum":
                learned = model.user_relation_scores(model.user_embedding.weight)
    popularity = Popularity.from_dataset(dataset)
    popularity.precompute(dataset)
    figures["popularity"] = auc(popularity.score(rows.users, rows.items), rows.labels)
    assert figures["sum"] > figures["avg"] + 0.03
    assert figures["avg"] > figures["popularity"] + 0.03
    assert spearman(learned, data.user_relation).mean() >= 0.6
